//! `config show|path`: the settings in force, and where they are changed.

use std::process::ExitCode;

use crate::cli::ConfigVerb;
use crate::config::{DEFAULT, Settings};
use crate::places::Places;
use crate::report::{self, Failure, Outcome};

/// Runs the verb.
///
/// # Errors
/// If the user's file is wrong.
pub(crate) fn run(places: &Places, verb: &ConfigVerb) -> Outcome {
    let path = places.config_file();
    match verb {
        ConfigVerb::Path => report::result(&format!("{}\n", path.display()))?,
        ConfigVerb::Show => {
            let own = if path.exists() { "changed by" } else { "not changed; write your own into" };
            let settings = Settings::merged(places)?;
            let text = toml::to_string(&settings).map_err(|error| Failure::bug(&error))?;
            report::result(&format!("# In force, {own} {}\n{text}", path.display()))?;
            report::notice("the defaults, with a comment on each:");
            report::notice_block(DEFAULT);
        }
    }
    Ok(ExitCode::SUCCESS)
}
