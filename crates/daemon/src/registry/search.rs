//! Finding commands by some letters of their names, or words of their descriptions.
//!
//! Promise: names first, descriptions only to fill up; equal matches stay in the list's order, a session's own before the base's; and
//! however many of the base match, a quarter of the hits is the session's if it has so many. Costs no allocation per entry.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use super::entry::Entry;
use super::group::Group;
use super::haystack::{Haystack, LISTED, Lines, NOT_ASCII, letters, plain};
use super::usage::Usage;
use super::view::View;

/// Longest text that is looked for, in bytes. What is behind is not looked for.
pub const QUERY_BYTES_MAX: usize = 256;

/// The whole name is the text; it begins with it.
const WHOLE: u32 = 1 << 20;
const BEGINNING: u32 = 1 << 10;

/// The matcher's points for a letter, for one at a head (twice for a word's first), and for one behind another at least: those of
/// nucleo-matcher 0.3, `score.rs`. A test compares with what is found without them.
const MATCH: u32 = 16;
const AT_HEAD: u32 = 10;
const IN_A_ROW: u32 = 4;

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

    /// What has to be surpassed, for what comes later goes behind what is equal.
    fn worst(&self) -> Option<u32> {
        let worst = self.heap.peek().filter(|_| self.heap.len() >= self.limit);
        worst.map(|Reverse((score, ..))| *score)
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
                with_words(&slice.haystack().descriptions, &folded, |at| {
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
    /// What the letters may score at most where none stands at a head, and anywhere.
    most: (u32, u32),
    usage: &'q Usage,
    now_us: u64,
}

impl<'q> Looked<'q> {
    fn new(text: &'q str, usage: &'q Usage, now_us: u64) -> Self {
        let plain = plain(text);
        // No syntax: "^", "!" and the like are letters here.
        let words = Pattern::new(&plain, CaseMatching::Ignore, Normalization::Smart, AtomKind::Fuzzy);
        let letters = plain.split_whitespace().fold(LISTED, |all, word| all | letters(word));
        let most = most(&words, plain.is_ascii());
        Self { text, folded: text.to_lowercase(), letters, words, most, usage, now_us }
    }

    fn names<'a>(&self, group: &'a Group, matcher: &mut Matcher, order: &mut u32, best: &mut Best<'a>) {
        let mut buffer = Vec::new();
        let mut used = self.used_of(group).into_iter().peekable();
        let mut from = 0;
        for slice in group.slices() {
            let haystack = slice.haystack();
            for (nth, mask) in haystack.masks.iter().enumerate().filter(|(_, mask)| self.letters & !*mask == 0) {
                let at = from + nth;
                while used.next_if(|(place, _)| *place < at).is_some() {}
                let bonus = used.next_if(|(place, _)| *place == at).map_or(0, |(_, bonus)| bonus);
                let may_count = |worst| mask & NOT_ASCII != 0 || self.at_most(haystack, nth) + bonus > worst;
                if best.worst().is_none_or(may_count)
                    && let Some(score) = self.score(haystack.names(nth), matcher, &mut buffer)
                {
                    best.take(score + bonus, *order + place_u32(at), &group.entries()[at]);
                }
            }
            from += slice.entries().len();
        }
        *order += place_u32(from);
    }

    /// Where the entries that were used stand in a group, in order, and what that is worth.
    fn used_of(&self, group: &Group) -> Vec<(usize, u32)> {
        let places = self.usage.bonuses(self.now_us).flat_map(|(id, bonus)| {
            let name = id.rsplit('/').next().unwrap_or(id);
            group.places(name).filter(move |at| &*group.entries()[*at].id == id).map(move |at| (at, bonus))
        });
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// What [`Self::score`] is at most: told without the matcher, which takes a hundred times as long.
    fn at_most(&self, haystack: &Haystack, nth: usize) -> u32 {
        let (within, anywhere) = self.most;
        let most = if self.letters & haystack.heads[nth] == 0 { within } else { anywhere };
        most + haystack.names(nth).map(|name| self.beginning(name)).max().unwrap_or_default()
    }

    /// The best score of name, qualified name and aliases.
    fn score<'n>(
        &self,
        mut names: impl Iterator<Item = &'n str>,
        matcher: &mut Matcher,
        buffer: &mut Vec<char>,
    ) -> Option<u32> {
        let mut of = |name: &str| -> Option<u32> {
            let folded = if name.is_ascii() { Cow::Borrowed(name) } else { Cow::Owned(plain(name)) };
            let score = self.words.score(Utf32Str::new(&folded, buffer), matcher)?;
            Some(score + self.beginning(name))
        };
        let mut best = of(names.next()?);
        let qualified = names.next()?;
        if best.is_none() || self.text.contains(':') {
            best = best.max(of(qualified));
        }
        names.fold(best, |best, alias| best.max(of(alias)))
    }

    /// What it is worth that a name is the text, or begins with it.
    fn beginning(&self, name: &str) -> u32 {
        let begins = name.as_bytes().get(..self.text.len());
        match begins.is_some_and(|start| start.eq_ignore_ascii_case(self.text.as_bytes())) {
            true if name.len() == self.text.len() => WHOLE,
            true => BEGINNING,
            false if !name.is_ascii() && name.to_lowercase() == self.folded => WHOLE,
            false => 0,
        }
    }
}

/// What a pattern scores at most where none of its letters stands at a head, and anywhere.
fn most(words: &Pattern, is_ascii: bool) -> (u32, u32) {
    let letters: u32 = words.atoms.iter().map(|word| place_u32(word.needle_text().len())).sum();
    let count = place_u32(words.atoms.len());
    let anywhere = letters * (MATCH + AT_HEAD) + count * AT_HEAD;
    // Letters that are no ASCII are in no mask.
    let within = if is_ascii { letters * (MATCH + IN_A_ROW) - count.min(letters) * IN_A_ROW } else { anywhere };
    (within, anywhere)
}

fn place_u32(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Tells which descriptions have all words of `folded`, in order, until `tell` has enough.
fn with_words(lines: &Lines, folded: &str, mut tell: impl FnMut(usize) -> bool) {
    let mut words: Vec<&str> = folded.split_whitespace().collect();
    words.sort_by_key(|word| Reverse(word.len())); // the longest is the rarest
    let Some((first, others)) = words.split_first() else { return };
    let Lines { text, starts } = lines;
    let finder = memchr::memmem::Finder::new(first.as_bytes());
    let mut from = 0;
    while let Some(found) = finder.find(&text.as_bytes()[from..]) {
        let place = u32::try_from(from + found).unwrap_or(u32::MAX);
        let at = starts.partition_point(|start| *start <= place) - 1;
        let (start, end) = (starts[at] as usize, starts[at + 1] as usize);
        if others.iter().all(|word| text[start..end].contains(word)) && !tell(at) {
            return;
        }
        from = end;
    }
}

fn bounded(query: &str) -> &str {
    &query[..query.floor_char_boundary(QUERY_BYTES_MAX)]
}
