//! The daemon's commands over its socket, with keepers that are only played: what sessions see, and when they are told.
#![allow(clippy::unwrap_used, clippy::panic)] // in helpers of tests: what fails there is the test

mod running;
mod silent;

use std::path::{Path, PathBuf};
use std::time::Duration;

use shellkeep_daemon::index::secrets::Secrets;
use shellkeep_daemon::registry::{Preferences, run};
use shellkeep_daemon::{Config, Listener, Places, Retention};
use shellkeep_journal::{Chain, Seq};
use shellkeep_protocol::daemon::{DaemonProtocol, Push, Request, Response};
use shellkeep_protocol::ids::{SessionId, WriterId};
use shellkeep_protocol::registry::*;
use shellkeep_protocol::session::{Attrs, End, ExitStatus, SessionRequest, SessionResponse, SessionStart};
use shellkeep_transport::{CancellationToken, ConnectOptions, Event, RpcClient, connect_unix};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Far above what anything here takes.
const SOON: Duration = Duration::from_secs(20);

type Client = RpcClient<DaemonProtocol>;

/// A daemon in a home of its own, in this process.
struct Daemon {
    home: tempfile::TempDir,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Daemon {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(home: tempfile::TempDir) -> Self {
        let at = |name: &str| home.path().join(name);
        for name in ["run", "log", "spool"] {
            std::fs::create_dir_all(at(name)).unwrap();
            std::fs::set_permissions(at(name), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        }
        let config = Config {
            places: Places {
                socket: at("run/daemon.sock"),
                socket_fallback: None,
                lock: at("lock"),
                logs: at("log"),
                spools: at("spool"),
                keepers: Vec::new(),
                index: at("index"),
                registry: at("registry"),
                packages: at("data/pkgs"),
                config: at("config"),
                home: Some(at("home")),
            },
            retention: Retention { session_bytes_max: 1 << 20, total_bytes_max: 1 << 30, age_max: SOON * 1000 },
            preferences: Preferences::default(),
            secrets: Secrets::none(),
            version: "test".into(),
        };
        let (stop, (serving, is_serving)) = (CancellationToken::new(), tokio::sync::oneshot::channel());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let on_serving = || _ = serving.send(());
            shellkeep_daemon::run(config, Listener::Own, stopped, on_serving).await.unwrap();
        });
        is_serving.await.unwrap();
        Self { home, stop, task }
    }

    async fn client(&self) -> Client {
        connect_unix(&self.home.path().join("run/daemon.sock"), ConnectOptions::default()).await.unwrap()
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.task.await.unwrap();
        self.home
    }

    /// A project with a command of these names each, which print them.
    fn project(&self, name: &str, commands: &[&str]) -> PathBuf {
        let root = self.home.path().canonicalize().unwrap().join("home").join(name);
        std::fs::create_dir_all(root.join(".shellkeep/commands")).unwrap();
        for command in commands {
            write_command(&root, command, &format!("echo {command}"));
        }
        root
    }
}

fn write_command(root: &Path, name: &str, line: &str) {
    let text = format!("description = \"Says {name}\"\ncommand = \"{line}\"\n");
    std::fs::write(root.join(format!(".shellkeep/commands/{name}.toml")), text).unwrap();
}

