//! A keeper's end of the session conversation without a shell: numbers records and has them written.

use std::path::Path;

use anyhow::{Context as _, bail};
use shellkeep_journal::{Position, RecordKind, encode_record};
use shellkeep_protocol::daemon::{DaemonProtocol, Request, Response};
use shellkeep_protocol::ids::{SessionId, WriterId};
use shellkeep_protocol::session::{Append, Attrs, SessionRequest, SessionResponse, SessionStart};
use shellkeep_transport::{Call, ConnectOptions, RpcClient, connect_unix};

/// One session.
pub(crate) struct Keeper {
    client: RpcClient<DaemonProtocol>,
    session: SessionId,
    epoch: u32,
    at: Position,
}

impl Keeper {
    /// Connects and starts a new session that is nowhere.
    pub(crate) async fn start(socket: &Path) -> anyhow::Result<Self> {
        Self::start_with(socket, Attrs::default()).await
    }

    /// Connects and starts a new session.
    pub(crate) async fn start_with(socket: &Path, attrs: Attrs) -> anyhow::Result<Self> {
        let client = connect_unix::<DaemonProtocol>(socket, ConnectOptions::default()).await?;
        let (session, at) = (SessionId::new(), Position::START);
        let start = SessionStart {
            session,
            writer: WriterId::random()?,
            epoch_known: 0,
            first_retained: at.next_seq,
            chain_before_first: at.chain,
            next_seq: at.next_seq,
            chain_at_end: at.chain,
            attrs,
        };
        let answer = client.call(Request::Session(SessionRequest::Start(Box::new(start)))).await?;
        match answer.response {
            Response::Session(SessionResponse::Welcome(welcome)) => {
                Ok(Self { client, session, epoch: welcome.epoch, at: welcome.end })
            }
            other => bail!("the daemon does not take the session: {other:?}"),
        }
    }

    /// Which session it is.
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// Its connection.
    pub(crate) fn client(&self) -> &RpcClient<DaemonProtocol> {
        &self.client
    }

    /// The next so many records, each with `output`.
    pub(crate) fn append(&mut self, output: &[u8], records: usize) -> anyhow::Result<Request> {
        let begin = self.at;
        let mut encoded = Vec::new();
        for _ in 0..records {
            self.at = encode_record(&mut encoded, self.at, RecordKind::Output, 0, output)?;
        }
        Ok(Request::Session(SessionRequest::Append(Append {
            session: self.session,
            epoch: self.epoch,
            first_seq: begin.next_seq,
            prev_chain: begin.chain,
            records: encoded,
        })))
    }

    /// Sends without waiting.
    pub(crate) fn send(&self, append: &Request) -> Call<DaemonProtocol> {
        self.client.start_call(append)
    }

    /// Waits for the answer to what was sent.
    pub(crate) async fn answered(&self, call: Call<DaemonProtocol>) -> anyhow::Result<()> {
        match call.await.context("an append was not answered")?.response {
            Response::Session(SessionResponse::Written { .. }) => Ok(()),
            other => bail!("an append was not written: {other:?}"),
        }
    }

    /// Sends and waits until it is written.
    pub(crate) async fn written(&self, append: &Request) -> anyhow::Result<()> {
        self.answered(self.send(append)).await
    }
}
