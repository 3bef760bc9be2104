//! `${NAME}` and `${NAME:-default}` in what a file says of a server.
//!
//! Promise: only names that the user's agreement has are replaced, in one pass: what a variable holds is not looked through again.

/// What stands in `text` for one process; `value` knows the variables that were agreed to.
///
/// # Errors
/// The name of a variable that is not set and has no default.
pub(super) fn expand(text: &str, value: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut all = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        all.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
        let (name, behind) = inside.split_at(end);
        let close = if behind.starts_with('}') {
            Some((None, 1))
        } else {
            let default = behind.strip_prefix(":-").and_then(|behind| behind.split_once('}'));
            default.map(|(default, _)| (Some(default), 2 + default.len() + 1))
        };
        match close.filter(|_| !name.is_empty()) {
            None => {
                all.push_str("${");
                rest = inside;
            }
            Some((default, length)) => {
                let value = value(name).or_else(|| default.map(str::to_owned)).ok_or_else(|| name.to_owned())?;
                all.push_str(&value);
                rest = &behind[length..];
            }
        }
    }
    all.push_str(rest);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_once_and_what_is_missing_is_named() {
        let value = |name: &str| match name {
            "A" => Some("a${B}".to_owned()),
            "B" => Some("b".to_owned()),
            _ => None,
        };
        for (text, expected) in [
            ("x ${A} ${B}y", Ok("x a${B} by")),
            ("${C:-de fault}!", Ok("de fault!")),
            ("${A:-unused}", Ok("a${B}")),
            ("${C:-}", Ok("")),
            ("$A ${} ${A ${-} ${", Ok("$A ${} ${A ${-} ${")),
            ("é${B}é", Ok("ébé")),
            ("${C}", Err("C")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(expand(text, &value), expected, "{text}");
        }
    }
}
