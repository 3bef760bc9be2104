//! The user's settings: flag over environment over file over default. Defaults are written once, in `default.toml`.
//!
//! Promise: an unknown key or a bad value is one error that names the file, the place and what was meant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use shellkeep_daemon::Retention;
use shellkeep_daemon::index::secrets::{PatternError, Secrets};
use shellkeep_daemon::registry::Preferences;

use crate::places::Places;
use crate::report::Failure;
use crate::shell_integration::PaletteKey;

/// The shipped defaults, with a comment on each.
pub const DEFAULT: &str = include_str!("default.toml");

/// Largest settings file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// All settings, as parsed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The keeper's part.
    pub keeper: KeeperSettings,
    /// The terminal's part.
    pub terminal: TerminalSettings,
    /// The daemon's part.
    pub daemon: DaemonSettings,
    /// What is left out of index and exports.
    pub privacy: PrivacySettings,
    /// What the names of commands mean.
    pub commands: CommandsSettings,
    /// The palette's part.
    pub palette: PaletteSettings,
    /// Where packages come from.
    pub packages: PackagesSettings,
}

/// What keepers read at the start of a session.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperSettings {
    /// Bytes of spool on disk.
    pub spool_bytes_max: Size,
    /// `gap` or `block`.
    pub when_full: WhenFull,
    /// Whether shells are made to mark their commands.
    pub marks: bool,
}

/// What happens to output when the spool is full and no daemon takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// The oldest records are lost, as a gap that every reader shows.
    Gap,
    /// The session waits.
    Block,
}

/// What terminals read when they attach.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSettings {
    /// The keys that detach, like `ctrl-space d`, or `none`.
    pub detach_key: String,
}

/// What the daemon reads at its start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DaemonSettings {
    /// Bytes of log per session.
    pub session_bytes_max: Size,
    /// Bytes of log for all sessions.
    pub total_bytes_max: Size,
    /// Days after its end at which a session is removed.
    pub age_days_max: u32,
}

/// What the daemon and exports read: the record itself stays as it was printed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacySettings {
    /// Whether anything is left out.
    pub redact: bool,
    /// The user's own shapes of secrets, beside the shipped ones.
    pub patterns: Vec<Pattern>,
}

/// What the daemon reads at its start of the user's wishes about commands. No project has a say in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandsSettings {
    /// Whether a trusted project's commands go before the user's own.
    pub project_first: bool,
    /// Name → name with its owner, where several have the name.
    pub prefer: BTreeMap<String, String>,
    /// Whether a trusted command runs when its bare name is typed and the shell finds no program of that name.
    pub run_not_found: bool,
}

/// What keepers read at the start of a session: the shell binds the key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaletteSettings {
    /// The key that opens the palette at a prompt.
    pub key: PaletteKey,
}

/// What `shellkeep pkg` reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagesSettings {
    /// The index: a directory, or an address; empty if there is none.
    pub index: String,
}

/// A regular expression that can be had.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(pub String);

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Secrets::check(&text)?;
        Ok(Self(text))
    }
}

/// A number of bytes, written like `256 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is no size; write it like \"256 MiB\"");
        let (number, unit) = text.split_once(' ').ok_or_else(bad)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

impl Settings {
    /// The defaults, with what the user's file says instead.
    ///
    /// # Errors
    /// What is wrong with the file: path, line, why, and what may have been meant.
    pub fn load(places: &Places) -> Result<Self, Failure> {
        let table = Self::merged(places)?;
        let settings: Self = table.try_into().map_err(|error: toml::de::Error| wrong(places, &named(&error)))?;
        Secrets::check_count(settings.privacy.patterns.len())
            .map_err(|error| wrong(places, &format_args!("privacy.patterns: {error}")))?;
        Ok(settings)
    }

    /// All keys with the values in force.
    ///
    /// # Errors
    /// As [`Self::load`], for keys.
    pub fn merged(places: &Places) -> Result<toml::Table, Failure> {
        merge(&Self::own(places)?).map_err(|(why, hint)| Failure { hint, ..wrong(places, &why) })
    }

    /// What the user's file says; nothing if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is no TOML.
    pub fn own(places: &Places) -> Result<toml::Table, Failure> {
        let path = places.config_file();
        let text = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(wrong(places, &error)),
            Ok(found) if found.len() > FILE_BYTES_MAX => return Err(wrong(places, &"larger than 1 MiB")),
            Ok(_) => std::fs::read_to_string(&path).map_err(|error| wrong(places, &error))?,
        };
        toml::from_str(&text).map_err(|error| wrong(places, &on_one_line(&text, &error)))
    }

    /// The settings for starting or attaching: with a bad file the defaults and one notice, because no shell may fail
    /// to start for it.
    pub fn load_or_default(places: &Places) -> Option<Self> {
        match Self::load(places) {
            Ok(settings) => Some(settings),
            Err(failure) => {
                crate::report::notice(format_args!("the defaults are used: {}", failure.message));
                let table: toml::Table = toml::from_str(DEFAULT).ok()?;
                table.try_into().ok()
            }
        }
    }

    /// The secrets that are left out of index and exports. Compiles them: some milliseconds, so only who needs them asks.
    ///
    /// # Errors
    /// If there are too many patterns, or they are too large together.
    pub fn secrets(&self) -> Result<Arc<Secrets>, PatternError> {
        if !self.privacy.redact {
            return Ok(Secrets::none());
        }
        let own: Vec<String> = self.privacy.patterns.iter().map(|pattern| pattern.0.clone()).collect();
        Secrets::new(&own)
    }

    /// What names of commands mean.
    pub fn preferences(&self) -> Preferences {
        let CommandsSettings { project_first, prefer, .. } = self.commands.clone();
        Preferences { project_first, prefer }
    }

    /// The daemon's limits.
    pub fn retention(&self) -> Retention {
        Retention {
            session_bytes_max: self.daemon.session_bytes_max.0,
            total_bytes_max: self.daemon.total_bytes_max.0,
            age_max: Duration::from_secs(u64::from(self.daemon.age_days_max) * 24 * 60 * 60),
        }
    }
}

