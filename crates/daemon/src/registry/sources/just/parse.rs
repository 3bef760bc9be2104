//! A justfile as text: its recipes, aliases, imports and modules. Pure; expressions are kept as they are written.

/// Recipes of one file; what follows is passed over, and said.
const RECIPES_MAX: usize = 10_000;

/// Lines of one file that are told not to be understood.
const ODD_MAX: usize = 100;

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Justfile {
    pub recipes: Vec<Recipe>,
    /// Name, target, and whether it is private.
    pub aliases: Vec<(String, String, bool)>,
    /// Paths, as written, and whether they may be missing.
    pub imports: Vec<(String, bool)>,
    pub modules: Vec<Module>,
    /// Lines that are none of these, and why.
    pub odd: Vec<(u32, String)>,
    /// Statements that run something whatever recipe is asked for, or say what runs it.
    pub evaluated: String,
    /// Other statements.
    pub assigned: String,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    pub name: String,
    pub line: u32,
    pub doc: String,
    pub group: Option<String>,
    pub is_private: bool,
    pub parameters: Vec<Parameter>,
    /// The text of its lines.
    pub body: String,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub name: String,
    pub default: Option<String>,
    /// `+` or `*`.
    pub is_rest: bool,
    /// Neither `*` nor a default.
    pub is_required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    pub name: String,
    pub path: Option<String>,
    pub is_optional: bool,
    pub line: u32,
    pub doc: String,
}

/// Attributes and comments that stand before something.
#[derive(Default)]
struct Before {
    comment: String,
    doc: Option<String>,
    group: Option<String>,
    is_private: bool,
}

/// Reads a file.
pub(super) fn parse(text: &str) -> Justfile {
    let mut file = Justfile::default();
    let mut before = Before::default();
    let mut lines = text.lines().zip(1_u32..).peekable();
    let mut in_recipe = false;
    while let Some((first, number)) = lines.next() {
        if first.trim().is_empty() {
            // A comment documents only what stands right below it. A body may have blank lines.
            before = Before::default();
            continue;
        }
        if first.starts_with([' ', '\t']) {
            if let Some(recipe) = file.recipes.last_mut().filter(|_| in_recipe) {
                recipe.body.push_str(first.trim());
                recipe.body.push('\n');
            }
            continue;
        }
        in_recipe = false;
        if let Some(comment) = first.strip_prefix('#') {
            if !first.starts_with("#!") {
                comment.trim().clone_into(&mut before.comment);
            }
            continue;
        }
        let mut line = first.to_owned();
        while line.ends_with('\\') || is_open(&line) {
            let Some((next, _)) = lines.next() else { break };
            if line.ends_with('\\') && !is_open(&line) {
                line.pop();
                line.push(' ');
                line.push_str(next.trim());
            } else {
                line.push('\n');
                line.push_str(next);
            }
        }
        if line.starts_with('[') {
            // What follows the bracket on its line belongs to the recipe, as in `[private] build:`.
            let rest = attributes(&line, &mut before);
            if rest.is_empty() {
                continue;
            }
            line = rest;
        }
        let runs = ["`", "shell(", "set ", "[script"].iter().any(|mark| line.contains(mark));
        let text = if runs { &mut file.evaluated } else { &mut file.assigned };
        text.extend([line.replace('`', " ; ").as_str(), "\n"]);
        let taken = std::mem::take(&mut before);
        in_recipe = statement(&line, number, taken, &mut file);
    }
    file
}

