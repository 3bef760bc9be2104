//! Any of the formats with keys and values (JSON, JSON with comments, TOML, YAML) as one ordered tree.
//!
//! Promise: keys stay in the order of the file (TOML: sorted), depth and, for YAML, nodes are bounded, and what is no
//! such text is an error with its line, never a panic. Knows nothing of what the keys mean.

use std::fmt;

use jsonc_parser::ParseOptions;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Nodes of one YAML document that is a file of its own.
const YAML_NODES_MAX: usize = 50_000;

/// Nodes of front matter.
pub(super) const FRONT_MATTER_NODES_MAX: usize = 2_000;

/// Levels of any tree. Not every parser has a bound of its own for what would overflow the stack.
const DEPTH_MAX: usize = 64;

/// Nodes that aliases of one YAML document may repeat: anchors are usual there, bombs are not.
const YAML_REPLAYED_MAX: usize = 10_000;

/// A value of any of the formats.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// As the format's parser has read it.
    Number(String),
    /// A string.
    Text(String),
    /// In order.
    List(Vec<Tree>),
    /// In order; of equal keys the last one counts.
    Map(Vec<(String, Tree)>),
}

/// Why text is no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeError {
    /// From 1, if the parser knows it.
    pub line: Option<u32>,
    /// One line.
    pub message: String,
}

impl Tree {
    /// For people, a line for each value, texts in quotes: no two trees give the same.
    pub(super) fn plain(&self) -> String {
        let mut text = String::new();
        self.write_plain("", &mut text);
        text
    }

    /// Behind a key or a dash, which end their line where more follows.
    fn write_plain(&self, indent: &str, text: &mut String) {
        let quoted = |value: &str| serde_json::Value::from(value).to_string();
        let begin = |text: &mut String| text.push_str(if text.is_empty() { "" } else { "\n" });
        let deeper = format!("{indent}  ");
        match self {
            Self::Null => text.push_str(" null\n"),
            Self::Bool(value) => text.push_str(if *value { " true\n" } else { " false\n" }),
            Self::Number(value) => text.extend([" ", value, "\n"]),
            Self::Text(value) => text.extend([" ", &quoted(value), "\n"]),
            Self::List(values) if values.is_empty() => text.push_str(" []\n"),
            Self::Map(pairs) if pairs.is_empty() => text.push_str(" {}\n"),
            Self::List(values) => {
                begin(text);
                for value in values {
                    text.extend([indent, "-"]);
                    value.write_plain(&deeper, text);
                }
            }
            Self::Map(pairs) => {
                begin(text);
                for (name, value) in pairs {
                    text.extend([indent, &quoted(name), ":"]);
                    value.write_plain(&deeper, text);
                }
            }
        }
    }

    /// JSON as its standard has it.
    pub(super) fn json(text: &str) -> Result<Self, TreeError> {
        serde_json::from_str(text).map_err(|error| not_json(&error))
    }

