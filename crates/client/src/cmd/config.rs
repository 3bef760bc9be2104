//! `config show|path`: the settings in force, where each comes from, and where they are changed.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::cli::ConfigVerb;
use crate::config::{DEFAULT, Settings};
use crate::places::{Places, prepare};
use crate::report::{self, Outcome};

/// The one setting that a variable may say.
const DETACH_KEY_VARIABLE: &str = "SHELLKEEP_DETACH_KEY";

/// Runs the verb.
///
/// # Errors
/// If the user's file is wrong.
pub(crate) fn run(places: &Places, verb: &ConfigVerb) -> Outcome {
    let path = places.config_file();
    match verb {
        ConfigVerb::Path => {
            // Whoever asks is about to write there.
            if let Some(Err(failure)) = path.parent().map(prepare) {
                report::notice(failure);
            }
            report::result(&(report::printable(&path.display().to_string()) + "\n"))?;
        }
        ConfigVerb::Show { defaults: true } => report::result(DEFAULT)?,
        ConfigVerb::Show { defaults: false } => {
            Settings::load(places)?; // values that cannot be are an error here too
            let own = Settings::own(places)?;
            report::result(&annotated(&Settings::merged(places)?, &own, &path.display().to_string()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The shipped text with the values in force, each with its origin. Is a settings file itself.
fn annotated(in_force: &toml::Table, own: &toml::Table, path: &str) -> String {
    let (mut shown, mut section) = (String::new(), "");
    for line in DEFAULT.lines() {
        let name = line.trim_start_matches('[').trim_end_matches(']');
        section = if line.starts_with('[') { name } else { section };
        let key = line.split_once(" = ").map(|(key, _)| key).filter(|_| !line.starts_with('#'));
        let value = key.and_then(|key| in_force.get(section)?.get(key));
        let (Some(key), Some(value)) = (key, value) else {
            shown.push_str(line);
            shown.push('\n');
            continue;
        };
        let is_own = own.get(section).is_some_and(|values| values.get(key).is_some());
        let said = std::env::var(DETACH_KEY_VARIABLE).ok().filter(|_| key == "detach_key");
        let (value, origin) = match said {
            Some(keys) => (toml::Value::String(keys), DETACH_KEY_VARIABLE),
            None => (value.clone(), if is_own { path } else { "default" }),
        };
        let _infallible = writeln!(shown, "{key} = {value}  # {origin}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_a_settings_file_that_names_the_origin_of_each_value() {
        let own: toml::Table = toml::from_str("[daemon]\nage_days_max = 7\n").unwrap();
        let mut in_force: toml::Table = toml::from_str(DEFAULT).unwrap();
        in_force["daemon"]["age_days_max"] = toml::Value::Integer(7);
        let shown = annotated(&in_force, &own, "/home/u/config.toml");
        assert_eq!(toml::from_str::<toml::Table>(&shown).unwrap(), in_force);
        assert!(shown.contains("age_days_max = 7  # /home/u/config.toml\n"), "{shown}");
        assert!(shown.contains("spool_bytes_max = \"1 GiB\"  # default\n"), "{shown}");
    }
}
