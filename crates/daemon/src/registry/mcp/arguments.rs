//! From words that somebody types to the arguments of a tool, by the tool's schema.
//!
//! `key=value …`, or all of it as one JSON object: `--json '{…}'`, or just `{…}`; from standard input with `--json -`. A single word without
//! a key is the one argument that the tool must have. What is wrong is said with what the tool takes. The schema's finer points are the
//! server's to check.

use rmcp::model::JsonObject;
use serde_json::Value;

use super::offers::hint;

/// How alike two names must be for the one to be taken for the other, mistyped: from 0 to 1.
const NEAR: f64 = 0.75;

/// The arguments that `words` mean.
///
/// # Errors
/// In words, what is wrong.
pub(super) fn of(words: &[String], stdin: &[u8], schema: Option<&Value>) -> Result<JsonObject, String> {
    let takes = || match schema.and_then(hint) {
        Some(hint) => format!("it takes {hint}"),
        None => "it takes nothing that is known; give it --json '{…}'".to_owned(),
    };
    let arguments = match words {
        [flag, text] if flag == "--json" && text == "-" => object(&String::from_utf8_lossy(stdin))?,
        [flag, text] if flag == "--json" => object(text)?,
        [text] if text.trim_start().starts_with('{') => object(text)?,
        [] if stdin.trim_ascii_start().starts_with(b"{") => object(&String::from_utf8_lossy(stdin))?,
        words => pairs(words, schema).map_err(|why| format!("{why}; {}", takes()))?,
    };
    let missing: Vec<&str> = required(schema).filter(|name| !arguments.contains_key(*name)).collect();
    if !missing.is_empty() {
        let are = if missing.len() == 1 { "is" } else { "are" };
        return Err(format!("{} {are} missing; {}", missing.join(" and "), takes()));
    }
    Ok(arguments)
}

fn object(text: &str) -> Result<JsonObject, String> {
    serde_json::from_str(text).map_err(|error| format!("the arguments are no JSON object: {error}"))
}

fn required(schema: Option<&Value>) -> impl Iterator<Item = &str> {
    let required = schema.and_then(|schema| schema.get("required")?.as_array());
    required.into_iter().flatten().filter_map(Value::as_str)
}

fn pairs(words: &[String], schema: Option<&Value>) -> Result<JsonObject, String> {
    let properties = schema.and_then(|schema| schema.get("properties")?.as_object());
    let only = match required(schema).collect::<Vec<_>>()[..] {
        [one] => Some(one.to_owned()),
        _ => properties.filter(|all| all.len() == 1).and_then(|all| all.keys().next().cloned()),
    };
    let is_known = |name: &str| properties.is_none_or(|all| all.contains_key(name));
    let mut arguments = JsonObject::new();
    for word in words {
        let (name, text) = match (word.split_once('='), &only) {
            (Some((name, text)), _) if is_known(name) => (name, text),
            (_, Some(only)) if words.len() == 1 => (only.as_str(), word.as_str()),
            (Some((name, text)), _) if takes_any(schema) => (name, text),
            (Some((name, _)), _) => return Err(unknown(name, properties)),
            (None, _) => return Err(format!("\"{word}\" is not of the form NAME=VALUE")),
        };
        let property = properties.and_then(|all| all.get(name));
        let is_list = property.is_some_and(|property| property["type"] == "array");
        match arguments.get_mut(name) {
            Some(Value::Array(all)) if is_list => all.push(item(text, property)),
            Some(_) => return Err(format!("{name} is given twice")),
            None => _ = arguments.insert(name.to_owned(), value(name, text, property)?),
        }
    }
    Ok(arguments)
}

/// Also names that it does not list.
fn takes_any(schema: Option<&Value>) -> bool {
    schema.is_none_or(|schema| schema.get("additionalProperties").is_some_and(|more| more != &Value::Bool(false)))
}

fn unknown(name: &str, properties: Option<&JsonObject>) -> String {
    let names = properties.into_iter().flat_map(JsonObject::keys);
    let near = names.map(|known| (strsim::jaro_winkler(known, name), known)).filter(|(alike, _)| *alike > NEAR);
    match near.max_by(|one, other| one.0.total_cmp(&other.0)) {
        Some((_, known)) => format!("it has no \"{name}\" (did you mean {known}?)"),
        None => format!("it has no \"{name}\""),
    }
}