    /// The value at a path of keys in JSON; what lies beside is checked and not kept.
    pub(super) fn json_at(text: &str, path: &[&str]) -> Result<Option<Self>, TreeError> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let found = At(path).deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
        found.map_err(|error| not_json(&error))
    }

    /// JSON with comments and trailing commas, as editors write it.
    pub(super) fn jsonc(text: &str) -> Result<Self, TreeError> {
        let options = ParseOptions {
            allow_comments: true,
            allow_loose_object_property_names: false,
            allow_trailing_commas: true,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            ..ParseOptions::default()
        };
        jsonc_parser::parse_to_serde_value(text, &options)
            .map_err(|error| TreeError { line: None, message: format!("is not valid JSON with comments: {error}") })
    }

    /// TOML.
    pub(super) fn toml(text: &str) -> Result<Self, TreeError> {
        toml::from_str(text).map_err(|error: toml::de::Error| TreeError {
            line: error.span().and_then(|span| line_at(text, span.start)),
            message: format!("is not valid TOML: {}", error.message()),
        })
    }

    /// A YAML document with anchors and aliases, both bounded.
    pub(super) fn yaml(text: &str) -> Result<Self, TreeError> {
        Self::yaml_within(text, YAML_NODES_MAX, 1_000)
    }

    /// YAML as front matter may hold it: few nodes, no aliases.
    pub(super) fn front_matter(text: &str) -> Result<Self, TreeError> {
        Self::yaml_within(text, FRONT_MATTER_NODES_MAX, 0)
    }

    fn yaml_within(text: &str, nodes: usize, aliases: usize) -> Result<Self, TreeError> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_nodes: nodes,
                max_events: nodes * 3,
                max_depth: DEPTH_MAX,
                flow_nesting_limit: DEPTH_MAX,
                max_documents: 1,
                max_aliases: aliases,
                max_anchors: aliases,
                max_total_scalar_bytes: text.len().saturating_mul(2),
            },
            duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: YAML_REPLAYED_MAX,
                max_replay_stack_depth: DEPTH_MAX,
                max_alias_expansions_per_anchor: 200,
            },
            // A task may be called `y` or `on`; who wants a truth asks for it.
            strict_booleans: true,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| TreeError {
            line: error.location().and_then(|at| u32::try_from(at.line()).ok()),
            message: format!("is not valid YAML: {}", without_place(&error.to_string())),
        })
    }

    /// The value of a key; nothing of anything but a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.map().iter().rev().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The first of some keys that is there.
    pub(super) fn get_any(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().find_map(|key| self.get(key))
    }

    /// The pairs of a map; of anything else none.
    pub(super) fn map(&self) -> &[(String, Self)] {
        match self {
            Self::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// The values of a list; of anything else none.
    pub(super) fn list(&self) -> &[Self] {
        match self {
            Self::List(values) => values,
            _ => &[],
        }
    }

    /// A string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A string, or what is written like one without quotes.
    pub(super) fn scalar(&self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.clone()),
            Self::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// A string of a key.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::text)
    }

    /// A list of strings, or one string alone.
    pub(super) fn texts(&self) -> Vec<String> {
        match self {
            Self::List(values) => values.iter().filter_map(Self::scalar).collect(),
            other => other.scalar().into_iter().collect(),
        }
    }

    /// Names and values of a map whose values are scalars.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        self.map().iter().filter_map(|(name, value)| Some((name.clone(), value.scalar()?))).collect()
    }

    /// Yes or no in any of the ways that people write it: true, yes, on, 1 and their opposites.
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Text(text) | Self::Number(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// Yes or no of a key.
    pub(super) fn truth_of(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Self::truth)
    }
}

/// The first line of a parser's message, without its own word on where: front matter begins elsewhere than its file.
fn without_place(message: &str) -> &str {
    let first = message.lines().next().unwrap_or_default();
    first.rfind(" at line ").map_or(first, |at| &first[..at])
}

fn not_json(error: &serde_json::Error) -> TreeError {
    TreeError {
        line: u32::try_from(error.line()).ok(),
        message: format!("is not valid JSON: {}", without_place(&error.to_string())),
    }
}

/// Number of the line that a byte is in.
pub(super) fn line_at(text: &str, byte: usize) -> Option<u32> {
    let before = text.as_bytes().get(..byte)?;
    u32::try_from(memchr::memchr_iter(b'\n', before).count() + 1).ok()
}

