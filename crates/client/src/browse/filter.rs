//! What a list is filtered by: words, each of which a row must have.
//!
//! Promises that a row is shown for what a person sees in one place: letters of a word may lie apart in a command line or a
//! name, but never across both, and not in a path or an id, which have almost any few letters in some order.

use nucleo_matcher::chars::normalize;
use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

/// What of a row is looked at.
pub(super) struct Fields<'a> {
    /// Where letters of a word may lie apart.
    pub(super) fuzzy: [&'a str; 2],
    /// Where a word must be as it is.
    pub(super) whole: [&'a str; 2],
}

/// What was typed, made ready for many rows.
pub(super) struct Filter<'a> {
    fuzzy: Pattern,
    whole: Pattern,
    matcher: &'a mut Matcher,
    scratch: Vec<char>,
}

/// The matcher that a filter needs; it is large, so it is kept.
pub(super) fn matcher() -> Matcher {
    Matcher::new(Config::DEFAULT)
}

impl<'a> Filter<'a> {
    pub(super) fn new(text: &str, matcher: &'a mut Matcher) -> Self {
        // Without marks, for with them the matcher fails at letters that it folds in one place and not in another (ſ, ς, µ).
        let plain: String = text.chars().map(normalize).collect();
        let fuzzy = Pattern::parse(&plain, CaseMatching::Smart, Normalization::Smart);
        let mut whole = fuzzy.clone();
        for word in whole.atoms.iter_mut().filter(|word| word.kind == AtomKind::Fuzzy) {
            word.kind = AtomKind::Substring;
        }
        Self { fuzzy, whole, matcher, scratch: Vec::new() }
    }

    /// How well a row fits, more being better; none if a word is not in it, or one that must not be there is.
    pub(super) fn score(&mut self, fields: &Fields<'_>) -> Option<u32> {
        let mut sum = 0;
        for (fuzzy, whole) in self.fuzzy.atoms.iter().zip(&self.whole.atoms) {
            let of_fuzzy = fields.fuzzy.iter().map(|text| (fuzzy, *text));
            let of_whole = fields.whole.iter().map(|text| (whole, *text));
            let mut best = None;
            for (word, text) in of_fuzzy.chain(of_whole) {
                let score = word.score(Utf32Str::new(text, &mut self.scratch), self.matcher);
                if fuzzy.negative && score.is_none() {
                    return None;
                }
                best = best.max(score);
            }
            sum += u32::from(best?);
        }
        Some(sum)
    }
}
