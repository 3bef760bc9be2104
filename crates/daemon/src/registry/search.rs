//! Finding commands by some letters of their names, or words of their descriptions.
//!
//! Promise: names first, descriptions only to fill up; equal matches stay in the list's order, a session's own before the base's; and
//! however many of the base match, a quarter of the hits is the session's if it has so many. Costs no allocation per entry.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use super::entry::Entry;
use super::group::Group;
use super::slice::{Haystack, letters};
use super::usage::Usage;
use super::view::View;

/// Longest text that is looked for, in bytes. What is behind is not looked for.
pub const QUERY_BYTES_MAX: usize = 256;

/// The whole name is the text; it begins with it.
const WHOLE: u32 = 1 << 20;
const BEGINNING: u32 = 1 << 10;

/// The best so far; the worst is at the top.
struct Best<'a> {
    limit: usize,
    heap: BinaryHeap<Reverse<(u32, Reverse<u32>, Place<'a>)>>,
}

/// An entry that is compared by nothing: what stands before it is unique.
struct Place<'a>(&'a Arc<Entry>);

impl PartialEq for Place<'_> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place<'_> {}

impl PartialOrd for Place<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place<'_> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<'a> Best<'a> {
    fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::with_capacity(limit.min(1024) + 1) }
    }

    fn take(&mut self, score: u32, order: u32, entry: &'a Arc<Entry>) {
        if self.limit == 0 {
            return;
        }
        if self.heap.len() >= self.limit {
            match self.heap.peek() {
                Some(Reverse((worst, Reverse(last), _))) if (score, Reverse(order)) < (*worst, Reverse(*last)) => {
                    return;
                }
                _ => drop(self.heap.pop()),
            }
        }
        self.heap.push(Reverse((score, Reverse(order), Place(entry))));
    }

    /// Score, order and entry, the best first.
    fn sorted(self) -> Vec<(u32, u32, &'a Arc<Entry>)> {
        let all = self.heap.into_sorted_vec().into_iter();
        all.map(|Reverse((score, Reverse(order), Place(entry)))| (score, order, entry)).collect()
    }
}

impl View {
    /// At most `limit` entries that match, the best first. All that are listed if the text is empty.
    pub fn search(&self, query: &str, limit: usize, usage: &Usage, now_us: u64) -> Vec<Arc<Entry>> {
        let query = bounded(query.trim());
        if query.is_empty() {
            return self.entries().filter(|entry| entry.is_listed).take(limit).cloned().collect();
        }
        let looked = Looked::new(query, usage, now_us);
        let mut matcher = Matcher::new(Config::DEFAULT);
        let own_share = limit.div_ceil(4);
        let (mut base, mut own) = (Best::new(limit), Best::new(limit));
        // The session's own stand first where matches are equal.
        let groups = [(self.own.as_ref(), true), (self.project.as_ref(), true), (Some(&self.base), false)];
        let mut order = 0;
        for (group, is_own) in groups {
            let Some(group) = group else { continue };
            looked.names(group, &mut matcher, &mut order, if is_own { &mut own } else { &mut base });
        }
        let mut found = merged(base, own, limit, own_share);
        if found.len() < limit {
            self.fill_up(query, limit, &mut found);
        }
        found
    }

    /// Adds those whose description has all words.
    fn fill_up(&self, query: &str, limit: usize, found: &mut Vec<Arc<Entry>>) {
        let known: std::collections::HashSet<*const Entry> = found.iter().map(Arc::as_ptr).collect();
        let folded = query.to_lowercase();
        for group in [self.own.as_ref(), self.project.as_ref(), Some(&self.base)].into_iter().flatten() {
            let mut from = 0;
            for slice in group.slices() {
                let entries = &group.entries()[from..from + slice.entries().len()];
                from += slice.entries().len();
                with_words(slice.haystack(), &folded, |at| {
                    if !known.contains(&Arc::as_ptr(&entries[at])) {
                        found.push(Arc::clone(&entries[at]));
                    }
                    found.len() < limit
                });
                if found.len() >= limit {
                    return;
                }
            }
        }
    }
}

