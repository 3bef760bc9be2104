//! The server's side of the protocol: lists, calls, and telling the agent that a list is another.

use std::sync::Arc;

use parking_lot::Mutex;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, Implementation, JsonObject, ListPromptsResult, ListToolsResult, PaginatedRequestParams, Prompt,
    PromptMessage, Role, ServerCapabilities, ServerConfig, SubscriptionFilter, Tool,
};
use rmcp::service::{Peer, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;
use shellkeep_protocol::daemon::{DaemonProtocol, Push, Request};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{Ask, EntryInfo, Kind, REGISTRY_VERSION};
use shellkeep_transport::{CancellationToken, Event, ReconnectPolicy, connect_unix_lazy};
use tokio::sync::watch;

use super::super::commands::all;
use super::offers::{self, ARGUMENTS, Offers};
use super::{execution, record};
use crate::daemon_link::DaemonLink;
use crate::places::Places;

/// Changes that come together are looked at once.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(50);

/// Longest encoded subscription.
const ASK_BYTES_MAX: usize = 4 << 10;

const INSTRUCTIONS: &str = "\
The commands of a kept shell: tasks, scripts and tools of its project, run in its directory with its user's agreement. \
A tool that is not trusted yet says how the user agrees to it; do not try to get around that. \
shellkeep_search, shellkeep_history and shellkeep_output read what was recorded.";

/// What an agent was offered, and by whom.
pub(super) struct Offered {
    places: Places,
    session: Option<SessionId>,
    is_inner: bool,
    /// The list as it was last told, or looked at.
    told: Mutex<Option<Arc<Told>>>,
    /// Counts lists that were other than before.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Told {
    offers: Offers,
    tools: Vec<Tool>,
    prompts: Vec<Prompt>,
}

impl Offered {
    /// Asks the daemon; whether there are others than before. Blocking.
    fn look(&self) -> Result<(Arc<Told>, bool), ErrorData> {
        let failed = |failure: crate::report::Failure| ErrorData::internal_error(failure.message, None);
        let link = DaemonLink::reach(&self.places).map_err(failed)?;
        let (entries, _) = all(&link, self.session).map_err(failed)?;
        let offers = offers::of(entries, self.is_inner);
        let tools = offers.tools.iter().map(|(name, entry)| offers::tool(name, entry));
        let tools = tools.chain(record::tools()).collect();
        let prompts = offers.prompts.iter().map(|(name, entry)| offers::prompt(name, entry)).collect();
        let now = Arc::new(Told { offers, tools, prompts });
        let before = self.told.lock().replace(Arc::clone(&now));
        let is_new = before.is_some_and(|before| before.tools != now.tools || before.prompts != now.prompts);
        Ok((now, is_new))
    }

    async fn looked(self: &Arc<Self>) -> Result<Arc<Told>, ErrorData> {
        let own = Arc::clone(self);
        blocking(move || own.look().map(|(told, _)| told)).await?
    }

    /// The one of this name, by the list that was told, or one that is newer.
    async fn find(
        self: &Arc<Self>,
        of: fn(&Offers) -> &[(String, EntryInfo)],
        name: &str,
    ) -> Result<EntryInfo, ErrorData> {
        let found =
            |told: &Told| of(&told.offers).iter().find(|(known, _)| known == name).map(|(_, entry)| entry.clone());
        let told = self.told.lock().clone();
        if let Some(entry) = told.as_deref().and_then(found) {
            return Ok(entry);
        }
        let told = self.looked().await?;
        found(&told).ok_or_else(|| ErrorData::invalid_params(format!("nothing is called {name}"), None))
    }
}

/// The server.
pub(super) struct Server {
    pub(super) offered: Arc<Offered>,
}

impl Server {
    pub(super) fn new(places: Places, session: Option<SessionId>, is_inner: bool) -> Self {
        let offered = Offered { places, session, is_inner, told: Mutex::default(), changed: watch::channel(0).0 };
        Self { offered: Arc::new(offered) }
    }

    async fn execute(
        &self,
        entry: EntryInfo,
        args: Vec<String>,
        stdin: Vec<u8>,
        cancel: CancellationToken,
    ) -> Result<execution::Done, ErrorData> {
        let offered = Arc::clone(&self.offered);
        blocking(move || execution::run(&offered.places, offered.session, &entry, args, stdin, &cancel)).await
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("shellkeep", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.offered.looked().await?.tools.clone()))
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(self.offered.looked().await?.prompts.clone()))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = call.arguments.unwrap_or_default();
        if record::NAMES.contains(&&*call.name) {
            let offered = Arc::clone(&self.offered);
            let read = move || record::call(&offered.places, offered.session, &call.name, &arguments);
            let result = blocking(read).await?;
            return Ok(result.unwrap_or_else(|| CallToolResult::error(Vec::new())).into());
        }
        let entry = self.offered.find(|offers| &offers.tools, &call.name).await?;
        let (args, stdin) = words(&entry, &arguments)?;
        let done = self.execute(entry, args, stdin, context.ct).await?;
        Ok(result_of(&done).into())
    }

    async fn get_prompt(
        &self,
        get: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let entry = self.offered.find(|offers| &offers.prompts, &get.name).await?;
        let arguments = get.arguments.unwrap_or_default();
        let args = if entry.kind == Kind::McpPrompt {
            vec!["--json".to_owned(), Value::Object(arguments).to_string()]
        } else {
            let text = arguments.get(ARGUMENTS).and_then(Value::as_str).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        };
        let description = entry.description.clone();
        let done = self.execute(entry, args, Vec::new(), context.ct).await?;
        if done.prompts.is_empty() {
            return Err(ErrorData::invalid_params(done.stderr.shown(), None));
        }
        let messages = done.prompts.into_iter().map(|text| PromptMessage::new_text(Role::User, text)).collect();
        Ok(GetPromptResult::new(messages).with_description(description).into())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone()) // what is not advertised is taken out of it
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changed = self.offered.changed.subscribe();
        loop {
            tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                there = changed.changed() => if there.is_err() { return Ok(()) },
            }
            let sink = subscription.sink();
            // What was not asked for is refused, which is no harm.
            let _refused = sink.notify_tool_list_changed().await;
            let _refused = sink.notify_prompt_list_changed().await;
        }
    }
}