/// One statement. True if a body may follow.
fn statement(line: &str, number: u32, before: Before, file: &mut Justfile) -> bool {
    let doc = before.doc.clone().unwrap_or_else(|| before.comment.clone());
    let (word, rest) = split_word(line);
    let optional = rest.starts_with('?');
    let rest = rest.trim_start_matches('?').trim();
    match word {
        "alias" if rest.contains(":=") => {
            if let Some((name, target)) = rest.split_once(":=") {
                let name = name.trim().to_owned();
                let is_private = before.is_private || name.starts_with('_');
                file.aliases.push((name, without_comment(target).trim().to_owned(), is_private));
            }
            return false;
        }
        "import" if rest.starts_with(['\'', '"', 'x', 'f']) && !rest.contains(":=") => {
            match string(rest) {
                Some(path) => file.imports.push((path, optional)),
                None => file.odd.push((number, "what is imported is known only to just".to_owned())),
            }
            return false;
        }
        "mod" if is_name(split_word(rest).0) && !split_word(rest).1.trim_start().starts_with(':') => {
            let (name, path) = split_word(rest);
            let path = without_comment_behind(path.trim());
            if !path.is_empty() && string(path).is_none() {
                file.odd.push((number, "where a module lies is known only to just".to_owned()));
                return false;
            }
            let path = string(path);
            file.modules.push(Module { name: name.to_owned(), path, is_optional: optional, line: number, doc });
            return false;
        }
        "set" | "export" | "unexport" | "unset" if is_setting(word, line) => return false,
        _ => {}
    }
    match header(line) {
        Header::Recipe(name, parameters) => {
            if file.recipes.len() > RECIPES_MAX {
                if file.odd.len() <= ODD_MAX {
                    file.odd.push((number, format!("more than {RECIPES_MAX} recipes; what follows is passed over")));
                }
                return false;
            }
            let is_private = before.is_private || name.starts_with('_');
            let recipe =
                Recipe { name, line: number, doc, group: before.group, is_private, parameters, body: String::new() };
            file.recipes.push(recipe);
            true
        }
        Header::Assignment => false,
        Header::Odd if file.odd.len() > ODD_MAX => false,
        Header::Odd => {
            file.odd.push((number, "a line is not understood and is passed over".to_owned()));
            false
        }
    }
}

/// `set x := y`, `set x`, `export x := y`: but a recipe may be called `set` too.
fn is_setting(word: &str, line: &str) -> bool {
    let rest = line[word.len()..].trim();
    rest.contains(":=") || (word != "export" && is_name(without_comment(rest).trim()))
}

enum Header {
    Recipe(String, Vec<Parameter>),
    Assignment,
    Odd,
}

/// `name p='x' +rest: deps`.
fn header(line: &str) -> Header {
    let line = line.strip_prefix('@').unwrap_or(line);
    let (name, mut rest) = split_word(line);
    if !is_name(name) {
        return Header::Odd;
    }
    let mut parameters = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.starts_with(":=") {
            return if parameters.is_empty() { Header::Assignment } else { Header::Odd };
        }
        if rest.starts_with(':') {
            return Header::Recipe(name.to_owned(), parameters);
        }
        let variadic = rest.chars().next().filter(|c| matches!(c, '+' | '*'));
        rest = rest.trim_start_matches(['+', '*']).trim_start_matches('$');
        let (parameter, after) = split_word(rest);
        if !is_name(parameter) {
            return Header::Odd;
        }
        rest = after.trim_start();
        let mut default = None;
        if let Some(value) = rest.strip_prefix('=') {
            let value = value.trim_start();
            let end = expression_end(value);
            if end == 0 {
                return Header::Odd;
            }
            default = Some(string(&value[..end]).unwrap_or_else(|| value[..end].to_owned()));
            rest = &value[end..];
        }
        parameters.push(Parameter {
            name: parameter.to_owned(),
            is_required: default.is_none() && variadic != Some('*'),
            default,
            is_rest: variadic.is_some(),
        });
    }
}

/// Where the value of a parameter ends: a string, a backtick, a name or a call, or anything in brackets.
fn expression_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut depth = 0_usize;
    while at < bytes.len() {
        match bytes[at] {
            b'\'' | b'"' | b'`' => at += quoted_length(&text[at..]).unwrap_or(text.len() - at),
            b'(' | b'{' => {
                depth += 1;
                at += 1;
            }
            b')' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
                if depth == 0 {
                    return at;
                }
            }
            b' ' | b'\t' | b'\n' | b':' if depth == 0 => return at,
            _ => at += 1,
        }
    }
    at
}