/// The best of both, of which the session's own have at least their share.
fn merged(base: Best<'_>, own: Best<'_>, limit: usize, own_share: usize) -> Vec<Arc<Entry>> {
    let (base, own) = (base.sorted(), own.sorted());
    let reserved = own.len().min(own_share);
    let mut all: Vec<_> = own[..reserved].to_vec();
    let mut rest: Vec<_> = own[reserved..].iter().chain(&base).copied().collect();
    rest.sort_by_key(|(score, order, _)| (Reverse(*score), *order));
    rest.truncate(limit.saturating_sub(reserved));
    all.append(&mut rest);
    all.sort_by_key(|(score, order, _)| (Reverse(*score), *order));
    all.into_iter().map(|(_, _, entry)| Arc::clone(entry)).collect()
}

/// What is looked for in names.
struct Looked<'q> {
    text: &'q str,
    folded: String,
    letters: u64,
    words: Pattern,
    usage: &'q Usage,
    now_us: u64,
}

impl<'q> Looked<'q> {
    fn new(text: &'q str, usage: &'q Usage, now_us: u64) -> Self {
        // No syntax: "^", "!" and the like are letters here.
        let words = Pattern::new(text, CaseMatching::Ignore, Normalization::Smart, AtomKind::Fuzzy);
        let letters = text.split_whitespace().fold(0, |all, word| all | letters(word));
        Self { text, folded: text.to_lowercase(), letters, words, usage, now_us }
    }

    fn names<'a>(&self, group: &'a Group, matcher: &mut Matcher, order: &mut u32, best: &mut Best<'a>) {
        let mut buffer = Vec::new();
        let mut entries = group.entries().iter();
        for slice in group.slices() {
            for (mask, entry) in slice.haystack().masks.iter().zip(&mut entries) {
                *order += 1;
                if self.letters & !mask == 0
                    && entry.is_listed
                    && let Some(score) = self.score(entry, matcher, &mut buffer)
                {
                    best.take(score, *order, entry);
                }
            }
        }
    }

    /// The best score of name, qualified name and aliases.
    fn score(&self, entry: &Entry, matcher: &mut Matcher, buffer: &mut Vec<char>) -> Option<u32> {
        let mut of = |name: &str| -> Option<u32> {
            let score = self.words.score(Utf32Str::new(name, buffer), matcher)?;
            let begins = name.get(..self.text.len()).is_some_and(|start| start.eq_ignore_ascii_case(self.text));
            Some(match begins {
                true if name.len() == self.text.len() => score + WHOLE,
                true => score + BEGINNING,
                false if !name.is_ascii() && name.to_lowercase() == self.folded => score + WHOLE,
                false => score,
            })
        };
        let mut best = of(&entry.name);
        if best.is_none() || self.text.contains(':') {
            best = best.max(of(&entry.qualified_name));
        }
        for alias in &entry.aliases {
            best = best.max(of(alias));
        }
        let used = if self.usage.is_empty() { 0 } else { self.usage.bonus(&entry.id, self.now_us) };
        best.map(|score| score + used)
    }
}

/// Tells which descriptions have all words of `folded`, in order, until `tell` has enough.
fn with_words(haystack: &Haystack, folded: &str, mut tell: impl FnMut(usize) -> bool) {
    let mut words: Vec<&str> = folded.split_whitespace().collect();
    words.sort_by_key(|word| Reverse(word.len())); // the longest is the rarest
    let Some((first, others)) = words.split_first() else { return };
    let texts = &haystack.texts;
    let finder = memchr::memmem::Finder::new(first.as_bytes());
    let mut from = 0;
    while let Some(found) = finder.find(&texts.as_bytes()[from..]) {
        let place = u32::try_from(from + found).unwrap_or(u32::MAX);
        let at = haystack.starts.partition_point(|start| *start <= place) - 1;
        let (start, end) = (haystack.starts[at] as usize, haystack.starts[at + 1] as usize);
        if others.iter().all(|word| texts[start..end].contains(word)) && !tell(at) {
            return;
        }
        from = end;
    }
}

fn bounded(query: &str) -> &str {
    &query[..query.floor_char_boundary(QUERY_BYTES_MAX)]
}
