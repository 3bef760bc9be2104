//! One call of a tool, or one rendering of a prompt, from its beginning to its last event.
//!
//! Promise: it ends with exactly one last event; when it is cancelled the server is told. What the server gives back is printed as text in
//! which nothing acts on a terminal, since others have written much of it; what is no text is described.

use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ContentBlock, ErrorCode, GetPromptRequest,
    GetPromptRequestParams, GetPromptResult, JsonObject, ResourceContents, Role, ServerResult,
};
use rmcp::service::{Peer, PeerRequestOptions, RequestHandle, ServiceError};
use shellkeep_protocol::registry::{EVENTS_BYTES_MAX, ExecutionEvent, RegistryError};
use tokio_util::sync::CancellationToken;

use super::super::entry::Offer;
use super::super::run::{Elsewhere, Tell};
use super::line::Line;

/// Output in one event; a longer one is several.
const EVENT_BYTES_MAX: usize = EVENTS_BYTES_MAX / 4;

/// A call that was not begun yet, or runs.
pub(super) struct Call {
    pub(super) line: Arc<Line>,
    /// Where calls run.
    pub(super) on: tokio::runtime::Handle,
    /// Of the tool, for people.
    pub(super) name: String,
    pub(super) offer: Arc<Offer>,
    pub(super) arguments: JsonObject,
    pub(super) cancel: CancellationToken,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("name", &self.name).finish_non_exhaustive() // never what is in the arguments
    }
}

impl Elsewhere for Call {
    fn begin(&self, tell: Tell) {
        let (line, name) = (Arc::clone(&self.line), self.name.clone());
        let (request, cancel) = (request(&self.offer, self.arguments.clone()), self.cancel.clone());
        let told = Ended(Some(Arc::clone(&tell)), name.clone());
        drop(self.on.spawn(async move {
            let mut told = told; // whatever becomes of this task, it ends with an event
            let events = match line.up().await {
                Ok(peer) => call(&line, &peer, request, &name, &tell, &cancel).await,
                Err(why) => vec![ExecutionEvent::Error(RegistryError::Unavailable { entry: name, why })],
            };
            told.0 = None;
            for event in events {
                tell(event);
            }
        }));
    }

    fn cancel(&self) {
        self.cancel.cancel();
    }
}

/// Tells the end when the server's thread ends before the call does.
struct Ended(Option<Tell>, String);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            let why = "its server was stopped".to_owned();
            tell(ExecutionEvent::Error(RegistryError::Unavailable { entry: self.1.clone(), why }));
        }
    }
}

fn request(offer: &Offer, arguments: JsonObject) -> ClientRequest {
    if offer.is_prompt {
        let params = GetPromptRequestParams::new(offer.name.clone()).with_arguments(arguments);
        ClientRequest::GetPromptRequest(GetPromptRequest::new(params))
    } else {
        let params = CallToolRequestParams::new(offer.name.clone()).with_arguments(arguments);
        ClientRequest::CallToolRequest(CallToolRequest::new(params))
    }
}

async fn call(
    line: &Arc<Line>,
    peer: &Peer<RoleClient>,
    request: ClientRequest,
    name: &str,
    tell: &Tell,
    cancel: &CancellationToken,
) -> Vec<ExecutionEvent> {
    let failed = |error: &ServiceError| vec![ExecutionEvent::Error(refusal(name, error))];
    let sent = peer.send_request_with_option(request, PeerRequestOptions::no_options()).await;
    let mut handle: RequestHandle<RoleClient> = match sent {
        Ok(handle) => handle,
        Err(error) => {
            line.doubted();
            return failed(&error);
        }
    };
    let _progress = line.progress_of(&handle.progress_token, Arc::clone(tell));
    let answer = tokio::select! {
        biased;
        () = cancel.cancelled() => {
            let _closed = handle.cancel(Some("the user cancelled it".to_owned())).await;
            return vec![ExecutionEvent::Error(RegistryError::Cancelled)];
        }
        answer = &mut handle.rx => answer.unwrap_or(Err(ServiceError::TransportClosed)),
    };
    match answer {
        Ok(ServerResult::CallToolResult(result)) => of_tool(&result),
        Ok(ServerResult::GetPromptResult(result)) => of_prompt(&result),
        Ok(_) => {
            let data = "the server wants something that shellkeep cannot give".to_owned();
            vec![ExecutionEvent::Error(RegistryError::RemoteError { code: 0, data })]
        }
        Err(error) => {
            line.doubted();
            failed(&error)
        }
    }
}

