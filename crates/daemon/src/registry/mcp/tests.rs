//! Lives of servers with short waits: real processes, no daemon around them.

use std::path::PathBuf;

use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::Scope;

use super::super::entry::{Draft, Exec};
use super::super::slice::Slice;
use super::super::sources::{self, Item, McpServer, Transport};
use super::super::view::Preferences;
use super::*;

/// Far above what anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// Says that it was started, and answers; ends when the file `die` is there.
const SERVER: &str = r#"
echo $$ >> "$1/started"
while read -r line; do
    id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
    case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"t","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"one","inputSchema":{"type":"object"}}]}}\n' "$id"
        [ -e "$1/die" ] && { echo "no more" >&2; exit 4; } ;;
    esac
done
"#;

struct Bed {
    home: tempfile::TempDir,
    registry: Arc<CommandRegistry>,
    trust: Arc<Mutex<TrustStore>>,
    servers: Servers,
    session: SessionId,
    stop: CancellationToken,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.servers.stop();
        self.stop.cancel();
    }
}

fn quick() -> Timing {
    let ms = Duration::from_millis;
    Timing { answer: ms(2_000), dead: ms(300), again: vec![ms(10), ms(20)], grace: ms(100), ..Timing::default() }
}

impl Bed {
    fn new(timing: Timing) -> Self {
        let home = tempfile::tempdir().unwrap();
        let registry = Arc::new(CommandRegistry::new(1, Preferences::default()));
        let trust = Arc::new(Mutex::new(TrustStore::load(home.path())));
        let servers = Servers::new(Arc::clone(&registry), Arc::clone(&trust), home.path().to_owned(), timing);
        let (session, stop) = (SessionId::new(), CancellationToken::new());
        registry.add_session(session).unwrap();
        drop(tokio::spawn(servers.clone().run(stop.clone())));
        Self { home, registry, trust, servers, session, stop }
    }

    fn root(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// These are the project's servers, each a shell with a script; the user has agreed to all.
    fn found(&self, scripts: &[(&str, &str)]) {
        let draft = |(name, script): &(&str, &str)| {
            let root = self.root().to_string_lossy().into_owned();
            let args = vec!["-c".to_owned(), (*script).to_owned(), "sh".to_owned(), root];
            let transport = Transport::Stdio { command: "sh".to_owned(), args, env: Vec::new() };
            let server = McpServer { name: (*name).to_owned(), transport, dir: None, variables: Vec::new() };
            let exec = sources::Exec::McpServer(server);
            let item = Item {
                name: (*name).to_owned(),
                qualified_name: format!("mcp:{name}"),
                owner: "mcp".to_owned(),
                display_name: None,
                group: None,
                aliases: Vec::new(),
                kind: sources::Kind::McpServer,
                scope: sources::Scope::Project,
                is_own: false,
                description: String::new(),
                arguments: sources::Arguments::default(),
                exec,
                file: PathBuf::from(".mcp.json"),
                line: None,
                own: String::new(),
                listed: true,
                agents_may: true,
                evidence: Vec::new(),
                shared: Vec::new(),
            };
            let decides = item.trust_input();
            let exec = Exec::Found(Arc::new(item));
            Draft { decides, trust: Trust::Pending, ..Draft::new(name, "mcp", Kind::McpServer, Scope::Project, exec) }
        };
        let slice = Slice::new("project:mcp", scripts.iter().map(draft).collect(), Vec::new());
        let root = self.root();
        let look =
            self.registry.set_project(self.session, Some(&root)).or_else(|| self.registry.look_at_project(&root));
        let mut trust = self.trust.lock();
        slice.entries().iter().for_each(|entry| trust.agree(&root, entry, 1).unwrap());
        let slice = slice.with_trust(|entry| trust.of(&root, entry));
        assert!(self.registry.found_project(&look.unwrap(), vec![slice]));
    }

    /// Waits until this is so of what the session sees.
    async fn until(&self, what: &str, is_so: impl Fn(&View) -> bool) {
        let mut changes = self.registry.subscribe();
        let seen = async {
            while !is_so(&self.registry.get_for_session(Some(self.session))) {
                changes.changed().await.unwrap();
            }
        };
        assert!(tokio::time::timeout(SOON, seen).await.is_ok(), "not within {SOON:?}: {what}");
    }

    fn started(&self) -> usize {
        std::fs::read_to_string(self.home.path().join("started")).unwrap_or_default().lines().count()
    }
}

fn state(view: &View, name: &str) -> Option<EntryState> {
    view.one(name).ok().map(|entry| entry.state.clone())
}

fn is_unavailable(view: &View, name: &str) -> bool {
    matches!(state(view, name), Some(EntryState::Unavailable(_)))
}

/// Corner 11.
#[tokio::test]
async fn what_a_dead_server_offered_stays_unavailable_for_a_while_and_then_goes() {
    let bed = Bed::new(quick());
    bed.found(&[("s", SERVER)]);
    bed.until("it is there", |view| state(view, "s:one") == Some(EntryState::Ready)).await;
    // From now on it dies whenever it is started.
    std::fs::write(bed.home.path().join("die"), "").unwrap();
    let pid: i32 = std::fs::read_to_string(bed.home.path().join("started")).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    bed.until("it is away", |view| is_unavailable(view, "s:one") && is_unavailable(view, "mcp:s")).await;
    bed.until("it has gone", |view| state(view, "s:one").is_none() && is_unavailable(view, "mcp:s")).await;
    assert_eq!(bed.started(), 3, "the first, and one after each pause");
    let view = bed.registry.get_for_session(Some(bed.session));
    let Some(EntryState::Unavailable(why)) = state(&view, "mcp:s") else { panic!("{:?}", state(&view, "mcp:s")) };
    assert_eq!(why, "it ended with status 4: no more");
    // Left alone until somebody wants it.
    std::fs::remove_file(bed.home.path().join("die")).unwrap();
    bed.servers.retry();
    bed.until("it is back", |view| state(view, "s:one") == Some(EntryState::Ready)).await;
}

/// Says that its list is another one as soon as it is asked for; fails the second time, and has one more tool the third time.
const MOODY: &str = r#"
n=0
while read -r line; do
    id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
    case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"t","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*)
        n=$((n + 1))
        one='{"name":"one","inputSchema":{"type":"object"}}'
        case $n in
        1) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s]}}\n' "$id" "$one" ;;
        2) echo 2 > "$1/failed"; printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"not now"}}\n' "$id" ;;
        *) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s,{"name":"two","inputSchema":{"type":"object"}}]}}\n' "$id" "$one" ;;
        esac
        [ $n -lt 3 ] && echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}' ;;
    esac
