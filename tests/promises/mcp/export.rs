//! `shellkeep mcp`, driven by a real client: what an agent sees and may do.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, GetPromptRequestParams, JsonObject};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::{ClientHandler, RoleClient, ServiceExt as _};
use serde_json::{Value, json};
use tokio::net::unix::pipe;
use tokio::sync::Notify;

use super::{in_shell, is_ready, project, trust};
use crate::world::{World, eventually};

/// Counts what it is told.
#[derive(Clone, Default)]
struct Agent(Arc<Notify>);

impl ClientHandler for Agent {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.0.notify_one();
    }
}

/// An agent and the server that it has started.
struct Talk {
    service: RunningService<RoleClient, Agent>,
    changed: Arc<Notify>,
    child: Child,
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Talk {
    async fn start(world: &World, session: &str) -> Result<Self> {
        let mut command = world.command(["mcp", "--session", session]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = pipe::Sender::from_owned_fd(child.stdin.take().context("its input")?.into())?;
        let stdout = pipe::Receiver::from_owned_fd(child.stdout.take().context("its output")?.into())?;
        let agent = Agent::default();
        let changed = Arc::clone(&agent.0);
        let service = tokio::time::timeout(torture::world::SOON, agent.serve((stdout, stdin))).await??;
        Ok(Self { service, changed, child })
    }

    async fn tools(&self) -> Result<Vec<String>> {
        let tools = tokio::time::timeout(torture::world::SOON, self.service.list_all_tools()).await??;
        Ok(tools.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    async fn call(&self, name: &str, arguments: Value) -> Result<CallToolResult> {
        let Value::Object(arguments) = arguments else { anyhow::bail!("{arguments}") };
        let call = CallToolRequestParams::new(name.to_owned()).with_arguments(arguments);
        Ok(tokio::time::timeout(torture::world::SOON, self.service.call_tool(call)).await??)
    }

    /// Until it was told that the list is another.
    async fn told(&self) -> Result<()> {
        Ok(tokio::time::timeout(torture::world::SOON, self.changed.notified()).await?)
    }
}

fn text(result: &CallToolResult) -> String {
    let texts = result.content.iter().map(|content| match content {
        ContentBlock::Text(text) => text.text.clone(),
        other => format!("{other:?}"),
    });
    texts.collect()
}

fn command(root: &Path, name: &str, line: &str) -> Result<()> {
    std::fs::create_dir_all(root.join(".shellkeep/commands"))?;
    let text = format!("description = \"Does {name}\"\ncommand = '''{line}'''\n");
    Ok(std::fs::write(root.join(format!(".shellkeep/commands/{name}.toml")), text)?)
}

#[tokio::test]
async fn an_agent_lists_and_calls_what_the_user_has_agreed_to_and_hears_of_changes() -> Result<()> {
    let world = World::new()?;
    let (root, session) = project(&world, &json!({"shelly": in_shell(&world)?}))?;
    command(&root, "greet", "cat; echo hello")?;
    std::fs::create_dir_all(root.join(".claude/commands"))?;
    std::fs::write(root.join(".claude/commands/ask.md"), "Ask about $ARGUMENTS\n")?;
    eventually("the files are seen", || Ok(super::state(&world, &session, "project:greet")?.map(|_| ())))?;
    eventually("the files are seen", || Ok(super::state(&world, &session, "claude:ask")?.map(|_| ())))?;
    let talk = Talk::start(&world, &session).await?;
    let tools = talk.tools().await?;
    ensure!(tools[..2] == ["mcp_shelly", "project_greet"], "{tools:?}");
    // Pending: told how to agree, never a silent yes.
    for name in ["project_greet", "mcp_shelly"] {
        let refused = talk.call(name, json!({})).await?;
        let said = text(&refused);
        ensure!(refused.is_error == Some(true) && said.contains("only the user can agree"), "{said}");
    }
    ensure!(super::started(&root).is_empty(), "it was started for an agent");
    trust(&world, &session, "project:greet")?;
    let done = talk.call("project_greet", json!({"args": ["to me"], "stdin": "given "})).await?;
    ensure!(done.is_error == Some(false) && text(&done) == "given hello to me\n", "{done:?}");
    // Its tools come as they are, with their schema.
    trust(&world, &session, "mcp:shelly")?;
    is_ready(&world, &session, "shelly:one")?;
    eventually_told(&talk, "shelly_one").await?;
    let all = talk.service.list_all_tools().await?;
    let one = all.iter().find(|tool| tool.name == "shelly_one").context("it is offered")?;
    ensure!(one.input_schema["required"] == json!(["word"]), "{one:?}");
    let done = talk.call("shelly_one", json!({"word": "through"})).await?;
    ensure!(text(&done) == "word: through\n", "{done:?}");
    // A file that comes is told of.
    std::fs::write(root.join("justfile"), "# Builds it\nbuild:\n    echo built\n")?;
    eventually_told(&talk, "just_build").await?;
    // A text for the agent.
    trust(&world, &session, "claude:ask")?;
    let mut arguments = JsonObject::new();
    arguments.insert("arguments".into(), "life".into());
    let get = GetPromptRequestParams::new("claude_ask").with_arguments(arguments);
    let prompt = format!("{:?}", talk.service.get_prompt(get).await?);
    ensure!(prompt.contains("Ask about life"), "{prompt}");
    // And the record, to be read.
    let history = talk.call("shellkeep_history", json!({})).await?;
    let said = text(&history);
    ensure!(history.is_error == Some(false) && said.starts_with('['), "{history:?}");
    // What an agent has called is in it; what it was refused is not.
    let greeted: Vec<&str> = said.matches("shellkeep run project:greet").collect();
    ensure!(greeted.len() == 1 && said.contains("shellkeep run shelly:one"), "{said}");
    Ok(())
}

/// Told, until this is offered.
async fn eventually_told(talk: &Talk, name: &str) -> Result<()> {
    let told = async {
        loop {
            talk.told().await?;
            if talk.tools().await?.iter().any(|known| known == name) {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(40), told).await?
}

/// Corner 12: a project whose servers name us does not list itself for ever.
#[tokio::test]
async fn a_server_that_is_ourselves_offers_no_tools_of_servers() -> Result<()> {
    let world = World::new()?;
    let (root, session) = project(&world, &json!({}))?;
    command(&root, "greet", "echo hello")?;
    let own = json!({"command": world.program(), "args": ["mcp", "--session", session]});
    super::describe(&root, &json!({"shelly": in_shell(&world)?, "own": own}))?;
    eventually("the files are seen", || Ok(super::state(&world, &session, "mcp:own")?.map(|_| ())))?;
    trust(&world, &session, "project:greet")?;
    trust(&world, &session, "mcp:shelly")?;
    trust(&world, &session, "mcp:own")?;
    is_ready(&world, &session, "own:project_greet")?;
    is_ready(&world, &session, "shelly:one")?;
    ensure!(super::run(&world, &session, &["own:project_greet"])? == "hello\n");
    // Another round of changes: nothing of a server is among what it offers.
    command(&root, "more", "echo more")?;
    is_ready(&world, &session, "own:project_more")?;
    let all = super::commands(&world, &session)?;
    let names: Vec<&str> = all.iter().filter_map(|entry| entry["qualified_name"].as_str()).collect();
    ensure!(!names.iter().any(|name| name.starts_with("own:own") || name.starts_with("own:shelly")), "{names:?}");
    Ok(())
}
