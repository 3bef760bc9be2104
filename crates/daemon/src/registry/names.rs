//! Which names a command may have, and what of foreign text may be shown.
//!
//! Promise: what is shown of a command never makes a terminal act, and what names it can be typed as one word.

/// Longest name, in bytes. A longer one is refused.
pub const NAME_BYTES_MAX: usize = 128;

/// Longest description, in bytes. The rest is cut off.
pub const DESCRIPTION_BYTES_MAX: usize = 1 << 10;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing.
    #[error("it is empty")]
    Empty,
    /// Too long.
    #[error("it is longer than {NAME_BYTES_MAX} bytes")]
    Long,
    /// It cannot be one word, or would be a path.
    #[error("it has a space, a \"/\" or a character that is not shown")]
    Character,
}

/// Checks a name, a qualified name or an alias.
///
/// # Errors
/// [`NameError`].
pub fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::Long);
    }
    let refused = |c: char| c == '/' || c.is_whitespace() || is_hidden(c);
    if name.chars().any(refused) { Err(NameError::Character) } else { Ok(()) }
}

/// One line of `text` without anything that a terminal acts on, at most [`DESCRIPTION_BYTES_MAX`] bytes.
pub fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(DESCRIPTION_BYTES_MAX));
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            skip_escape(&mut rest);
            continue;
        }
        let c = if c.is_whitespace() { ' ' } else { c };
        if is_hidden(c) || (c == ' ' && (line.is_empty() || line.ends_with(' '))) {
            continue;
        }
        if line.len() + c.len_utf8() > DESCRIPTION_BYTES_MAX {
            break;
        }
        line.push(c);
    }
    line.truncate(line.trim_end().len());
    line
}

/// Takes what follows an escape: the whole of a CSI or OSC sequence, else one character.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.next() {
        Some('[') => while rest.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || (c == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

/// Characters that are not seen: controls, marks of direction, joiners, tags, fillers.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}')
        || matches!(c, '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// What the founding protocol calls a tool of an MCP server, `mcp__SERVER__TOOL`, as server and tool.
///
/// Source: R-20. `None` for tools that are of no server.
pub fn mcp_tool(name: &str) -> Option<(&str, &str)> {
    let (server, tool) = name.strip_prefix("mcp__")?.split_once("__")?;
    (!server.is_empty() && !tool.is_empty()).then_some((server, tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    ///
    #[test]
    fn names_that_cannot_be_typed_or_seen_are_refused() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", &long, "a b", "a/b", "a\tb", "a\u{7}", "a\u{1b}[1m", "\u{202e}x", "a\u{200d}b", "a\u{a0}b"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in ["test", "build:prod", "npm:test", "é", "github:create_issue", &"x".repeat(NAME_BYTES_MAX)] {
            assert!(check(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_description_is_one_line_that_a_terminal_does_not_act_on() {
        assert_eq!(shown("\u{1b}[31mred\u{1b}]0;title\u{7}\n  two\u{202e}\tthree \u{0} "), "red two three");
        assert_eq!(shown(&"é".repeat(DESCRIPTION_BYTES_MAX)).len(), DESCRIPTION_BYTES_MAX);
        assert_eq!(shown("\u{1b}]never ended"), "");
    }

    ///
    #[test]
    fn tools_of_mcp_servers_are_called_by_server_and_tool() {
        assert_eq!(mcp_tool("mcp__github__create_issue"), Some(("github", "create_issue")));
        assert_eq!(mcp_tool("mcp__a__b__c"), Some(("a", "b__c")));
        for other in ["Bash", "mcp__", "mcp____x", "mcp__server__", "mcp__server"] {
            assert_eq!(mcp_tool(other), None, "{other}");
        }
    }
}
