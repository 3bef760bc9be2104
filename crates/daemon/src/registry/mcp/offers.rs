//! From what a server lists to what the registry holds.
//!
//! Promise: whatever it lists, at most [`OFFERS_MAX`] are taken, with schemas of [`SCHEMAS_BYTES_MAX`] in all; what is left out is told.
//! Names and texts are checked as those of files are.

use std::fmt::Write as _;
use std::sync::Arc;

use rmcp::model::{JsonObject, Prompt, Tool};
use serde_json::{Value, json};
use shellkeep_protocol::registry::{Diagnostic, Kind, Trust};

use super::super::core::source_of;
use super::super::entry::{Draft, Entry, Exec, Offer};
use super::super::slice::Slice;

/// Tools and prompts of one server.
pub(super) const OFFERS_MAX: usize = 1_000;

/// One schema, and those of one server.
const SCHEMA_BYTES_MAX: usize = 8 << 10;
const SCHEMAS_BYTES_MAX: usize = 1 << 20;

/// Arguments that a hint names.
const HINT_NAMES_MAX: usize = 12;

/// What `server` offers.
pub(super) fn slice(server: &Arc<Entry>, tools: Vec<Tool>, prompts: Vec<Prompt>) -> Slice {
    let source = source_of(server);
    let over = (tools.len() + prompts.len()).saturating_sub(OFFERS_MAX);
    let mut told = Vec::new();
    let mut tell = |message: String| {
        told.push(Diagnostic { source: source.clone(), file: None, line: None, message, is_loss: false });
    };
    if over > 0 {
        tell(format!("{over} more of {} are left out: the limit is {OFFERS_MAX}", server.name));
    }
    let names: Vec<String> = tools.iter().map(|tool| tool.name.to_string()).collect();
    let tools = tools.into_iter().map(|tool| {
        let schema = Value::Object(tool.input_schema.as_ref().clone());
        let title = tool.title.or_else(|| tool.annotations?.title);
        (tool.name.into_owned(), title, tool.description.map(Into::into), schema, false)
    });
    let prompts = prompts.into_iter().map(|prompt| {
        let schema = schema_of(&prompt);
        (prompt.name, prompt.title, prompt.description, schema, true)
    });
    let mut left = SCHEMAS_BYTES_MAX;
    let mut drafts = Vec::new();
    for (name, title, description, schema, is_prompt) in tools.chain(prompts).take(OFFERS_MAX) {
        let text = schema.to_string();
        let fits = text.len() <= SCHEMA_BYTES_MAX.min(left);
        if fits {
            left -= text.len();
        } else {
            tell(format!("the schema of {name} is left out: it is too large; give it --json"));
        }
        // A prompt may be called as a tool is.
        let called = if is_prompt && names.contains(&name) { format!("prompt:{name}") } else { name.clone() };
        let is_own = server.is_own();
        let offer = Offer { server: Arc::clone(&server.id), agreed: server.decides, name, is_prompt, is_own };
        drafts.push(Draft {
            description: description.unwrap_or_default(),
            display_name: title,
            args_hint: hint(&schema),
            schema: fits.then_some(text),
            ..draft(server, &called, offer)
        });
    }
    Slice::new(&source, drafts, told)
}

fn draft(server: &Entry, called: &str, offer: Offer) -> Draft {
    let kind = if offer.is_prompt { Kind::McpPrompt } else { Kind::McpTool };
    let mut decides = server.decides.0.to_vec();
    decides.extend(kind.name().as_bytes());
    decides.extend(offer.name.as_bytes());
    let exec = Exec::Mcp(Arc::new(offer));
    Draft {
        path: server.path.as_ref().map(ToString::to_string),
        group: Some(server.name.to_string()),
        aliases: vec![format!("mcp__{}__{called}", server.name)],
        decides,
        trust: Trust::Trusted, // nothing is listed by a server that is not
        ..Draft::new(called, &server.name, kind, server.scope, exec)
    }
}