fn refusal(name: &str, error: &ServiceError) -> RegistryError {
    match error {
        ServiceError::McpError(error) if error.code == ErrorCode::INVALID_PARAMS => {
            RegistryError::InvalidArgs { why: format!("{name}: {}", error.message) }
        }
        ServiceError::McpError(error) => {
            RegistryError::RemoteError { code: error.code.0.into(), data: error.message.to_string() }
        }
        other => RegistryError::Unavailable { entry: name.to_owned(), why: format!("its server: {other}") },
    }
}

fn of_tool(result: &CallToolResult) -> Vec<ExecutionEvent> {
    let mut text: String = result.content.iter().map(described).collect();
    if text.is_empty()
        && let Some(structured) = &result.structured_content
    {
        text = format!("{structured:#}\n");
    }
    let is_error = result.is_error == Some(true);
    let event = if is_error { ExecutionEvent::Stderr } else { ExecutionEvent::Stdout };
    let mut events: Vec<_> = text.into_bytes().chunks(EVENT_BYTES_MAX).map(|bytes| event(bytes.to_vec())).collect();
    events.push(ExecutionEvent::Exit { code: i32::from(is_error) });
    events
}

fn of_prompt(result: &GetPromptResult) -> Vec<ExecutionEvent> {
    let is_alone = result.messages.len() == 1;
    let message = |message: &rmcp::model::PromptMessage| {
        let who = match (message.role == Role::Assistant, is_alone) {
            (true, _) => "assistant: ",
            (false, true) => "",
            (false, false) => "user: ",
        };
        format!("{who}{}", described(&message.content))
    };
    let text = result.messages.iter().map(message).collect::<Vec<_>>().join("\n");
    vec![ExecutionEvent::Prompt { text }, ExecutionEvent::Exit { code: 0 }]
}

/// Text as it can be seen, anything else in a line.
fn described(content: &ContentBlock) -> String {
    // Controls, and marks that turn the order of what is read.
    let acts = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let text = as_it_is(content).replace("\r\n", "\n");
    text.chars().map(|c| if acts(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn as_it_is(content: &ContentBlock) -> String {
    // Of four characters of base64 three are bytes.
    let bytes = |base64: &str| base64.len() / 4 * 3;
    match content {
        ContentBlock::Text(text) if text.text.ends_with('\n') => text.text.clone(),
        ContentBlock::Text(text) => format!("{}\n", text.text),
        ContentBlock::Image(image) => format!("[image {}, {} bytes]\n", image.mime_type, bytes(&image.data)),
        ContentBlock::Audio(audio) => format!("[audio {}, {} bytes]\n", audio.mime_type, bytes(&audio.data)),
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[{uri}]\n{text}\n"),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                let kind = mime_type.as_deref().unwrap_or("of no known type");
                format!("[{uri}, {kind}, {} bytes]\n", bytes(blob))
            }
            _ => "[a resource of a kind that this version does not know]\n".to_owned(),
        },
        ContentBlock::ResourceLink(link) => format!("[{}: {}]\n", link.name, link.uri),
        _ => "[something that this version does not know]\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_server_gives_back_acts_on_a_terminal() {
        let hostile = "a\u{1b}]52;c;aGk=\u{7}b\u{9b}2Jc\u{202e}d\te\r\nf";
        let text = described(&ContentBlock::text(hostile));
        assert_eq!(text, "a\u{fffd}]52;c;aGk=\u{fffd}b\u{fffd}2Jc\u{fffd}d\te\nf\n");
    }
}
