//! What searching looks through: the names and descriptions of a slice in two long texts, made once.
//!
//! Promise: an entry whose [`letters`] lack one of a query's does not match it. To look at all of them touches no entry.

use std::sync::Arc;

use nucleo_matcher::chars::{normalize, to_lower_case};

use super::entry::Entry;
use super::names;
use super::slice::SOURCE_ENTRIES_MAX;

/// Set for entries that are listed: a query that asks for it finds no others.
pub(super) const LISTED: u64 = 1 << 63;
/// Set if a name is not ASCII: then all letters are.
pub(super) const NOT_ASCII: u64 = 1 << 62;

/// The texts of a slice's entries.
#[derive(Debug, Default)]
pub(super) struct Haystack {
    /// For each entry, which letters its names have, [`LISTED`] and [`NOT_ASCII`].
    pub(super) masks: Box<[u64]>,
    /// For each entry, which letters stand where the matcher likes them to: at the beginning of a word, a number, a capital.
    pub(super) heads: Box<[u64]>,
    /// Name, qualified name and aliases of each, a line each.
    names: Lines,
    /// Descriptions in lower case, a line each.
    pub(super) descriptions: Lines,
}

/// Texts of entries, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) text: Box<str>,
    /// Where each entry's begins, and where the last ends.
    pub(super) starts: Box<[u32]>,
}

impl Haystack {
    pub(super) fn of(entries: &[Arc<Entry>]) -> Self {
        Self {
            masks: entries.iter().map(|entry| mask(entry)).collect(),
            heads: entries.iter().map(|entry| names_of(entry).fold(0, |all, name| all | heads(name))).collect(),
            names: Lines::of(entries, |entry, text| {
                for name in names_of(entry) {
                    text.push_str(name);
                    text.push('\n');
                }
            }),
            descriptions: Lines::of(entries, |entry, text| {
                if entry.is_listed {
                    text.extend(entry.description.chars().flat_map(char::to_lowercase));
                }
                text.push('\n');
            }),
        }
    }

    /// Name, qualified name and aliases of the `nth` entry.
    pub(super) fn names(&self, nth: usize) -> std::str::Lines<'_> {
        self.names.text[self.names.starts[nth] as usize..self.names.starts[nth + 1] as usize].lines()
    }
}

impl Lines {
    fn of(entries: &[Arc<Entry>], write: impl Fn(&Entry, &mut String)) -> Self {
        let mut text = String::new();
        let mut starts = Vec::with_capacity(entries.len() + 1);
        for entry in entries {
            starts.push(place(&text));
            write(entry, &mut text);
        }
        starts.push(place(&text));
        Self { text: text.into(), starts: starts.into() }
    }
}

fn place(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

const _: () = assert!(SOURCE_ENTRIES_MAX * (names::DESCRIPTION_BYTES_MAX + 1) * 3 < u32::MAX as usize);

fn names_of(entry: &Entry) -> impl Iterator<Item = &Arc<str>> {
    [&entry.name, &entry.qualified_name].into_iter().chain(entry.aliases.iter())
}

fn mask(entry: &Entry) -> u64 {
    // A letter with marks is found without them too.
    let of = |name: &str| if name.is_ascii() { letters(name) } else { !LISTED };
    let listed = if entry.is_listed { LISTED } else { 0 };
    names_of(entry).fold(listed, |all, name| all | of(name))
}

/// Which letters a text has, without regard to case: a query can only match a name that has all letters of it.
pub(super) fn letters(text: &str) -> u64 {
    text.chars().fold(0, |mask, c| mask | letter(c))
}

/// Without marks and capitals. The matcher is given nothing else than ASCII or this: what it folds in one place and not in another
/// (ſ, ς, µ, Ā), it would miss, or fail at.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| to_lower_case(normalize(c)).to_ascii_lowercase()).collect()
}

fn letter(c: char) -> u64 {
    match c.to_ascii_lowercase() {
        c @ 'a'..='z' => 1 << (c as u32 - 'a' as u32),
        c @ '0'..='9' => 1 << (26 + c as u32 - '0' as u32),
        '-' => 1 << 36,
        '_' => 1 << 37,
        ':' => 1 << 38,
        '.' => 1 << 39,
        c if c.is_ascii() => 1 << 40,
        _ => 0,
    }
}

fn heads(name: &str) -> u64 {
    let mut before = None;
    name.chars().fold(0, |mask, c| {
        let is_head = before.replace(c).is_none_or(|before: char| {
            !before.is_alphanumeric()
                || !c.is_alphanumeric()
                || before.is_lowercase() && c.is_uppercase()
                || !before.is_numeric() && c.is_numeric()
        });
        if is_head { mask | letter(c) } else { mask }
    })
}