/// A text as the schema wants it.
fn value(name: &str, text: &str, property: Option<&Value>) -> Result<Value, String> {
    let json = |is_meant: fn(&Value) -> bool| serde_json::from_str(text).ok().filter(is_meant);
    let wanted = |what: &str, value: Option<Value>| value.ok_or_else(|| format!("{name} is {what}, not \"{text}\""));
    match property.and_then(|property| property.get("type")?.as_str()) {
        Some("string") => Ok(Value::String(text.to_owned())),
        Some("integer") => wanted("a whole number", json(|value| value.is_i64() || value.is_u64())),
        Some("number") => wanted("a number", json(Value::is_number)),
        Some("boolean") => wanted("true or false", json(Value::is_boolean)),
        Some("object") => wanted("a JSON object", json(Value::is_object)),
        Some("array") => Ok(json(Value::is_array).unwrap_or_else(|| Value::Array(vec![item(text, property)]))),
        // Nothing is said of it, or several things: what is JSON is meant so.
        _ => Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))),
    }
}

/// One of a list.
fn item(text: &str, property: Option<&Value>) -> Value {
    let of = property.and_then(|property| property.get("items")?.get("type")?.as_str());
    let as_it_is = || Value::String(text.to_owned());
    match of {
        None | Some("string") => as_it_is(),
        Some(_) => serde_json::from_str(text).unwrap_or_else(|_| as_it_is()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(words: &[&str], stdin: &str, schema: &Value) -> Result<Value, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        of(&words, stdin.as_bytes(), Some(schema)).map(Value::Object)
    }

    #[test]
    fn words_become_what_the_schema_asks_for() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "number"}, "t": {"type": "string"}, "b": {"type": "boolean"},
            "l": {"type": "array", "items": {"type": "string"}}, "o": {"type": "object"}, "any": {},
        }});
        for (words, expected) in [
            (vec!["a=1.5", "t=x=y", "b=true"], json!({"a": 1.5, "t": "x=y", "b": true})),
            (vec!["a=1", "t=5", "any=5"], json!({"a": 1, "t": "5", "any": 5})),
            (vec!["a=1", "l=x", "l=y"], json!({"a": 1, "l": ["x", "y"]})),
            (vec!["a=1", r#"l=["x"]"#, r#"o={"k":1}"#], json!({"a": 1, "l": ["x"], "o": {"k": 1}})),
            (vec!["7"], json!({"a": 7})),
            (vec!["--json", r#"{"a":2}"#], json!({"a": 2})),
            (vec![r#" {"a":3,"zzz":1}"#], json!({"a": 3, "zzz": 1})),
        ] {
            assert_eq!(given(&words, "", &schema), Ok(expected), "{words:?}");
        }
        assert_eq!(given(&["--json", "-"], r#"{"a":4}"#, &schema), Ok(json!({"a": 4})));
        assert_eq!(given(&[], r#"{"a":5}"#, &schema), Ok(json!({"a": 5})));
        for (words, part) in [
            (vec![], "a is missing; it takes a=NUMBER"),
            (vec!["a=x"], "a is a number, not \"x\""),
            (vec!["a=1", "aany=2"], "did you mean any?"),
            (vec!["a=1", "word"], "not of the form NAME=VALUE"),
            (vec!["a=1", "a=2"], "given twice"),
            (vec!["--json", "[1]"], "no JSON object"),
            (vec!["--json", "{}"], "a is missing"),
        ] {
            let refused = given(&words, "", &schema);
            assert!(refused.as_ref().is_err_and(|why| why.contains(part)), "{words:?}: {refused:?}");
        }
    }

    #[test]
    fn a_tool_that_says_nothing_of_its_arguments_takes_all() {
        let words = ["k=v".to_owned(), "n=1".to_owned()];
        assert_eq!(of(&words, b"", None).map(Value::Object), Ok(json!({"k": "v", "n": 1})));
    }
}
