//! What becomes an item at all: names that can be typed, words that can be shown, no more than an item may hold.
//!
//! Promise: nothing that an admitted item shows makes a terminal act, and its names are one word and no option. Pure.

use super::Limits;
use super::item::{Exec, Item, Transport};
use crate::registry::names;

/// A name made of a sentence; the rest is cut off.
const SLUG_BYTES_MAX: usize = 64;

/// The item with its words cleaned, or why it is left out.
pub(super) fn admit(mut item: Item, limits: &Limits) -> Result<Item, String> {
    let cleaned = |text: String| Some(names::shown(&text)).filter(|text| !text.is_empty());
    item.description = names::shown(&item.description);
    item.display_name = item.display_name.and_then(cleaned);
    item.group = item.group.and_then(cleaned);
    item.arguments.hint = item.arguments.hint.and_then(cleaned);
    for argument in &mut item.arguments.names {
        argument.name = names::shown(&argument.name);
        argument.description = names::shown(&argument.description);
    }
    for name in [&item.name, &item.qualified_name] {
        refusal_of_name(name).map_err(|why| format!("\"{}\" is left out: {why}", shortened(name)))?;
    }
    item.aliases.retain(|alias| refusal_of_name(alias).is_ok() && *alias != item.name);
    item.aliases.sort();
    item.aliases.dedup();
    let bytes = size(&item);
    if bytes > limits.item_bytes {
        return Err(format!("\"{}\" is left out: {bytes} bytes, an item may have {}", item.name, limits.item_bytes));
    }
    Ok(item)
}

/// A name must be one word, and no option of the program that gets it.
fn refusal_of_name(name: &str) -> Result<(), String> {
    if name.starts_with('-') {
        return Err("the name would be taken for an option".to_owned());
    }
    names::check(name).map_err(|error| format!("the name is refused, {error}"))
}

/// One word from what people wrote for people: `Build all` becomes `Build-all`.
pub(super) fn slug(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '+' | '@')))
        .filter(|word| !word.is_empty())
        .collect();
    let slug = words.join("-");
    let mut end = slug.len().min(SLUG_BYTES_MAX);
    while !slug.is_char_boundary(end) {
        end -= 1;
    }
    slug[..end].trim_end_matches('-').to_owned()
}

fn shortened(name: &str) -> String {
    name.chars().take(names::NAME_BYTES_MAX).collect()
}

/// What a list must hold of an item. The text of a prompt and the evidence stay with the source.
fn size(item: &Item) -> usize {
    let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let texts = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    let exec = match &item.exec {
        Exec::Program(program) => texts(&program.argv) + pairs(&program.env),
        Exec::Line(line) => line.text.len() + pairs(&line.env),
        Exec::McpServer(server) => match &server.transport {
            Transport::Stdio { command, args, env } => command.len() + texts(args) + pairs(env),
            Transport::Http { url, headers } | Transport::Sse { url, headers } => url.len() + pairs(headers),
        },
        Exec::Prompt(_) | Exec::Nothing => 0,
    };
    let arguments: usize = item
        .arguments
        .names
        .iter()
        .map(|argument| {
            argument.name.len() + argument.description.len() + argument.default.as_ref().map_or(0, String::len)
        })
        .sum();
    let hint = item.arguments.hint.as_ref().map_or(0, String::len);
    item.name.len()
        + item.qualified_name.len()
        + item.description.len()
        + texts(&item.aliases)
        + hint
        + arguments
        + exec
}