fn wrong(places: &Places, why: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format_args!("{}: {why}", places.config_file().display()))
}

/// What the parser says, on one line: its own form is a drawing of several.
fn on_one_line(text: &str, error: &toml::de::Error) -> String {
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return error.message().to_owned() };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    format!("line {line}, column {column}: {}", error.message())
}

/// Which key a bad value is of, and what is wrong with it.
fn named(error: &toml::de::Error) -> String {
    let text = error.to_string();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Puts a user's settings over the defaults. The error is what is wrong, and what may help.
fn merge(own: &toml::Table) -> Result<toml::Table, (String, Option<String>)> {
    let mut merged: toml::Table = toml::from_str(DEFAULT).map_err(|error| (error.to_string(), None))?;
    for (section, values) in own {
        let Some(toml::Value::Table(known)) = merged.get_mut(section) else {
            return Err(unknown(section, merged.keys()));
        };
        let toml::Value::Table(values) = values else {
            return Err((format!("\"{section}\" is a section: write [{section}] and the keys below it"), None));
        };
        for (key, value) in values {
            if !known.contains_key(key) {
                return Err(unknown(&format!("{section}.{key}"), known.keys()));
            }
            known.insert(key.clone(), value.clone());
        }
    }
    Ok(merged)
}

fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> (String, Option<String>) {
    let last = key.rsplit('.').next().unwrap_or(key);
    let near = known.map(|known| (strsim::jaro(known, last), known)).filter(|(alike, _)| *alike > crate::cmd::NEAR);
    let near = near.max_by(|one, other| one.0.total_cmp(&other.0));
    let meant = near.map(|(_, near)| format!("did you mean \"{near}\"? ")).unwrap_or_default();
    let hint = Some(format!("{meant}\"shellkeep config show --defaults\" lists all keys"));
    (format!("there is no setting \"{key}\""), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, (String, Option<String>)> {
        let own = toml::from_str(text).map_err(|error| (error.to_string(), None))?;
        merge(&own)?.try_into().map_err(|error: toml::de::Error| (error.to_string(), None))
    }

    #[test]
    fn the_shipped_defaults_are_whole() {
        let settings = parse("").unwrap();
        assert_eq!(settings.keeper.spool_bytes_max, Size(1 << 30));
        assert_eq!(settings.keeper.when_full, WhenFull::Gap);
    }

    #[test]
    fn a_file_changes_only_what_it_names() {
        let settings = parse("[keeper]\nwhen_full = \"block\"\n").unwrap();
        assert_eq!(settings.keeper.when_full, WhenFull::Block);
        assert_eq!(settings.keeper.spool_bytes_max, Size(1 << 30));
    }

    #[test]
    fn an_unknown_key_is_refused_with_what_was_meant() {
        let (why, hint) = parse("[keeper]\nspool_byte_max = \"1 GiB\"\n").unwrap_err();
        assert!(why.contains("keeper.spool_byte_max"), "{why}");
        assert!(hint.unwrap().contains("spool_bytes_max"));
        assert!(parse("[keepr]\n").unwrap_err().1.unwrap().contains("keeper"));
    }

    #[test]
    fn an_error_says_where_on_one_line() {
        let text = "[keeper]\nwhen_full = \n";
        let error = toml::from_str::<toml::Table>(text).unwrap_err();
        let why = on_one_line(text, &error);
        assert!(why.starts_with("line 2, column 1") && !why.contains('\n'), "{why}");
        let bad: Result<Settings, _> =
            merge(&toml::from_str("[keeper]\nwhen_full = \"never\"\n").unwrap()).unwrap().try_into();
        let why = named(&bad.unwrap_err());
        assert!(why.contains("when_full") && why.contains("never") && !why.contains('\n'), "{why}");
    }

    #[test]
    fn preferences_for_names_of_commands_are_the_users() {
        let none = parse("").unwrap().preferences();
        assert!(!none.project_first && none.prefer.is_empty());
        let own =
            parse("[commands]\nproject_first = true\n[commands.prefer]\ntest = \"just:test\"\n").unwrap().preferences();
        assert!(own.project_first && own.prefer["test"] == "just:test");
    }

    #[test]
    fn a_bad_pattern_is_refused_with_its_place_and_reason() {
        let text = "[privacy]\npatterns = ['staff-[0-9]+', 'a(b']\n";
        let why = parse(text).unwrap_err().0;
        assert!(why.contains("a(b") && why.contains("unclosed group") && why.contains("patterns"), "{why}");
        let settings = parse("[privacy]\npatterns = ['staff-[0-9]+']\n").unwrap();
        assert_eq!(settings.secrets().unwrap().text("staff-7 password=x"), "[redacted] password=[redacted]");
        let off = parse("[privacy]\nredact = false\npatterns = ['staff-[0-9]+']\n").unwrap();
        assert_eq!(off.secrets().unwrap().text("staff-7 password=x"), "staff-7 password=x");
    }

    #[test]
    fn a_bad_value_says_what_is_expected() {
        let (why, _) = parse("[keeper]\nspool_bytes_max = \"lots\"\n").unwrap_err();
        assert!(why.contains("256 MiB"), "{why}");
    }
}
