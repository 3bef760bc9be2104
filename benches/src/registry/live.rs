//! A change of one project until each of a hundred sessions in it has been told, in the real daemon.
//!
//! Each session has a connection of its own, on which its commands are subscribed to. Measured from the word that brings
//! the change to the last push: from the moment at which a file was saved (which the daemon waits for on purpose, as
//! whoever saves one file mostly saves another), and from the question to look anew.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use shellkeep_protocol::daemon::{DaemonProtocol, Push, Request, Response};
use shellkeep_protocol::registry::{Ask, REGISTRY_VERSION, Told};
use shellkeep_protocol::session::Attrs;
use shellkeep_transport::{Event, Events};

use crate::home::{Daemon, Home};
use crate::report;
use crate::scratch::Scratch;
use crate::sessions::keeper::Keeper;
use crate::stats::median;

/// Commands of the project, beside the one that changes.
const COMMANDS: usize = 1_000;
/// Longest that a change may take.
const CHANGE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest question, encoded.
const ASK_BYTES_MAX: usize = 64 << 10;
/// Bound of the goal.
const RELOAD_MAX: Duration = Duration::from_millis(50);

/// What brings a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum By {
    /// A file was saved before, and the daemon is asked to look anew.
    Reload,
    /// A file is saved.
    File,
}

/// How long it took.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    by: By,
    ms: f64,
}

/// One session, and what it is told.
struct Session {
    keeper: Keeper,
    events: Events<DaemonProtocol>,
}

/// Both kinds, `rounds` times each.
pub(super) fn measure(program: &Path, sessions: usize, rounds: u32) -> anyhow::Result<Vec<Change>> {
    report::note(&format!("{sessions} sessions of a daemon"));
    let home = Home::new(program, Daemon::Up)?;
    let project = Scratch::new()?;
    let commands = project.path().join(".shellkeep/commands");
    std::fs::create_dir_all(&commands)?;
    let all: Vec<String> =
        (0..COMMANDS).map(|n| format!("[[command]]\nname = \"task-{n}\"\ncommand = \"echo {n}\"\n")).collect();
    std::fs::write(commands.join("all.toml"), all.concat())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut told = Vec::new();
        for _ in 0..sessions {
            told.push(Session::start(home.socket(), project.path()).await?);
        }
        let mut changes = Vec::new();
        for round in 0..rounds {
            for by in [By::Reload, By::File] {
                let text = format!("command = \"echo {by:?} {round}\"\n");
                changes.push(Change { by, ms: change(&mut told, &commands.join("changes.toml"), &text, by).await? });
            }
        }
        Ok(changes)
    })
}

/// From the word to the last of all who are told, in milliseconds.
async fn change(all: &mut [Session], file: &Path, text: &str, by: By) -> anyhow::Result<f64> {
    let first = all.first().context("there are sessions")?;
    std::fs::write(file, text)?;
    let began = Instant::now();
    if by == By::Reload {
        let asked = first.ask(&Ask::Reload { session: Some(first.keeper.session()) }).await?;
        ensure!(matches!(asked, Told::Reloaded(_)), "the daemon does not look anew: {asked:?}");
    }
    for session in all {
        tokio::time::timeout(CHANGE_WAIT_MAX, session.is_told()).await.context("a session is not told")??;
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

impl Session {
    async fn start(socket: &Path, directory: &Path) -> anyhow::Result<Self> {
        let attrs = Attrs {
            cwd: directory.display().to_string(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            ..Attrs::default()
        };
        let keeper = Keeper::start_with(socket, attrs).await?;
        let events = keeper.client().events();
        let own = Self { keeper, events };
        let session = Some(own.keeper.session());
        let wait_ms = u32::try_from(CHANGE_WAIT_MAX.as_millis())?;
        ensure!(
            own.ask(&Ask::Settle { session, here: None, wait_ms }).await? == Told::Done,
            "its commands do not settle"
        );
        let subscribed = own.ask(&Ask::Subscribe { session }).await?;
        ensure!(matches!(subscribed, Told::Subscribed { .. }), "it is not subscribed: {subscribed:?}");
        Ok(own)
    }

    async fn ask(&self, ask: &Ask) -> anyhow::Result<Told> {
        let mut body = Vec::new();
        shellkeep_transport::encode_into(ask, &mut body, ASK_BYTES_MAX)?;
        match self.keeper.client().call(Request::Registry { version: REGISTRY_VERSION, body }).await?.response {
            Response::Registry { body } => Ok(shellkeep_transport::decode(&body)?),
            other => bail!("no answer about commands: {other:?}"),
        }
    }

    /// Until it has the next change.
    async fn is_told(&mut self) -> anyhow::Result<()> {
        loop {
            let event = self.events.next().await.context("its connection is gone")?;
            if let Event::Push { message: Push::Registry { .. }, .. } = event {
                return Ok(());
            }
        }
    }
}

/// A row for each kind.
pub(super) fn print(changes: &[Change]) {
    let middle = |by: By| median(changes.iter().filter(|change| change.by == by).map(|change| change.ms));
    let (reload, file) = (middle(By::Reload), middle(By::File));
    let bound = RELOAD_MAX.as_secs_f64() * 1e3;
    let verdict = if reload < bound { "met" } else { "NOT MET" };
    let rows = [
        vec!["asked to look anew".to_owned(), format!("{bound}"), format!("{reload:.1}"), verdict.to_owned()],
        vec![
            "a file was saved, with the wait for more".to_owned(),
            "–".to_owned(),
            format!("{file:.1}"),
            String::new(),
        ],
    ];
    report::table("a change until all sessions of the daemon have it", &["what", "bound ms", "ms", ""], 1, &rows);
}