done
"#;

/// Corner 11: what a server cannot say at the moment is still as it was.
#[tokio::test]
async fn a_list_that_fails_leaves_the_one_before() {
    let bed = Bed::new(Timing { settle: Duration::from_millis(1), ..quick() });
    bed.found(&[("s", MOODY)]);
    bed.until("it is there", |view| state(view, "s:one") == Some(EntryState::Ready)).await;
    bed.until("the third list is there", |view| {
        assert_eq!(state(view, "s:one"), Some(EntryState::Ready), "gone because a list has failed");
        state(view, "s:two") == Some(EntryState::Ready)
    })
    .await;
    assert!(bed.home.path().join("failed").exists());
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let timing = Timing { answer: Duration::from_millis(50), again: Vec::new(), ..quick() };
    let bed = Bed::new(timing);
    bed.found(&[("mute", "echo $$ >> \"$1/started\"; exec sleep 600")]);
    bed.until("it is given up", |view| is_unavailable(view, "mcp:mute")).await;
    let pid: i32 = std::fs::read_to_string(bed.home.path().join("started")).unwrap().trim().parse().unwrap();
    assert!(rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid).unwrap()).is_err(), "it is ended");
}

/// `cd ..; cd -` starts nothing anew, and what nobody is at ends.
#[tokio::test]
async fn a_project_that_was_left_keeps_its_servers_for_a_while() {
    let bed = Bed::new(Timing { grace: Duration::from_mins(1), ..quick() });
    bed.found(&[("s", SERVER)]);
    bed.until("it is there", |view| state(view, "s:one") == Some(EntryState::Ready)).await;
    bed.registry.set_project(bed.session, None);
    bed.servers.reconcile();
    bed.found(&[("s", SERVER)]);
    bed.until("it is there again", |view| state(view, "s:one") == Some(EntryState::Ready)).await;
    assert_eq!(bed.started(), 1);
    let bed = Bed::new(Timing { grace: Duration::ZERO, ..quick() });
    bed.found(&[("s", SERVER)]);
    bed.until("it is there", |view| state(view, "s:one") == Some(EntryState::Ready)).await;
    bed.registry.set_project(bed.session, None);
    bed.servers.reconcile();
    assert!(bed.servers.shared.state.lock().running.is_empty());
}

#[tokio::test]
async fn so_many_servers_run_and_one_more_is_told() {
    let bed = Bed::new(quick());
    let names: Vec<String> = (0..=SERVERS_MAX).map(|n| format!("s{n:02}")).collect();
    let scripts: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "exec sleep 600")).collect();
    bed.found(&scripts);
    bed.servers.reconcile();
    let view = bed.registry.get_for_session(Some(bed.session));
    assert_eq!(bed.servers.shared.state.lock().running.len(), SERVERS_MAX);
    assert!(is_unavailable(&view, &format!("mcp:s{SERVERS_MAX}")));
    assert_eq!(state(&view, "mcp:s00"), Some(EntryState::Starting));
}
