//! From the commands of a session to what an agent is offered.
//!
//! Promise: every name is one that agents accept, each stands for one command, and the same list gives the same names. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use rmcp::model::{JsonObject, Prompt, PromptArgument, Tool};
use serde_json::{Value, json};
use shellkeep_protocol::registry::{EntryInfo, EntryState, Kind, Trust};

/// Longest name that all agents accept. Source: the rule of several of them, `^[a-zA-Z0-9_-]{1,64}$`.
const NAME_BYTES_MAX: usize = 64;

/// What an agent is offered.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Things that can be done, with their names.
    pub(super) tools: Vec<(String, EntryInfo)>,
    /// Texts, with their names.
    pub(super) prompts: Vec<(String, EntryInfo)>,
}

/// Of all commands of a session those that an agent can use. `is_inner`: not what servers of tools offer.
pub(super) fn of(entries: Vec<EntryInfo>, is_inner: bool) -> Offers {
    let mut offers = Offers::default();
    let mut taken: HashSet<String> = super::record::NAMES.iter().map(|name| (*name).to_owned()).collect();
    let mut taken_prompts = HashSet::new();
    for entry in entries {
        match entry.kind {
            Kind::McpTool | Kind::McpPrompt | Kind::McpServer if is_inner => {}
            Kind::Prompt | Kind::Skill | Kind::McpPrompt => {
                let name = name_of(&entry.qualified_name, &mut taken_prompts);
                offers.prompts.push((name, entry));
            }
            // A server that waits for the user's word; one that has it offers its tools itself.
            Kind::McpServer if entry.trust == Trust::Trusted => {}
            Kind::McpServer
            | Kind::McpTool
            | Kind::UserCommand
            | Kind::ProjectCommand
            | Kind::Task
            | Kind::Package
            | Kind::Extension => {
                let name = name_of(&entry.qualified_name, &mut taken);
                offers.tools.push((name, entry));
            }
            Kind::Builtin | Kind::Service | Kind::Agent | Kind::Hook => {}
        }
    }
    offers
}

/// A name that agents accept and nobody has yet.
fn name_of(name: &str, taken: &mut HashSet<String>) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let name: String = name.chars().map(allowed).take(NAME_BYTES_MAX).collect();
    let mut number = 1_usize;
    let mut wanted = name.clone();
    while !taken.insert(wanted.clone()) {
        number += 1;
        let end = format!("_{number}");
        let room = NAME_BYTES_MAX.saturating_sub(end.len());
        wanted = name.chars().take(room).collect::<String>() + &end;
    }
    wanted
}

/// One command as a tool.
pub(super) fn tool(name: &str, entry: &EntryInfo) -> Tool {
    let mut tool = Tool::new(name.to_owned(), description(entry), Arc::new(schema(entry)));
    tool.title = Some(entry.display_name.clone().unwrap_or_else(|| entry.qualified_name.clone()));
    tool
}

fn description(entry: &EntryInfo) -> String {
    let mut text = entry.description.clone();
    let mut add = |more: String| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&more);
    };
    if entry.kind != Kind::McpTool && !entry.runs.is_empty() {
        add(format!("Runs: {}", entry.runs));
    }
    if let Some(hint) = entry.args_hint.as_ref().filter(|_| entry.kind != Kind::McpTool) {
        add(format!("Arguments: {hint}"));
    }
    if entry.trust != Trust::Trusted {
        add(format!(
            "Not trusted yet: the user agrees with \"shellkeep trust {}\" at a terminal.",
            entry.qualified_name
        ));
    }
    if let EntryState::Unavailable(why) = &entry.state {
        add(format!("Unavailable now: {why}"));
    }
    text
}

fn schema(entry: &EntryInfo) -> JsonObject {
    let own = entry.schema.as_deref().and_then(|schema| serde_json::from_str::<Value>(schema).ok());
    let schema = match (own, entry.kind) {
        (Some(schema @ Value::Object(_)), _) => schema,
        (_, Kind::McpTool) => json!({"type": "object"}),
        _ => json!({"type": "object", "additionalProperties": false, "properties": {
            "args": {"type": "array", "items": {"type": "string"}, "description": "Its arguments, a word each"},
            "stdin": {"type": "string", "description": "What it reads on its standard input"},
        }}),
    };
    let Value::Object(mut schema) = schema else { return JsonObject::new() };
    schema.entry("type").or_insert_with(|| "object".into());
    schema
}

