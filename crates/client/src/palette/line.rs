//! The command line that runs an entry, as bash, zsh and fish all read it.
//!
//! Promise: whatever an entry is called, the line runs that entry and nothing else.

use shellkeep_protocol::registry::EntryInfo;

/// The line that runs `entry`, which is one of `all`; a space behind, for its arguments.
///
/// Always through `run`, never what the entry would run: that asks for agreement first, runs in the project's directory whatever
/// the shell's is, and keeps time limits; the text that is shown is for people, and need not mean the same to this shell.
pub(super) fn line(entry: &EntryInfo, all: &[EntryInfo]) -> String {
    let is_same = |other: &&EntryInfo| other.qualified_name == entry.qualified_name;
    let name = if all.iter().filter(is_same).count() > 1 { &entry.id } else { &entry.qualified_name };
    format!("shellkeep run {} ", quoted(name))
}

/// `text` as one word, with a backslash before whatever means something to a shell: the one way of quoting that bash, zsh and
/// fish share. Line ends, which have no such form, are left out; no name has any.
pub(crate) fn quoted(text: &str) -> String {
    let mut word = String::with_capacity(text.len() + 8);
    for character in text.chars().filter(|character| !character.is_control()) {
        if character.is_ascii() && !character.is_ascii_alphanumeric() && !"_-.,:/@+%".contains(character) {
            word.push('\\');
        }
        word.push(character);
    }
    word
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_shell_reads_a_quoted_word_as_what_it_was() {
        let words = [
            "it's",
            "a\"b",
            "$HOME",
            "`id`",
            "a\\b",
            "x;y|z&",
            "*?[a]{b,c}",
            "~",
            "=ls",
            "#no",
            "a!b",
            "é(ü)",
            "%1^<>",
        ];
        for shell in [&["bash", "--norc", "-c"][..], &["zsh", "-f", "-c"], &["fish", "--no-config", "-c"]] {
            for word in words {
                let script = format!("printf %s {}", quoted(word));
                let Ok(output) = Command::new(shell[0]).args(&shell[1..]).arg(&script).output() else { continue };
                assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{shell:?}: {script}");
            }
        }
    }
}