async fn ask(client: &Client, ask: Ask) -> Told {
    let mut body = Vec::new();
    shellkeep_transport::encode_into(&ask, &mut body, 1 << 20).unwrap();
    match client.call(Request::Registry { version: REGISTRY_VERSION, body }).await.unwrap().response {
        Response::Registry { body } => shellkeep_transport::decode(&body).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn session_request(client: &Client, request: SessionRequest) -> SessionResponse {
    match client.call(Request::Session(request)).await.unwrap().response {
        Response::Session(response) => response,
        other => panic!("{other:?}"),
    }
}

/// A keeper that has nothing to tell but where it is.
async fn keeper(client: &Client, session: SessionId, directory: &Path) {
    let attrs = Attrs {
        cwd: directory.display().to_string(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        ..Attrs::default()
    };
    let start = SessionStart {
        session,
        writer: WriterId::from_bytes([7; 16]),
        epoch_known: 0,
        first_retained: Seq::FIRST,
        chain_before_first: Chain::START,
        next_seq: Seq::FIRST,
        chain_at_end: Chain::START,
        attrs,
    };
    let response = session_request(client, SessionRequest::Start(Box::new(start))).await;
    assert!(matches!(response, SessionResponse::Welcome(_)), "{response:?}");
}

async fn settled(client: &Client, session: SessionId) {
    assert_eq!(ask(client, Ask::Settle { session: Some(session), here: None, wait_ms: 10_000 }).await, Told::Done);
}

async fn page(client: &Client, session: Option<SessionId>) -> Page {
    match ask(client, Ask::Get(GetCommandRegistry { session, limit: 1000, ..GetCommandRegistry::default() })).await {
        Told::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

async fn names(client: &Client, session: SessionId) -> Vec<String> {
    let page = page(client, Some(session)).await;
    let project = page.entries.into_iter().filter(|entry| entry.scope == Scope::Project);
    project.map(|entry| entry.name).collect()
}

fn execute(session: SessionId, command: &str) -> ExecuteCommand {
    let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    ExecuteCommand { session: Some(session), command: command.to_owned(), env, ..ExecuteCommand::default() }
}

async fn output(client: &Client, invocation: InvocationId) -> (String, ExecutionEvent) {
    let (mut text, mut from) = (Vec::new(), 0);
    loop {
        let told = ask(client, Ask::Follow { invocation, from, wait_ms: 20_000 }).await;
        let Told::Events { events, next, .. } = told else { panic!("{told:?}") };
        from = next;
        for event in events {
            match event {
                ExecutionEvent::Stdout(bytes) => text.extend(bytes),
                ExecutionEvent::Exit { .. } | ExecutionEvent::Error(_) => {
                    return (String::from_utf8(text).unwrap(), event);
                }
                _ => {}
            }
        }
    }
}

///
#[tokio::test]
async fn each_session_sees_its_own_directorys_commands_as_long_as_it_lives() {
    let daemon = Daemon::start().await;
    let (a, b) = (daemon.project("a", &["one", "both"]), daemon.project("b", &["two", "both"]));
    let client = daemon.client().await;
    let (one, other, nobody) = (SessionId::new(), SessionId::new(), SessionId::new());
    keeper(&client, one, &a.join(".shellkeep")).await;
    keeper(&client, other, &b).await;
    settled(&client, one).await;
    settled(&client, other).await;
    assert_eq!(names(&client, one).await, ["both", "one"]);
    assert_eq!(names(&client, other).await, ["both", "two"]);
    assert!(names(&client, nobody).await.is_empty());
    let base = page(&client, None).await.entries;
    assert_eq!(page(&client, Some(nobody)).await.entries, base);
    assert!(!base.iter().any(|entry| entry.name == "bash") && base.iter().any(|entry| entry.name == "cd"));
    // A command of a session that is unknown, and one of the base.
    let told = ask(&client, Ask::Execute(execute(nobody, "one"))).await;
    assert_eq!(told, Told::Failed(RegistryError::UnknownSession));
    assert!(matches!(ask(&client, Ask::Execute(execute(nobody, "pwd"))).await, Told::Accepted { .. }));
    let told = ask(&client, Ask::Reload { session: Some(nobody) }).await;
    assert!(matches!(&told, Told::Reloaded(reloaded) if reloaded.session == 0 && reloaded.root.is_none()), "{told:?}");
    assert!(names(&client, nobody).await.is_empty());
    // One ends: its layer goes at once, the other's list stays the same to the byte.
    let before = page(&client, Some(other)).await;
    let exit = ExitStatus::Code(0);
    let end = End { session: one, epoch: 1, next_seq: Seq::FIRST, chain: Chain::START, exit };
    session_request(&client, SessionRequest::End(end)).await;
    settled(&client, other).await;
    assert!(names(&client, one).await.is_empty());
    assert_eq!(page(&client, Some(other)).await, before);
    daemon.stop().await;
}

/// Passes bytes on between each client and the daemon, as a tunnel does, and keeps what clients said. What the daemon says waits as long
/// as `held` is.
fn relay(
    daemon: &Daemon,
    held: tokio::sync::watch::Receiver<bool>,
) -> (PathBuf, std::sync::Arc<parking_lot::Mutex<Vec<u8>>>) {
    let (socket, target) = (daemon.home.path().join("run/relay.sock"), daemon.home.path().join("run/daemon.sock"));
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let said = std::sync::Arc::<parking_lot::Mutex<Vec<u8>>>::default();
    let heard = std::sync::Arc::clone(&said);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_daemon, mut to_daemon) = tokio::net::UnixStream::connect(&target).await.unwrap().into_split();
            let mut held = held.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                loop {
                    drop(held.wait_for(|held| !held).await);
                    let Ok(count @ 1..) = from_daemon.read(&mut bytes).await else { return };
                    drop(held.wait_for(|held| !held).await);
                    to_client.write_all(&bytes[..count]).await.unwrap();
                }
            });
            let heard = std::sync::Arc::clone(&heard);
            tokio::spawn(async move {
                let mut bytes = [0; 7]; // no frame comes in one piece
                while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                    heard.lock().extend_from_slice(&bytes[..count]);
                    to_daemon.write_all(&bytes[..count]).await.unwrap();
                }
            });
        }
    });
    (socket, said)
}