/// Reads the value at a path of keys, if what it stands in are maps.
struct At<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Tree>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Tree>, D::Error> {
        if self.0.is_empty() { Tree::deserialize(deserializer).map(Some) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Tree>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Option<Tree>, A::Error> {
        let mut found = None;
        while let Some(key) = pairs.next_key::<String>()? {
            if self.0.first() == Some(&key.as_str()) {
                found = pairs.next_value_seed(At(&self.0[1..]))?;
            } else {
                pairs.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Reads a value that stands so many levels deep.
#[derive(Clone, Copy)]
struct Level(usize);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Level(0))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Level {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.0 < DEPTH_MAX { Ok(Self(self.0 + 1)) } else { Err(E::custom("it is nested too deeply")) }
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Text(String::from_utf8_lossy(value).into_owned()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Tree, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = values.next_element_seed(deeper)? {
            list.push(value);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Tree, A::Error> {
        let deeper = self.deeper()?;
        let mut map = Vec::new();
        while let Some((key, value)) = pairs.next_entry_seed(deeper, deeper)? {
            // A key that is itself a list or a map names nothing that we know.
            if let Some(key) = key.scalar() {
                map.push((key, value));
            }
        }
        Ok(Tree::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn a_tree_is_shown_without_any_of_its_readers_words() {
        let tree =
            Tree::json(r#"{"command": "npx", "args": ["-y", "a b"], "env": {}, "on": [{"n": 1}, null]}"#).unwrap();
        let shown = "\"command\": \"npx\"\n\"args\":\n  - \"-y\"\n  - \"a b\"\n\"env\": {}\n\"on\":\n  -\n    \"n\": 1\n  - null\n";
        assert_eq!(tree.plain(), shown);
    }

    #[test]
    fn keys_stay_in_the_order_of_the_file() {
        let expected = ["b", "a", "c"];
        for tree in [
            Tree::json(r#"{"b":1,"a":2,"c":3}"#).unwrap(),
            Tree::jsonc("{\"b\":1, // one\n\"a\":2,/* two */\"c\":3,}").unwrap(),
            Tree::yaml("b: 1\na: 2\nc: 3\n").unwrap(),
        ] {
            assert_eq!(tree.map().iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn every_way_to_say_yes_and_no_is_understood() {
        for yes in ["true", "yes", "Yes", "on", "ON", "1", "'true'"] {
            assert_eq!(Tree::yaml(&format!("x: {yes}")).unwrap().truth_of("x"), Some(true), "{yes}");
        }
        for no in ["false", "no", "off", "0", "\"no\""] {
            assert_eq!(Tree::yaml(&format!("x: {no}")).unwrap().truth_of("x"), Some(false), "{no}");
        }
        assert_eq!(Tree::yaml("x: maybe").unwrap().truth_of("x"), None);
    }

    #[test]
    fn an_error_says_its_line() {
        assert_eq!(Tree::json("{\n\"a\": }").unwrap_err().line, Some(2));
        assert_eq!(Tree::toml("a = 1\nb = = 2\n").unwrap_err().line, Some(2));
        assert!(Tree::yaml("a: 1\nb: [1\n").unwrap_err().line.is_some());
        assert!(Tree::jsonc("{\"a\": }").unwrap_err().message.contains("line 1"));
    }

    #[test]
    fn anchors_work_in_files_and_are_refused_in_front_matter() {
        let text = "base: &base {cmd: x}\nuse:\n  <<: *base\n  desc: y\n";
        assert_eq!(Tree::yaml(text).unwrap().get("use").unwrap().text_of("cmd"), Some("x"));
        assert!(Tree::front_matter(text).is_err());
    }

    #[test]
    fn bombs_of_aliases_depth_and_nodes_end_at_their_bound() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let before = level - 1;
            writeln!(bomb, "a{level}: &a{level} [*a{before},*a{before},*a{before},*a{before},*a{before}]").unwrap();
        }
        assert!(Tree::yaml(&bomb).is_err());
        assert!(Tree::yaml(&"[".repeat(100_000)).is_err());
        assert!(Tree::json(&"[".repeat(100_000)).is_err());
        assert!(Tree::jsonc(&"[".repeat(100_000)).is_err());
        assert!(Tree::toml(&format!("a = {}", "[".repeat(100_000))).is_err());
        // Less than any parser's own bound.
        let nested = format!("{}{}", "[".repeat(DEPTH_MAX + 10), "]".repeat(DEPTH_MAX + 10));
        for refused in [Tree::json(&nested), Tree::jsonc(&nested), Tree::toml(&format!("a = {nested}"))] {
            assert!(refused.is_err());
        }
        assert!(Tree::front_matter(&"- x\n".repeat(FRONT_MATTER_NODES_MAX + 1)).is_err());
    }
}