/// Length of the quoted text that begins here, quotes included; nothing if it does not end.
fn quoted_length(text: &str) -> Option<usize> {
    let quote = text.get(..1)?;
    let triple = quote.repeat(3);
    let fence = if text.starts_with(&triple) { triple.as_str() } else { quote };
    let mut at = fence.len();
    while at < text.len() {
        if quote == "\"" && text.as_bytes()[at] == b'\\' {
            at += 2;
            continue;
        }
        if text.get(at..).is_some_and(|rest| rest.starts_with(fence)) {
            return Some(at + fence.len());
        }
        at += 1;
    }
    None
}

/// Whether a quote that begins on this line has not ended.
fn is_open(line: &str) -> bool {
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => return false,
            b'\'' | b'"' | b'`' => match quoted_length(&line[at..]) {
                Some(length) => at += length,
                None => return true,
            },
            _ => at += 1,
        }
    }
    false
}

/// The string that text is, without its quotes.
fn string(text: &str) -> Option<String> {
    let plain = text.strip_prefix(['x', 'f']).filter(|rest| rest.starts_with(['\'', '"']));
    let is_expanded = plain.is_some();
    let text = plain.unwrap_or(text);
    if !text.starts_with(['\'', '"']) {
        return None;
    }
    let whole = &text[..quoted_length(text)?];
    let fence = if whole.starts_with("'''") || whole.starts_with("\"\"\"") { 3 } else { 1 };
    let inner = whole.get(fence..whole.len().checked_sub(fence)?)?;
    // The environment's variables, the home, other variables: known only when it runs.
    if is_expanded && inner.contains(['$', '~', '{']) {
        return None;
    }
    if !whole.starts_with('"') {
        return Some(inner.to_owned());
    }
    cooked(inner)
}

/// With its escapes undone; nothing if one of them is none.
fn cooked(text: &str) -> Option<String> {
    let mut cooked = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            cooked.push(c);
            continue;
        }
        match rest.next()? {
            'n' => cooked.push('\n'),
            'r' => cooked.push('\r'),
            't' => cooked.push('\t'),
            c @ ('"' | '\\') => cooked.push(c),
            '\n' => {}
            'u' => {
                let (digits, after) = rest.as_str().strip_prefix('{')?.split_once('}')?;
                cooked.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                rest = after.chars();
            }
            _ => return None,
        }
    }
    Some(cooked)
}

/// A string may have a comment behind it.
fn without_comment_behind(text: &str) -> &str {
    if text.starts_with('#') { "" } else { text }
}

/// `[private]`, `[group('x'), doc: 'y']`. Returns what follows on the line.
fn attributes(line: &str, before: &mut Before) -> String {
    let mut rest = line;
    while let Some(inner) = rest.strip_prefix('[') {
        let mut at = 0;
        let mut depth = 0_usize;
        let mut begin = 0;
        let mut ended = None;
        while at < inner.len() {
            match inner.as_bytes()[at] {
                b'\'' | b'"' => {
                    at += quoted_length(&inner[at..]).unwrap_or(inner.len() - at);
                    continue;
                }
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => {
                    attribute(&inner[begin..at], before);
                    begin = at + 1;
                }
                b']' if depth == 0 => {
                    attribute(&inner[begin..at], before);
                    ended = Some(at + 1);
                    break;
                }
                _ => {}
            }
            at += 1;
        }
        let Some(end) = ended else { return String::new() };
        rest = inner[end..].trim_start();
    }
    if rest.starts_with('#') { String::new() } else { rest.to_owned() }
}