///
#[tokio::test]
async fn through_a_relay_each_question_is_still_of_the_session_that_it_names() {
    let daemon = Daemon::start().await;
    let (a, b) = (daemon.project("a", &["one"]), daemon.project("b", &["two"]));
    let (_held, is_held) = tokio::sync::watch::channel(false);
    let (socket, said) = relay(&daemon, is_held);
    let direct = daemon.client().await;
    let relayed = connect_unix(&socket, ConnectOptions::default()).await.unwrap();
    let (here, there) = (SessionId::new(), SessionId::new());
    keeper(&direct, here, &a).await;
    keeper(&relayed, there, &b).await;
    for (session, root, command) in [(here, &a, "one"), (there, &b, "two")] {
        settled(&relayed, session).await;
        assert_eq!(names(&relayed, session).await, [command]);
        assert_eq!(page(&relayed, Some(session)).await, page(&direct, Some(session)).await);
        let told = ask(&relayed, Ask::ExecuteService(execute(session, "pwd"))).await;
        let Told::Accepted { invocation, .. } = told else { panic!("{told:?}") };
        assert_eq!(output(&relayed, invocation).await.0, format!("{}\n", root.display()));
        let id = session.as_bytes();
        assert!(said.lock().windows(id.len()).any(|bytes| bytes == id), "its bytes pass as they are");
    }
    // A change is told through it too, of the session that was asked for.
    let mut events = relayed.events();
    assert!(matches!(ask(&relayed, Ask::Subscribe { session: Some(there) }).await, Told::Subscribed { .. }));
    write_command(&b, "three", "echo 3");
    let changed = tokio::time::timeout(SOON, async {
        loop {
            if let Event::Push { message: Push::Registry { body }, .. } = events.next().await.unwrap() {
                let RegistryPush::Changed(changed) = shellkeep_transport::decode(&body).unwrap();
                break changed;
            }
        }
    });
    assert_eq!(changed.await.unwrap().session, Some(there));
    daemon.stop().await;
}

