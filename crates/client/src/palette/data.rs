//! What the palette asks the daemon, on a thread of its own, so that no key waits for it.
//!
//! Promises that what was typed last is what is looked for, that a change of the session's commands is looked for at once, and
//! that a daemon that goes away is told and found again. The daemon searches: however many commands there are, only those that
//! are shown come here.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use shellkeep_protocol::daemon::{DaemonProtocol, Push};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{Ask, EntryInfo, SearchCommands, Told as Answer};
use shellkeep_transport::{Event, ReconnectPolicy, RpcClient, connect_unix_lazy};
use tokio::sync::watch;

use crate::cmd::commands::here;
use crate::daemon_link::{DaemonLink, commands_of};
use crate::places::Places;
use crate::report::Failure;

/// Most commands that are shown for one text.
const FOUND_MAX: u32 = 500;
/// How long one answer may take; then what is shown is said to be old.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long the daemon may look at the session's directory before the list is asked for once more.
const SETTLE_WAIT_MS: u32 = 3_000;
/// Things told that wait for the screen; then this thread waits for it.
const TOLD_MAX: usize = 16;

/// Commands that match.
#[derive(Debug)]
pub(super) struct Found {
    /// What they were found by.
    pub(super) query: String,
    /// The best first.
    pub(super) entries: Vec<EntryInfo>,
    /// There may be more.
    pub(super) is_cut: bool,
}

/// What the daemon says.
#[derive(Debug)]
pub(super) enum Told {
    Found(Found),
    /// What is shown may be old, and why.
    Trouble(String),
}

/// Asks. The thread ends when this is dropped.
pub(super) struct Data {
    asks: watch::Sender<String>,
    pub(super) told: Receiver<Told>,
}

impl Data {
    /// Starts the thread, which looks for `query` and writes a byte to `wake` after each thing told.
    ///
    /// # Errors
    /// If the daemon cannot be had or the system gives no thread.
    pub(super) fn start(
        places: &Places,
        session: Option<SessionId>,
        query: &str,
        wake: OwnedFd,
    ) -> Result<Self, Failure> {
        drop(DaemonLink::reach(places)?); // one runs now
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::refused(format_args!("no runtime: {error}")))?;
        let (asks, inbox) = watch::channel(query.to_owned());
        let (tell, told) = sync_channel(TOLD_MAX);
        let places = places.clone();
        let asker = move || {
            let tell = Tell { tell, wake: wake.into() };
            runtime.block_on(async { Asker::new(&places, session, inbox, tell).run().await });
        };
        let started = std::thread::Builder::new().name("palette-data".into()).spawn(asker);
        started.map_err(|error| Failure::refused(format_args!("cannot start a thread: {error}")))?;
        Ok(Self { asks, told })
    }

    /// This is looked for now, and nothing that was asked before.
    pub(super) fn ask(&self, query: &str) {
        self.asks.send_replace(query.to_owned());
    }
}

struct Tell {
    tell: SyncSender<Told>,
    wake: std::fs::File,
}

impl Tell {
    /// False when nobody listens any more.
    fn tell(&mut self, told: Told) -> bool {
        // A full pipe wakes as well.
        self.tell.send(told).is_ok().then(|| drop(self.wake.write(&[0]))).is_some()
    }
}

type Answering = Pin<Box<dyn Future<Output = Told>>>;

struct Asker {
    client: RpcClient<DaemonProtocol>,
    session: Option<SessionId>,
    asks: watch::Receiver<String>,
    tell: Tell,
    /// A connection is there, and whether it is one on which changes are told.
    is_up: bool,
    is_subscribed: bool,
    /// What is shown is not what there is.
    is_stale: bool,
    searching: Option<Answering>,
    settling: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Asker {
    fn new(places: &Places, session: Option<SessionId>, asks: watch::Receiver<String>, tell: Tell) -> Self {
        let mut sockets = places.daemon_sockets();
        let usual = sockets.remove(0); // there is always one
        let policy = ReconnectPolicy { alternatives: sockets, ..ReconnectPolicy::default() };
        let client = connect_unix_lazy(&usual, policy, |_| async { Ok(()) });
        let (is_up, is_subscribed, is_stale) = (false, false, true);
        Self { client, session, asks, tell, is_up, is_subscribed, is_stale, searching: None, settling: None }
    }

    async fn run(mut self) {
        let mut events = self.client.events();
        let mut has_settled = false;
        loop {
            if self.is_up && self.is_stale && self.searching.is_none() {
                self.begin();
            }
            tokio::select! {
                biased;
                changed = self.asks.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    (self.is_stale, self.searching) = (true, None); // of what was typed before nobody wants anything
                }
                told = ready(&mut self.searching) => {
                    self.searching = None;
                    self.is_subscribed |= matches!(told, Told::Found(_));
                    if !self.tell.tell(told) {
                        return;
                    }
                    if !has_settled {
                        has_settled = true;
                        self.settling = Some(Box::pin(settle(self.client.clone(), self.session)));
                    }
                }
                () = ready(&mut self.settling) => (self.settling, self.is_stale) = (None, true),
                event = events.next() => match event {
                    None => return,
                    Some(Event::Up { .. }) => {
                        (self.is_up, self.is_subscribed, self.is_stale, has_settled) = (true, false, true, false);
                    }
                    Some(Event::Push { message: Push::Registry { .. }, .. }) => self.is_stale = true,
                    Some(Event::Push { .. }) => {}
                    Some(Event::Down { .. }) => {
                        (self.is_up, self.searching) = (false, None);
                        let words = "no daemon answers: this may be old".to_owned();
                        if !self.tell.tell(Told::Trouble(words)) {
                            return;
                        }
                    }
                },
            }
        }
    }

    /// Looks for what was typed last; the first time on a connection it subscribes before, so that no change falls between.
    fn begin(&mut self) {
        let (client, session, subscribes) = (self.client.clone(), self.session, !self.is_subscribed);
        let query = self.asks.borrow_and_update().clone();
        self.is_stale = false;
        self.searching = Some(Box::pin(async move {
            let found = search(&client, session, query, subscribes).await;
            found.map_or_else(|failure| Told::Trouble(failure.message), Told::Found)
        }));
    }
}

/// What is under way, when it is done; never if nothing is.
async fn ready<T>(under_way: &mut Option<Pin<Box<dyn Future<Output = T>>>>) -> T {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn search(
    client: &RpcClient<DaemonProtocol>,
    session: Option<SessionId>,
    query: String,
    subscribes: bool,
) -> Result<Found, Failure> {
    if subscribes {
        // Refused if too many are told already: then the list is as it was when something was typed.
        drop(commands_of(client, &Ask::Subscribe { session }, ANSWER_WAIT_MAX).await?);
    }
    let search = SearchCommands { session, query: query.clone(), limit: FOUND_MAX };
    match commands_of(client, &Ask::Search(search), ANSWER_WAIT_MAX).await? {
        Ok(Answer::Found(entries)) => {
            let is_cut = entries.len() >= FOUND_MAX as usize;
            Ok(Found { query, entries, is_cut })
        }
        Ok(_) => Err(Failure::bug(&"the daemon answered another question")),
        Err(error) => Err(Failure::refused(error)),
    }
}

/// Until the session's directory was looked at. What comes of it is pushed, or there with the next search.
async fn settle(client: RpcClient<DaemonProtocol>, session: Option<SessionId>) {
    let ask = Ask::Settle { session, here: here(session), wait_ms: SETTLE_WAIT_MS };
    drop(commands_of(&client, &ask, ANSWER_WAIT_MAX).await); // without an answer there is none to a search either, which tells
}
