//! What was recorded, for an agent: three tools that read, each one of our own commands.

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rmcp::model::{CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};
use shellkeep_protocol::ids::SessionId;

use crate::launch::installed_program;
use crate::places::Places;

const SEARCH: &str = "shellkeep_search";
const HISTORY: &str = "shellkeep_history";
const OUTPUT: &str = "shellkeep_output";

/// The names, which no command is given.
pub(super) const NAMES: [&str; 3] = [SEARCH, HISTORY, OUTPUT];

/// What an agent is given; the rest is left out, and that is said.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// All three.
pub(super) fn tools() -> Vec<Tool> {
    let tool = |name: &'static str, description: &'static str, properties: Value, required: Value| {
        let schema =
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        let Value::Object(schema) = schema else { return Tool::default() };
        Tool::new(name, description, Arc::new(schema)).with_annotations(ToolAnnotations::new().read_only(true))
    };
    let session = json!({"type": "string", "description": "Name or id of a session; the one around if it is left out"});
    vec![
        tool(
            SEARCH,
            "Searches what all kept shells printed and which commands were typed, newest first. JSON.",
            json!({"text": {"type": "string"}}),
            json!(["text"]),
        ),
        tool(
            HISTORY,
            "Lists the commands of a kept shell, with status and duration. JSON.",
            json!({"session": session}),
            json!([]),
        ),
        tool(
            OUTPUT,
            "Gives what one command of a kept shell printed, as text.",
            json!({"session": session, "command": {"type": "integer", "description": "Its id in shellkeep_history"}}),
            json!(["command"]),
        ),
    ]
}

/// Calls one of them; `None` if there is none of this name. Blocking.
pub(super) fn call(
    places: &Places,
    around: Option<SessionId>,
    name: &str,
    arguments: &JsonObject,
) -> Option<CallToolResult> {
    let text = |key: &str| arguments.get(key).and_then(Value::as_str).map(str::to_owned);
    let session = || text("session").or_else(|| around.map(|session| session.to_string()));
    let mut args: Vec<String> = match name {
        SEARCH => vec!["search".into(), "--json".into(), "--".into(), text("text").unwrap_or_default()],
        HISTORY => vec!["history".into(), "--json".into()],
        OUTPUT => {
            let command = arguments.get("command").and_then(Value::as_u64).unwrap_or(0);
            vec!["output".into(), "--plain".into(), "--command".into(), command.to_string()]
        }
        _ => return None,
    };
    if name != SEARCH {
        args.push("--".into());
        args.extend(session());
    }
    Some(match run(places, &args) {
        Ok((text, true)) => CallToolResult::success(vec![ContentBlock::text(text)]),
        Ok((text, false)) => CallToolResult::error(vec![ContentBlock::text(text)]),
        Err(error) => CallToolResult::error(vec![ContentBlock::text(format!("cannot be read: {error}"))]),
    })
}

/// What it printed, and whether it went well.
fn run(places: &Places, args: &[String]) -> std::io::Result<(String, bool)> {
    let mut command = Command::new(installed_program()?);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(home) = places.home() {
        command.env("SHELLKEEP_HOME", home);
    }
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // What is wrong is a line or two, which a pipe holds.
    let mut text = String::new();
    let mut bytes = Vec::new();
    if let Some(mut stdout) = stdout {
        (&mut stdout).take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
        text.push_str(&String::from_utf8_lossy(&bytes));
        let more = std::io::copy(&mut stdout, &mut std::io::sink())?;
        if more > 0 {
            let _infallible = writeln!(text, "\n[{more} more bytes are left out]");
        }
    }
    let status = child.wait()?;
    if !status.success()
        && let Some(stderr) = stderr
    {
        stderr.take(OUTPUT_BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok((text, status.success()))
}
