//! Whatever the names and the text: the best few are the first of all that are found.

use proptest::prelude::*;

use super::*;

/// Names as people give them, of few letters, with what the matcher has its own points for.
fn name() -> impl Strategy<Value = String> {
    let plain = prop::sample::select(vec!["a", "b", "e", "t"]);
    let other = prop::sample::select(vec!["A", "T", "1", "2", "-", "_", ".", ":", "+", "é"]);
    prop::collection::vec(prop_oneof![6 => plain, 1 => other], 1..9).prop_map(|letters| letters.concat())
}

/// Some letters of some name.
fn query() -> impl Strategy<Value = String> {
    let word = (name(), 1_usize..4).prop_map(|(name, count)| name.chars().take(count).collect::<String>());
    prop::collection::vec(word, 1..3).prop_map(|words| words.join(" "))
}

fn entry((name, alias): (String, Option<String>)) -> Draft {
    Draft { aliases: alias.into_iter().collect(), ..user(&name) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// what cannot be among the best is not given to the matcher; nobody sees the difference.
    #[test]
    fn the_best_few_are_the_first_of_all(
        names in prop::collection::vec((name(), prop::option::of(name())), 1..60),
        used in prop::collection::vec((0_usize..60, 1_usize..4), 0..12),
        query in query(),
        limit in 1_usize..6,
    ) {
        let registry = registry();
        set_base(&registry, "user", names.into_iter().map(entry).collect());
        let view = registry.get_all();
        let mut usage = Usage::default();
        for (nth, times) in used {
            let id = view.entries().nth(nth).map(|entry| entry.id.to_string());
            (0..times).for_each(|_| usage.note(id.as_deref().unwrap_or("user/nobody/gone"), DAY_US));
        }
        let all = view.search(&query, usize::MAX, &usage, DAY_US);
        let few = view.search(&query, limit, &usage, DAY_US);
        prop_assert_eq!(ids(&few), ids(&all[..limit.min(all.len())]));
    }
}

#[test]
fn a_letter_that_is_neither_letter_nor_number_is_found() {
    let registry = registry();
    set_base(&registry, "user", vec![user("plain"), user("c++"), user("über")]);
    let found = |query| names_found(&registry, query);
    assert_eq!(found("+"), ["c++"]);
    assert_eq!(found("ub"), ["über"]);
    assert_eq!(found("Ü"), ["über"]);
}

fn names_found(registry: &CommandRegistry, query: &str) -> Vec<String> {
    registry.search(query, 10).iter().map(|entry| entry.name.to_string()).collect()
}

/// The matcher has two ways of folding a letter, which must not differ in what it is given.
#[test]
fn no_letter_makes_searching_fail() {
    use nucleo_matcher::chars::{normalize, to_lower_case};
    let is_folded =
        |letter: &char| letter.is_alphabetic() && (normalize(*letter) != *letter || to_lower_case(*letter) != *letter);
    let all: Vec<char> = ('\u{80}'..='\u{1ffff}').filter(is_folded).collect();
    for some in all.chunks(64) {
        let registry = registry();
        set_base(&registry, "user", some.iter().map(|letter| user(&format!("{letter}s{letter}é"))).collect());
        for letter in some {
            assert!(!registry.search(&format!("{letter}é"), 1).is_empty(), "{letter}");
        }
        registry.search("sé", 1);
    }
}
