//! Golden bytes of the conversation about commands: both ends are of one version, and a change of any byte is a new one.

use shellkeep_protocol::daemon::{Push, Request, Response};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::*;

const SESSION: SessionId = SessionId::from_bytes([0x11; 16]);
const INVOCATION: InvocationId = InvocationId { boot: 2, n: 3 };
const REVISION: Revision = Revision { boot: 2, n: 9 };

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Encodes as the wire does and decodes back; what differs from the golden bytes is told all at once.
#[allow(clippy::unwrap_used)] // a helper of tests: what fails here is the test
fn check<T>(wrong: &mut Vec<String>, message: &T, golden: &str)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let mut bytes = Vec::new();
    shellkeep_transport::encode_into(message, &mut bytes, 1 << 20).unwrap();
    assert_eq!(&shellkeep_transport::decode::<T>(&bytes).unwrap(), message);
    if hex(&bytes) != golden {
        wrong.push(format!("{message:?}\n{}", hex(&bytes)));
    }
}

fn entry() -> EntryInfo {
    EntryInfo {
        id: "i".into(),
        name: "n".into(),
        qualified_name: "q".into(),
        kind: Kind::Task,
        scope: Scope::Project,
        source: "s".into(),
        path: Some("p".into()),
        description: "d".into(),
        args_hint: None,
        schema: Some("j".into()),
        group: Some("g".into()),
        display_name: None,
        aliases: vec!["a".into()],
        trust: Trust::Pending,
        state: EntryState::Unavailable("w".into()),
        shadowed_by: None,
        runs: "r".into(),
        digest: Digest([0x22; 32]),
    }
}

fn question() -> TrustQuestion {
    TrustQuestion {
        entry: entry(),
        root: "/r".into(),
        line: "l".into(),
        runs: vec!["x".into()],
        before: Some(vec!["y".into()]),
    }
}

fn asks() -> Vec<Ask> {
    let execute = ExecuteCommand {
        session: Some(SESSION),
        command: "c".into(),
        args: vec!["a".into()],
        digest: Some(Digest([0x22; 32])),
        stdin: vec![1, 2],
        env: vec![("E".into(), "v".into())],
        given: vec![("G".into(), "w".into())],
        merged: true,
        cwd: Some("/".into()),
        time_max_ms: Some(7),
    };
    vec![
        Ask::Get(GetCommandRegistry {
            session: Some(SESSION),
            if_revision: Some(REVISION),
            kinds: vec![Kind::Builtin, Kind::Hook],
            cursor: Some(Cursor { revision: REVISION, at: 4 }),
            limit: 5,
        }),
        Ask::Search(SearchCommands { session: None, query: "q".into(), limit: 6 }),
        Ask::Resolve(ResolveCommand { session: Some(SESSION), name: "n".into() }),
        Ask::Subscribe { session: None },
        Ask::Reload { session: Some(SESSION) },
        Ask::Execute(execute.clone()),
        Ask::ExecuteService(execute),
        Ask::Follow { invocation: INVOCATION, from: 4, wait_ms: 5 },
        Ask::Interrupt { invocation: INVOCATION },
        Ask::Cancel { invocation: INVOCATION },
        Ask::Trust { session: None, entry: "e".into(), digest: Digest([0x22; 32]) },
        Ask::TrustQuestion { session: None, name: "n".into() },
        Ask::TrustList,
        Ask::TrustRevoke { root: Some("/r".into()), entry: None },
        Ask::Settle { session: None, here: Some("/h".into()), wait_ms: 8 },
        Ask::Diagnostics { session: None },
    ]
}

fn events() -> Vec<ExecutionEvent> {
    vec![
        ExecutionEvent::Stdout(vec![1]),
        ExecutionEvent::Stderr(vec![2]),
        ExecutionEvent::Prompt { text: "t".into() },
        ExecutionEvent::Client(ClientEffect::ChangeDirectory("/".into())),
        ExecutionEvent::Client(ClientEffect::Exit),
        ExecutionEvent::Client(ClientEffect::StopDaemon),
        ExecutionEvent::Client(ClientEffect::Packages(vec!["w".into()])),
        ExecutionEvent::Progress { elapsed_ms: 3 },
        ExecutionEvent::Exit { code: -1 },
        ExecutionEvent::Error(RegistryError::Cancelled),
    ]
}