/// the watcher, and `if_revision`.
#[tokio::test]
async fn who_has_subscribed_is_told_of_changes_in_order_and_of_nothing_else() {
    let daemon = Daemon::start().await;
    let root = daemon.project("p", &["one", "two"]);
    let client = daemon.client().await;
    let session = SessionId::new();
    keeper(&client, session, &root).await;
    settled(&client, session).await;
    let mut events = client.events();
    let Told::Subscribed { revision } = ask(&client, Ask::Subscribe { session: Some(session) }).await else { panic!() };
    let same =
        GetCommandRegistry { session: Some(session), if_revision: Some(revision), ..GetCommandRegistry::default() };
    assert_eq!(ask(&client, Ask::Get(same)).await, Told::NotModified);
    write_command(&root, "three", "echo 3");
    std::fs::remove_file(root.join(".shellkeep/commands/one.toml")).unwrap();
    let (mut last, mut added, mut removed) = (revision, Vec::new(), Vec::new());
    while added.is_empty() || removed.is_empty() {
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
        let Event::Push { message: Push::Registry { body }, .. } = event else { continue };
        let RegistryPush::Changed(changed) = shellkeep_transport::decode(&body).unwrap();
        assert!(changed.revision > last && changed.revision.boot == revision.boot && changed.session == Some(session));
        last = changed.revision;
        let Change::Delta { added: new, removed: gone, .. } = shellkeep_transport::decode(&changed.change).unwrap()
        else {
            panic!("it is little");
        };
        added.extend(new.into_iter().map(|entry| entry.name));
        removed.extend(gone);
    }
    assert_eq!((added, removed), (vec!["three".to_owned()], vec!["project/project/one".to_owned()]));
    assert_eq!(names(&client, session).await, ["three", "two"]);
    daemon.stop().await;
}

/// who takes too little is told once that there is more to ask for, and misses nothing.
#[tokio::test]
async fn who_lags_behind_is_told_to_ask_for_all_of_it_once() {
    let daemon = Daemon::start().await;
    let root = daemon.project("p", &[]);
    let write = |round: usize| {
        let command = |n: usize| {
            format!("[[command]]\nname = \"c{n}\"\ndescription = \"{round} {}\"\ncommand = \"true\"\n", "x".repeat(800))
        };
        std::fs::write(root.join(".shellkeep/commands/all.toml"), (0..400).map(command).collect::<String>()).unwrap();
    };
    write(0);
    let (hold, is_held) = tokio::sync::watch::channel(false);
    let (socket, _) = relay(&daemon, is_held);
    let (direct, slow) = (daemon.client().await, connect_unix(&socket, ConnectOptions::default()).await.unwrap());
    let session = SessionId::new();
    keeper(&direct, session, &root).await;
    settled(&direct, session).await;
    let mut events = slow.events();
    let Told::Subscribed { revision } = ask(&slow, Ask::Subscribe { session: Some(session) }).await else { panic!() };
    hold.send_replace(true);
    let mut now = revision;
    for round in 1..=12 {
        write(round);
        ask(&direct, Ask::Reload { session: Some(session) }).await;
        let newest = page(&direct, Some(session)).await.revision;
        assert!(newest > now);
        now = newest;
        tokio::time::sleep(Duration::from_millis(20)).await; // each is told by itself, as far as it is taken
    }
    hold.send_replace(false);
    let (mut last, mut resets) = (revision, 0);
    while last < now {
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
        let Event::Push { message: Push::Registry { body }, .. } = event else { continue };
        let RegistryPush::Changed(changed) = shellkeep_transport::decode(&body).unwrap();
        assert!(changed.revision > last, "in order, and nothing twice");
        last = changed.revision;
        resets += usize::from(matches!(shellkeep_transport::decode(&changed.change).unwrap(), Change::Reset));
    }
    assert_eq!((last, resets), (now, 1));
    daemon.stop().await;
}

/// Daemon and client share one thread here: a look at the disk on it would leave no turn to anybody.
#[tokio::test]
async fn who_asks_while_a_project_is_looked_at_is_answered_with_what_there_is() {
    let daemon = Daemon::start().await;
    let all: Vec<String> = (0..900).map(|n| format!("command-{n}")).collect();
    let root = daemon.project("p", &all.iter().map(String::as_str).collect::<Vec<_>>());
    let client = daemon.client().await;
    let session = SessionId::new();
    keeper(&client, session, &root).await;
    let mut early = 0;
    while !page(&client, Some(session)).await.complete {
        early += 1;
    }
    assert!(early >= 3, "{early} answers before all was read");
    assert_eq!(names(&client, session).await.len(), all.len());
    daemon.stop().await;
}