fn attribute(text: &str, before: &mut Before) {
    let text = text.trim();
    let end = text.find(['(', ':', ' ']).unwrap_or(text.len());
    let value = string(text[end..].trim_start_matches(['(', ':', ' ']));
    match &text[..end] {
        "private" => before.is_private = true,
        // Without a value there is to be no doc, although a comment stands there.
        "doc" => before.doc = Some(value.unwrap_or_default()),
        "group" => before.group = before.group.take().or(value),
        _ => {}
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(text.len());
    text.split_at(end)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && split_word(text).1.is_empty()
}

fn without_comment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text).recipes.into_iter().map(|recipe| recipe.name).collect()
    }

    #[test]
    fn parameters_keep_their_defaults_however_they_are_written() {
        let text =
            "build target='a: b' $mode=\"x \\\" y\" out=`date +%s` dir=(a + 'b :') f=env('X', 'y') +rest='z': dep\n";
        let file = parse(text);
        let parameters: Vec<_> = file.recipes[0].parameters.iter().map(|p| (&*p.name, p.default.as_deref())).collect();
        let expected = [
            ("target", Some("a: b")),
            ("mode", Some("x \" y")),
            ("out", Some("`date +%s`")),
            ("dir", Some("(a + 'b :')")),
            ("f", Some("env('X', 'y')")),
            ("rest", Some("z")),
        ];
        assert_eq!(parameters, expected);
        let optional = &parse("x a *b:\n").recipes[0].parameters;
        assert_eq!((optional[0].is_required, optional[1].is_required, optional[1].is_rest), (true, false, true));
    }

    #[test]
    fn settings_variables_and_their_strings_are_no_recipes() {
        let text = "set shell := ['bash', '-c']\nset dotenv-load\nexport A := 'x'\nv := '''\nnot-a-recipe:\n'''\n\
                    w := `\nnor: this\n`\nlong := 'a' + \\\n  'b'\nreal:\n  echo\nset:\n";
        assert_eq!(names(text), ["real", "set"]);
        assert!(parse(text).odd.is_empty());
    }

    #[test]
    fn only_the_comment_right_above_documents() {
        let text =
            "# header\n\n# first\n# second\n[no-cd]\na:\n\n# gone\n\nb:\n[doc('own')]\n# comment\nc:\n[doc]\n# x\nd:\n";
        let docs: Vec<_> = parse(text).recipes.into_iter().map(|recipe| recipe.doc).collect();
        assert_eq!(docs, ["second", "", "own", ""]);
    }

    #[test]
    fn private_is_by_name_and_by_attribute() {
        let text = "_a:\n[private]\nb:\n[private, no-cd]\nc:\n[group: 'x', private]\nd:\ne:\n";
        let private: Vec<_> = parse(text).recipes.into_iter().map(|recipe| recipe.is_private).collect();
        assert_eq!(private, [true, true, true, true, false]);
    }

    #[test]
    fn imports_modules_and_aliases_are_found() {
        let file =
            parse("import 'a.just'\nimport? \"b.just\"\nmod foo\nmod? bar 'x/y.just'\nalias t := test # x\ntest:\n");
        assert_eq!(file.imports, [("a.just".to_owned(), false), ("b.just".to_owned(), true)]);
        assert_eq!(
            file.modules.iter().map(|module| module.path.as_deref()).collect::<Vec<_>>(),
            [None, Some("x/y.just")]
        );
        assert_eq!(file.aliases, [("t".to_owned(), "test".to_owned(), false)]);
    }

    #[test]
    fn a_body_is_never_taken_for_a_recipe() {
        let text = "a:\n  #!/bin/sh\n  x:\n\n  y := 1\n\tz:\nb: a\n    @echo 'it''s'\n";
        assert_eq!(names(text), ["a", "b"]);
        assert_eq!(parse(text).recipes[0].body, "#!/bin/sh\nx:\ny := 1\nz:\n");
    }
}