/// What a prompt takes, as a tool would say it: texts.
fn schema_of(prompt: &Prompt) -> Value {
    let arguments = prompt.arguments.as_deref().unwrap_or_default();
    let property = |description: &Option<String>| match description {
        Some(description) => json!({"type": "string", "description": description}),
        None => json!({"type": "string"}),
    };
    let properties: JsonObject =
        arguments.iter().map(|argument| (argument.name.clone(), property(&argument.description))).collect();
    let required: Vec<&str> = arguments
        .iter()
        .filter(|argument| argument.required == Some(true))
        .map(|argument| argument.name.as_str())
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// `a=NUMBER b=NUMBER [note=TEXT]`, those that must be given first.
pub(super) fn hint(schema: &Value) -> Option<String> {
    let properties = schema.get("properties")?.as_object()?;
    let is_required = |name: &str| {
        let required = schema.get("required").and_then(Value::as_array);
        required.is_some_and(|required| required.iter().any(|one| one == name))
    };
    let (first, then): (Vec<_>, Vec<_>) = properties.iter().partition(|(name, _)| is_required(name));
    let mut hint = String::new();
    for (name, property) in first.iter().chain(&then).take(HINT_NAMES_MAX) {
        let space = if hint.is_empty() { "" } else { " " };
        let kind = kind_of(property);
        let _infallible = if is_required(name) {
            write!(hint, "{space}{name}={kind}")
        } else {
            write!(hint, "{space}[{name}={kind}]")
        };
    }
    if first.len() + then.len() > HINT_NAMES_MAX {
        hint.push_str(" …");
    }
    (!hint.is_empty()).then_some(hint)
}

fn kind_of(property: &Value) -> &'static str {
    match property.get("type").and_then(Value::as_str) {
        Some("string") => "TEXT",
        Some("integer" | "number") => "NUMBER",
        Some("boolean") => "true|false",
        Some("array") => "[…]",
        Some("object") => "{…}",
        _ => "VALUE",
    }
}

#[cfg(test)]
mod tests {
    use shellkeep_protocol::registry::Scope;

    use super::*;

    fn server() -> Arc<Entry> {
        let draft = Draft::new("demo", "mcp", Kind::McpServer, Scope::Project, Exec::Nothing);
        Arc::clone(&Slice::new("project:mcp", vec![draft], Vec::new()).entries()[0])
    }

    fn tool(name: &str, schema: Value) -> Tool {
        let Value::Object(schema) = schema else { panic!("{schema}") };
        Tool::new(name.to_owned(), "Does\u{1b}[31m it", Arc::new(schema))
    }

    ///
    #[test]
    fn tools_and_prompts_have_the_servers_name_before_theirs_and_both_forms_of_it() {
        let sum = json!({"type": "object", "properties": {"note": {"type": "string"}, "a": {"type": "number"}}, "required": ["a"]});
        let prompt = Prompt::new("sum", Some("Asks"), None);
        let slice = slice(&server(), vec![tool("sum", sum)], vec![prompt]);
        let seen: Vec<_> = slice
            .entries()
            .iter()
            .map(|entry| (&*entry.qualified_name, &*entry.aliases[0], entry.kind, entry.group.as_deref()))
            .collect();
        let expected = [
            ("demo:sum", "mcp__demo__sum", Kind::McpTool, Some("demo")),
            ("demo:prompt:sum", "mcp__demo__prompt:sum", Kind::McpPrompt, Some("demo")),
        ];
        assert_eq!(seen, expected);
        assert_eq!(slice.entries()[0].args_hint.as_deref(), Some("a=NUMBER [note=TEXT]"));
        assert_eq!(&*slice.entries()[0].description, "Does it");
    }

    #[test]
    fn what_a_server_lists_is_bounded_and_what_is_left_out_is_told() {
        let large = json!({"type": "object", "description": "x".repeat(SCHEMA_BYTES_MAX)});
        let mut tools: Vec<Tool> = (0..OFFERS_MAX).map(|n| tool(&format!("t{n}"), json!({}))).collect();
        tools.insert(0, tool("large", large));
        tools.insert(1, tool("bad name", json!({})));
        let slice = slice(&server(), tools, Vec::new());
        assert_eq!(slice.entries().len(), OFFERS_MAX - 1);
        assert_eq!(slice.entries()[0].schema, None);
        let told: Vec<&str> = slice.diagnostics().iter().map(|told| &*told.message).collect();
        assert!(told.iter().any(|told| told.starts_with("2 more of demo")), "{told:?}");
        assert!(told.iter().any(|told| told.contains("schema of large")) && told.len() == 3, "{told:?}");
    }
}
