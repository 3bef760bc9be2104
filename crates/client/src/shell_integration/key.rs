//! The key that opens the palette, in the form that each shell has for it.
//!
//! Promises that what gets into a shell's table of keys is one or two keys, and never text that it would read otherwise.

use std::fmt::Write as _;
use std::str::FromStr;

use serde::Deserialize;

use super::Shell;

/// Keys that are typed one after the other; none if it is switched off.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PaletteKey(Vec<Key>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Sends ESC before it.
    Alt(char),
    Control(char),
    /// Only behind another.
    Plain(char),
}

/// A text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no key; write it like \"alt-m\", \"ctrl-g\" or \"ctrl-x p\", or \"off\"")]
pub struct KeyError(String);

/// Keys of a second that no terminal sends otherwise, or that end and stop what runs.
const TAKEN: &str = "cdijmqsz";

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let one = |text: &str| {
            text.chars().next().filter(|key| text.len() == 1 && (key.is_ascii_lowercase() || key.is_ascii_digit()))
        };
        if let Some(key) = text.strip_prefix("alt-") {
            return one(key).map(Self::Alt).ok_or(());
        }
        if let Some(key) = text.strip_prefix("ctrl-") {
            return one(key)
                .filter(|key| key.is_ascii_lowercase() && !TAKEN.contains(*key))
                .map(Self::Control)
                .ok_or(());
        }
        one(text).map(Self::Plain).ok_or(())
    }
}

impl TryFrom<String> for PaletteKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        if text == "off" {
            return Ok(Self(Vec::new()));
        }
        let keys: Result<Vec<Key>, ()> = text.split_whitespace().map(str::parse).collect();
        match keys.as_deref() {
            Ok([first] | [first, _]) if !matches!(first, Key::Plain(_)) => keys.map(Self).map_err(|()| KeyError(text)),
            _ => Err(KeyError(text)),
        }
    }
}

impl Default for PaletteKey {
    /// Alt-m, which none of the three shells has by default: where the settings cannot be read.
    fn default() -> Self {
        Self(vec![Key::Alt('m')])
    }
}

impl PaletteKey {
    /// As the shell's own command for keys takes it; `None` if it is switched off.
    pub(super) fn of(&self, shell: Shell) -> Option<String> {
        let mut form = String::new();
        for key in &self.0 {
            let written = match (key, shell) {
                // readline's own words, in which it also lists what is bound.
                (Key::Alt(key), Shell::Bash) => write!(form, "\\e{key}"),
                (Key::Control(key), Shell::Bash) => write!(form, "\\C-{key}"),
                (Key::Alt(key), Shell::Zsh | Shell::Fish) => write!(form, "\u{1b}{key}"),
                (Key::Control(key), Shell::Zsh | Shell::Fish) => {
                    form.push(char::from(u8::try_from(*key).unwrap_or(0) & 0x1f));
                    Ok(())
                }
                (Key::Plain(key), _) => write!(form, "{key}"),
            };
            debug_assert!(written.is_ok(), "text can be added to text");
        }
        (!form.is_empty()).then_some(form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<PaletteKey, KeyError> {
        PaletteKey::try_from(text.to_owned())
    }

    #[test]
    fn a_key_has_a_form_in_each_shell() {
        assert_eq!(key("alt-m"), Ok(PaletteKey::default()));
        assert_eq!(key("alt-m").unwrap().of(Shell::Bash).unwrap(), "\\em");
        assert_eq!(key("alt-m").unwrap().of(Shell::Zsh).unwrap(), "\u{1b}m");
        assert_eq!(key("ctrl-x p").unwrap().of(Shell::Bash).unwrap(), "\\C-xp");
        assert_eq!(key("ctrl-x ctrl-p").unwrap().of(Shell::Fish).unwrap(), "\u{18}\u{10}");
        assert_eq!(key("off").unwrap().of(Shell::Bash), None);
    }

    #[test]
    fn what_would_take_ordinary_typing_is_no_key() {
        for bad in ["", "m", "alt-", "alt-M", "alt-\"", "ctrl-m", "ctrl-c", "ctrl-x p q", "meta-x", "alt-é", "alt-;"] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }
}