/// One text as a prompt.
pub(super) fn prompt(name: &str, entry: &EntryInfo) -> Prompt {
    let schema = entry.schema.as_deref().and_then(|schema| serde_json::from_str::<Value>(schema).ok());
    let arguments = match schema.as_ref().and_then(|schema| schema["properties"].as_object()) {
        Some(properties) if entry.kind == Kind::McpPrompt => {
            let required = |name: &str| {
                let required = schema.as_ref().and_then(|schema| schema["required"].as_array());
                required.is_some_and(|required| required.iter().any(|one| one == name))
            };
            let argument = |(name, property): (&String, &Value)| {
                let argument = PromptArgument::new(name.clone()).with_required(required(name));
                match property["description"].as_str() {
                    Some(description) => argument.with_description(description),
                    None => argument,
                }
            };
            properties.iter().map(argument).collect()
        }
        _ => {
            let hint = entry.args_hint.clone().unwrap_or_else(|| "What is put in where the text says so".to_owned());
            vec![PromptArgument::new(ARGUMENTS).with_description(hint).with_required(false)]
        }
    };
    Prompt::new(name, Some(description(entry)), Some(arguments))
}

/// The one argument of a prompt that has no names for its own.
pub(super) const ARGUMENTS: &str = "arguments";

#[cfg(test)]
mod tests {
    use shellkeep_protocol::registry::{Digest, Scope};

    use super::*;

    fn entry(name: &str, kind: Kind, trust: Trust) -> EntryInfo {
        EntryInfo {
            id: name.to_owned(),
            name: name.to_owned(),
            qualified_name: name.to_owned(),
            kind,
            scope: Scope::Project,
            source: "s".to_owned(),
            path: None,
            description: "Does it".to_owned(),
            args_hint: None,
            schema: None,
            group: None,
            display_name: None,
            aliases: Vec::new(),
            trust,
            state: EntryState::Ready,
            shadowed_by: None,
            runs: "x".to_owned(),
            digest: Digest::default(),
        }
    }

    #[test]
    fn names_are_such_as_agents_accept_and_each_is_one_commands() {
        let long = "n".repeat(100);
        let names = ["npm:build", "npm/build", "npm_build", &long, &long, "shellkeep_search"];
        let offers = of(names.map(|name| entry(name, Kind::Task, Trust::Trusted)).to_vec(), false);
        let given: Vec<&str> = offers.tools.iter().map(|(name, _)| name.as_str()).collect();
        let (first, second) = ("n".repeat(64), "n".repeat(62) + "_2");
        let expected = ["npm_build", "npm_build_2", "npm_build_3", &first, &second, "shellkeep_search_2"];
        assert_eq!(given, expected);
    }

    #[test]
    fn what_is_pending_says_how_to_agree_and_what_servers_offer_is_not_offered_by_one_of_them() {
        let all = vec![
            entry("just:a", Kind::Task, Trust::Pending),
            entry("s:t", Kind::McpTool, Trust::Trusted),
            entry("s:p", Kind::McpPrompt, Trust::Trusted),
            entry("mcp:s", Kind::McpServer, Trust::Trusted),
            entry("mcp:new", Kind::McpServer, Trust::Pending),
            entry("cd", Kind::Builtin, Trust::Trusted),
        ];
        let offers = of(all.clone(), false);
        let names = |all: &[(String, EntryInfo)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&offers.tools), ["just_a", "s_t", "mcp_new"]);
        assert_eq!(names(&offers.prompts), ["s_p"]);
        let pending = tool("just_a", &offers.tools[0].1);
        assert!(pending.description.is_some_and(|text| text.contains("shellkeep trust just:a")));
        assert_eq!(names(&of(all, true).tools), ["just_a"]);
    }
}