fn answers() -> Vec<Told> {
    let diagnostic =
        Diagnostic { source: "s".into(), file: Some("f".into()), line: Some(2), message: "m".into(), is_loss: true };
    let record =
        TrustRecord { root: "/r".into(), entry: "e".into(), digest: Digest([0x22; 32]), at_us: 5, runs: vec![] };
    vec![
        Told::Page(Page {
            revision: REVISION,
            complete: true,
            entries: vec![entry()],
            next: Some(Cursor { revision: REVISION, at: 4 }),
        }),
        Told::NotModified,
        Told::Found(vec![]),
        Told::Resolved(Box::new(entry())),
        Told::Subscribed { revision: REVISION },
        Told::Reloaded(Reloaded {
            base: 1,
            session: 2,
            plugins: 3,
            root: Some("/r".into()),
            diagnostics: vec![diagnostic.clone()],
        }),
        Told::Accepted { invocation: INVOCATION, entry: "e".into(), line: Some("l".into()) },
        Told::Events { events: events(), next: 4, is_last: true },
        Told::Done,
        Told::Question(Box::new(question())),
        Told::Trusted(vec![record]),
        Told::Revoked { count: 2 },
        Told::Diagnostics(vec![diagnostic]),
        Told::Failed(RegistryError::UnknownSession),
    ]
}

fn errors() -> Vec<RegistryError> {
    let text = || "t".to_owned();
    vec![
        RegistryError::UnknownSession,
        RegistryError::UnknownCommand { name: text(), near: vec![text()], is_service: true },
        RegistryError::Ambiguous { name: text(), candidates: vec![text()] },
        RegistryError::StaleEntry { entry: text() },
        RegistryError::NotTrusted(Box::new(question())),
        RegistryError::Unavailable { entry: text(), why: text() },
        RegistryError::InvalidArgs { why: text() },
        RegistryError::Timeout { after_ms: 5 },
        RegistryError::Cancelled,
        RegistryError::SessionEnded,
        RegistryError::Reloaded,
        RegistryError::Interrupted,
        RegistryError::Busy,
        RegistryError::TooLarge { what: text() },
        RegistryError::RemoteError { code: -32601, data: text() },
        RegistryError::System { what: text(), why: text() },
        RegistryError::Invalid { why: text() },
    ]
}

fn changes() -> Vec<RegistryChanged> {
    let changed = |change| RegistryChanged { session: Some(SESSION), revision: REVISION, complete: true, change };
    vec![changed(vec![1, 2]), changed(vec![])]
}

/// Compares with the lines of a file. After a change that is meant, and a new version, `UPDATE_EXPECTED=1` writes it anew.
#[allow(clippy::unwrap_used)] // a helper of tests: what fails here is the test
fn check_file<T>(messages: &[T], name: &str)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        let line = |message| {
            let mut bytes = Vec::new();
            shellkeep_transport::encode_into(message, &mut bytes, 1 << 20).unwrap();
            hex(&bytes) + "\n"
        };
        std::fs::write(&path, messages.iter().map(line).collect::<String>()).unwrap();
    }
    check_all(messages, &std::fs::read_to_string(path).unwrap());
}

fn check_all<T>(messages: &[T], golden: &str)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let golden: Vec<&str> = golden.lines().collect();
    let mut wrong = Vec::new();
    for (nth, message) in messages.iter().enumerate() {
        check(&mut wrong, message, golden.get(nth).copied().unwrap_or_default());
    }
    assert!(wrong.is_empty() && golden.len() == messages.len(), "{}", wrong.join("\n"));
}

#[test]
fn questions_keep_their_bytes() {
    check_file(&asks(), "asks.hex");
}

#[test]
fn answers_keep_their_bytes() {
    check_file(&answers(), "answers.hex");
    check_file(&errors(), "errors.hex");
}

#[test]
fn pushes_and_their_changes_keep_their_bytes() {
    check_file(&changes().into_iter().map(RegistryPush::Changed).collect::<Vec<_>>(), "pushes.hex");
    let delta = Change::Delta { added: vec![entry()], updated: vec![], removed: vec!["i".into()] };
    check_file(&[delta, Change::Reset], "changes.hex");
}

#[test]
fn kinds_keep_their_numbers() {
    let bytes: Vec<u8> = Kind::ALL
        .iter()
        .map(|kind| {
            let mut bytes = Vec::new();
            shellkeep_transport::encode_into(kind, &mut bytes, 16).unwrap();
            bytes[0]
        })
        .collect();
    assert_eq!(bytes, (0..14).collect::<Vec<u8>>());
}

#[test]
fn what_carries_them_keeps_its_bytes() {
    check_all(&[Request::Registry { version: 1, body: vec![9] }], "020000000100010000000000000009");
    check_all(&[Response::Registry { body: vec![9] }], "03000000010000000000000009");
    check_all(&[Push::Registry { body: vec![9] }], "01000000010000000000000009");
}
