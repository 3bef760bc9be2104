//! What stands between two `---` at the head of a Markdown file.
//!
//! Promise: a command is never lost for its front matter. What YAML refuses (`argument-hint: [env] [tag]`,
//! `description: Use when: x`, both usual) is read line by line, and said. Bounded in bytes and nodes, no aliases.

use super::scan::{Scan, SourceFile};
use super::tree::Tree;

/// A Markdown file in its two parts.
pub(super) struct Document {
    /// Its keys; an empty map if it has none.
    pub keys: Tree,
    /// What follows.
    pub body: String,
}

/// Splits a file; what is odd about its head is said to `scan`.
pub(super) fn read(scan: &mut Scan<'_>, file: &SourceFile) -> Document {
    let Some((head, body)) = split(&file.text) else {
        return Document { keys: Tree::Map(Vec::new()), body: file.text.to_string() };
    };
    if head.len() > scan.limits.front_matter_bytes {
        let message = format!("front matter longer than {} bytes is not read", scan.limits.front_matter_bytes);
        scan.note(&file.relative, Some(1), message);
        return Document { keys: Tree::Map(Vec::new()), body: body.to_owned() };
    }
    let keys = match Tree::front_matter(head) {
        Ok(keys @ Tree::Map(_)) => keys,
        Ok(Tree::Null) => Tree::Map(Vec::new()),
        Ok(_) => {
            scan.note(&file.relative, Some(1), "front matter has no keys; it is not read");
            Tree::Map(Vec::new())
        }
        Err(error) => {
            // The head begins in the file's second line.
            let line = error.line.map(|line| line + 1);
            scan.note(&file.relative, line, format!("front matter {}; read line by line", error.message));
            by_line(head)
        }
    };
    Document { keys, body: body.to_owned() }
}

/// Head and body, if the first line is a fence and there is another. Blank lines may stand before the first.
fn split(text: &str) -> Option<(&str, &str)> {
    let rest = text.trim_start_matches(['\n', '\r', ' ']).strip_prefix("---")?;
    let (first, rest) = rest.split_once('\n')?;
    if !first.trim().is_empty() {
        return None;
    }
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if matches!(line.trim_end(), "---" | "...") {
            return Some((&rest[..at], rest[at + line.len()..].trim_start_matches('\n')));
        }
        at += line.len();
    }
    None
}

/// `key: rest of the line`, for what is no YAML. Deeper lines belong to the key before them and are joined to it.
fn by_line(head: &str) -> Tree {
    let mut pairs: Vec<(String, Tree)> = Vec::new();
    for line in head.lines() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let is_deeper = line.starts_with([' ', '\t']) || line.starts_with("- ");
        if is_deeper {
            if let Some((_, Tree::Text(text))) = pairs.last_mut() {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(unquoted(line.trim().trim_start_matches("- ")));
            }
            continue;
        }
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = match value.trim() {
            ">" | "|" | ">-" | "|-" | ">+" | "|+" => "",
            value => unquoted(value),
        };
        pairs.push((unquoted(key.trim()).to_owned(), Tree::Text(value.to_owned())));
    }
    Tree::Map(pairs)
}

fn unquoted(text: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return inner;
        }
    }
    text
}

/// The first line of a body that says something, without the marks of a heading.
pub(super) fn first_line(body: &str) -> String {
    body.lines()
        .map(|line| line.trim().trim_start_matches('#').trim())
        .find(|line| !line.is_empty() && !line.starts_with("<!--") && *line != "---")
        .unwrap_or_default()
        .to_owned()
}

/// What an author meant with an argument hint, however YAML has read it: `[a]` is a list there, `[a] [b]` is nothing.
pub(super) fn hint(keys: &Tree) -> Option<String> {
    let hint = match keys.get_any(&["argument-hint", "argument_hint", "arguments-hint"])? {
        Tree::List(words) => {
            let words: Vec<String> = words.iter().filter_map(Tree::scalar).collect();
            format!("[{}]", words.join(", "))
        }
        // `{name: value}` cannot be told from `{name}`, which is meant.
        Tree::Map(pairs) => {
            let words: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
            format!("{{{}}}", words.join(", "))
        }
        other => other.scalar()?,
    };
    let hint = hint.trim();
    (!hint.is_empty()).then(|| hint.to_owned())
}