/// What a command is given for what an agent has said.
fn words(entry: &EntryInfo, arguments: &JsonObject) -> Result<(Vec<String>, Vec<u8>), ErrorData> {
    if entry.kind == Kind::McpTool {
        return Ok((vec!["--json".to_owned(), Value::Object(arguments.clone()).to_string()], Vec::new()));
    }
    let word = |word: &Value| match word {
        Value::String(word) => word.clone(),
        other => other.to_string(),
    };
    let args = match arguments.get("args") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(all)) => all.iter().map(word).collect(),
        Some(_) => return Err(ErrorData::invalid_params("args is no list of words", None)),
    };
    let stdin = arguments.get("stdin").and_then(Value::as_str).unwrap_or_default();
    Ok((args, stdin.as_bytes().to_vec()))
}

fn result_of(done: &execution::Done) -> CallToolResult {
    let mut content = Vec::new();
    let mut add = |text: String| {
        if !text.is_empty() {
            content.push(ContentBlock::text(text));
        }
    };
    add(done.stdout.shown());
    add(done.stderr.shown());
    done.prompts.iter().for_each(|prompt| add(prompt.clone()));
    if let Some(status) = done.status.filter(|status| *status != 0) {
        add(format!("It ended with status {status}."));
    }
    if done.status == Some(0) { CallToolResult::success(content) } else { CallToolResult::error(content) }
}

/// Does what takes its time where that is allowed.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, ErrorData> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// Tells the agent whenever what it is offered becomes something else, as the daemon tells us.
pub(super) async fn follow(offered: Arc<Offered>, peer: Peer<RoleServer>) {
    let mut sockets = offered.places.daemon_sockets();
    if sockets.is_empty() {
        return std::future::pending().await;
    }
    let socket = sockets.remove(0);
    let policy = ReconnectPolicy { alternatives: sockets, ..ReconnectPolicy::default() };
    let mut body = Vec::new();
    let ask = Ask::Subscribe { session: offered.session };
    let _fits = shellkeep_transport::encode_into(&ask, &mut body, ASK_BYTES_MAX);
    let client = connect_unix_lazy::<DaemonProtocol, _, _>(&socket, policy, move |connection| {
        let request = Request::Registry { version: REGISTRY_VERSION, body: body.clone() };
        async move {
            connection.call(request).await?;
            Ok(())
        }
    });
    let mut events = client.events();
    while let Some(event) = events.next().await {
        // Another daemon may see something else.
        if !matches!(event, Event::Up { .. } | Event::Push { message: Push::Registry { .. }, .. }) {
            continue;
        }
        tokio::time::sleep(SETTLE).await;
        let own = Arc::clone(&offered);
        let Ok(Ok((_, true))) = blocking(move || own.look()).await else { continue };
        offered.changed.send_modify(|count| *count += 1);
        // A client that listens to nothing, or has gone, misses nothing.
        let _unheard = peer.notify_tool_list_changed().await;
        let _unheard = peer.notify_prompt_list_changed().await;
    }
}
