//! Real processes: what they print arrives, and they end when they must.

use shellkeep_protocol::registry::{Kind, Scope};

use super::super::entry::Exec;
use super::super::{Draft, Slice};
use super::*;

/// Far above what anything here takes.
const SOON: Duration = Duration::from_secs(20);

fn entry() -> Arc<Entry> {
    let draft = Draft::new("t", "just", Kind::Task, Scope::Project, Exec::Nothing);
    Arc::clone(&Slice::new("s", vec![draft], Vec::new()).entries()[0])
}

fn job(script: &str, session: Option<SessionId>) -> Job {
    let asked = [("PATH", "/usr/bin:/bin"), ("SECRET", "x"), ("LC_ALL", "C")];
    Job {
        entry: entry(),
        root: Some("/p".into()),
        session,
        connection: 1,
        act: Act::Process {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            directory: "/".into(),
            asked: asked.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            environment: vec![("OWN".to_owned(), "o".to_owned())],
            stdin: b"given".to_vec(),
            merged: false,
            time_max: SOON,
            held: None,
        },
        recheck: Recheck::new(|| Ok(())),
    }
}

/// Follows to the end: what was printed on both streams, and the last event.
async fn followed(invocations: &Invocations, id: InvocationId) -> (Vec<u8>, Vec<u8>, ExecutionEvent) {
    let (mut stdout, mut stderr, mut from) = (Vec::new(), Vec::new(), 0);
    loop {
        let Told::Events { events, next, .. } = invocations.follow(id, from, SOON, 1).await else { panic!("unknown") };
        from = next;
        for event in events {
            match event {
                ExecutionEvent::Stdout(bytes) => stdout.extend(bytes),
                ExecutionEvent::Stderr(bytes) => stderr.extend(bytes),
                last => return (stdout, stderr, last),
            }
        }
    }
}

async fn ran(script: &str) -> (String, String, ExecutionEvent) {
    let invocations = Invocations::new(1);
    let id = invocations.begin(job(script, None)).unwrap();
    let (stdout, stderr, last) = followed(&invocations, id).await;
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), last)
}

/// Waits until it has printed something; gives what that was.
async fn first(invocations: &Invocations, id: InvocationId) -> String {
    match invocations.follow(id, 0, SOON, 1).await {
        Told::Events { events, .. } => match &events[..] {
            [ExecutionEvent::Stdout(bytes), ..] => String::from_utf8_lossy(bytes).trim().to_owned(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[tokio::test]
async fn both_streams_the_status_the_input_and_the_environment_are_as_they_should_be() {
    let (stdout, stderr, last) = ran("cat; echo; env | sort; pwd; echo oops >&2; exit 7").await;
    let expected = "given\nLC_ALL=C\nOWN=o\nPATH=/usr/bin:/bin\nPWD=/\nSHELLKEEP_RUN_DEPTH=1\n/\n";
    assert_eq!((&*stdout, &*stderr, last), (expected, "oops\n", ExecutionEvent::Exit { code: 7 }));
    assert_eq!(ran("kill -TERM $$").await.2, ExecutionEvent::Exit { code: 143 });
}

/// The founding design's queue of 64 lines, taken from only at the end, stopped there for ever.
#[tokio::test]
async fn more_output_than_all_queues_hold_arrives_whole() {
    let (stdout, _, last) = ran("i=0; while [ $i -lt 300 ]; do head -c 10000 /dev/zero; i=$((i+1)); done").await;
    assert_eq!((stdout.len(), last), (3_000_000, ExecutionEvent::Exit { code: 0 }));
}

/// And as long as nobody takes it, the command waits instead of filling the daemon.
#[tokio::test]
async fn output_that_nobody_takes_stays_bounded_and_the_command_can_be_ended_all_the_same() {
    let invocations = Invocations::new(1);
    let id = invocations.begin(job("yes", None)).unwrap();
    let invocation = invocations.get(id).unwrap();
    tokio::task::spawn_blocking({
        let invocation = Arc::clone(&invocation);
        move || {
            let until = Instant::now() + SOON;
            while invocation.stream.has_room() && Instant::now() < until {
                std::thread::yield_now();
            }
        }
    })
    .await
    .unwrap();
    assert!(!invocation.stream.has_room());
    assert!(invocations.cancel(id));
    let (stdout, _, last) = followed(&invocations, id).await;
    assert_eq!(last, ExecutionEvent::Error(RegistryError::Cancelled));
    assert!(stdout.len() < stream::OUTPUT_BYTES_MAX * 2, "{}", stdout.len());
}

#[tokio::test]
async fn a_cancelled_command_ends_with_its_children_even_if_it_does_not_listen() {
    let invocations = Invocations::new(1);
    let script = "trap '' TERM; sleep 600 & echo $$ $!; wait; wait";
    let id = invocations.begin(job(script, None)).unwrap();
    let pids = first(&invocations, id).await;
    assert!(pids.split(' ').all(is_alive), "{pids}");
    assert!(invocations.cancel(id));
    assert_eq!(followed(&invocations, id).await.2, ExecutionEvent::Error(RegistryError::Cancelled));
    assert!(!pids.split(' ').any(is_alive), "{pids}");
}

/// What it has started hears of it too, and is ended if it does not listen, when the command itself has gone at once.
#[tokio::test]
async fn a_child_that_does_not_listen_does_not_outlive_a_cancelled_command_that_does() {
    let invocations = Invocations::new(1);
    let id = invocations.begin(job("sh -c 'trap \"\" TERM; echo $$; sleep 600' & wait", None)).unwrap();
    let pid = first(&invocations, id).await;
    assert!(invocations.cancel(id));
    assert_eq!(followed(&invocations, id).await.2, ExecutionEvent::Error(RegistryError::Cancelled));
    assert!(!is_alive(&pid), "{pid}");
}

#[tokio::test]
async fn an_interrupt_is_what_ctrl_c_is_and_the_command_may_go_on() {
    let invocations = Invocations::new(1);
    let script = "trap 'echo heard' INT; echo up; while :; do sleep 0.05; done";
    let id = invocations.begin(job(script, None)).unwrap();
    assert_eq!(first(&invocations, id).await, "up");
    assert!(invocations.interrupt(id));
    let Told::Events { events, .. } = invocations.follow(id, 1, SOON, 1).await else { panic!("unknown") };
    assert_eq!(events, [ExecutionEvent::Stdout(b"heard\n".to_vec())]);
    invocations.cancel(id);
    assert_eq!(followed(&invocations, id).await.2, ExecutionEvent::Error(RegistryError::Cancelled));
    // One that takes it as its end ends of it.
    let id = invocations.begin(job("echo up; exec sleep 600", None)).unwrap();
    assert_eq!(first(&invocations, id).await, "up");
    assert!(invocations.interrupt(id));
    assert_eq!(followed(&invocations, id).await.2, ExecutionEvent::Exit { code: 130 });
}

#[tokio::test]
async fn outputs_that_go_to_one_place_keep_their_order() {
    let invocations = Invocations::new(1);
    let mut job = job("i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done", None);
    if let Act::Process { merged, .. } = &mut job.act {
        *merged = true;
    }
    let id = invocations.begin(job).unwrap();
    let (stdout, stderr, _) = followed(&invocations, id).await;
    let expected: String = (0..200).fold(String::new(), |all, i| all + &format!("out {i}\nerr {i}\n"));
    assert_eq!((String::from_utf8(stdout).unwrap(), stderr), (expected, Vec::new()));
}

/// What was agreed to may be another by then.
#[tokio::test]
async fn a_command_that_had_to_wait_is_looked_at_once_more_before_it_starts() {
    let invocations = Invocations::new(1);
    let session = Some(SessionId::new());
    let running: Vec<_> =
        (0..RUNNING_MAX).map(|_| invocations.begin(job("echo $$; sleep 600", session)).unwrap()).collect();
    let stale = || Err(RegistryError::StaleEntry { entry: "t".to_owned() });
    let waiting = Job { recheck: Recheck::new(stale), ..job("echo ran", session) };
    let waiting = invocations.begin(waiting).unwrap();
    for id in running {
        invocations.cancel(id);
    }
    let (stdout, _, last) = followed(&invocations, waiting).await;
    assert_eq!(
        (stdout, last),
        (Vec::new(), ExecutionEvent::Error(RegistryError::StaleEntry { entry: "t".to_owned() }))
    );
}

#[tokio::test]
async fn a_command_whose_time_is_over_is_ended_and_that_is_said() {
    let invocations = Invocations::new(1);
    let mut job = job("sleep 600", None);
    if let Act::Process { time_max, .. } = &mut job.act {
        *time_max = Duration::from_millis(50);
    }
    let id = invocations.begin(job).unwrap();
    assert_eq!(followed(&invocations, id).await.2, ExecutionEvent::Error(RegistryError::Timeout { after_ms: 50 }));
}

/// Corner 4.
#[tokio::test]
async fn commands_of_a_session_end_with_it_and_those_of_others_do_not() {
    let invocations = Invocations::new(1);
    let (one, other) = (SessionId::new(), SessionId::new());
    let ending = invocations.begin(job("echo $$; sleep 600", Some(one))).unwrap();
    let staying = invocations.begin(job("echo $$; sleep 600", Some(other))).unwrap();
    let (pid, stays) = (first(&invocations, ending).await, first(&invocations, staying).await);
    invocations.session_ended(one);
    assert_eq!(followed(&invocations, ending).await.2, ExecutionEvent::Error(RegistryError::SessionEnded));
    assert!(!is_alive(&pid) && is_alive(&stays));
    invocations.stop();
    assert_eq!(followed(&invocations, staying).await.2, ExecutionEvent::Error(RegistryError::Interrupted));
    assert_eq!(invocations.begin(job("true", None)), Err(RegistryError::Busy));
}

/// Corner 8.
#[tokio::test]
async fn a_command_outlives_its_callers_connection_for_a_while_and_can_be_followed_again() {
    let invocations = Invocations::new(1);
    let id = invocations.begin(job("echo $$; read x < /dev/null; sleep 600", None)).unwrap();
    let pid = first(&invocations, id).await;
    invocations.disconnected(1);
    assert_eq!(first(&invocations, id).await, pid, "what it printed is still there, for whoever comes");
    assert!(is_alive(&pid));
    invocations.disconnected(1);
    let invocation = invocations.get(id).unwrap();
    let long_ago = Instant::now().checked_sub(ORPHAN_WAIT_MAX).unwrap();
    *invocation.owner.lock() = Owner::Gone(long_ago);
    invocation.wake();
    while !invocation.stream.has_ended() {
        invocation.stream.added().await;
    }
    assert!(!is_alive(&pid));
    invocations.inner.lock().sweep();
    assert_eq!(invocations.follow(id, 0, SOON, 1).await, Told::Failed(RegistryError::Interrupted));
}

#[tokio::test]
async fn so_many_run_at_a_time_so_many_wait_and_no_more() {
    let invocations = Invocations::new(1);
    let session = Some(SessionId::new());
    let all: Vec<_> =
        (0..RUNNING_MAX).map(|_| invocations.begin(job("echo $$; sleep 600", session)).unwrap()).collect();
    let waiting: Vec<_> = (0..WAITING_MAX).map(|_| invocations.begin(job("echo ran", session)).unwrap()).collect();
    assert_eq!(invocations.begin(job("true", session)), Err(RegistryError::Busy));
    // Another session is not held up.
    let other = invocations.begin(job("true", None)).unwrap();
    assert_eq!(followed(&invocations, other).await.2, ExecutionEvent::Exit { code: 0 });
    assert!(invocations.cancel(waiting[0]));
    assert_eq!(followed(&invocations, waiting[0]).await.2, ExecutionEvent::Error(RegistryError::Cancelled));
    for id in all {
        invocations.cancel(id);
    }
    for id in &waiting[1..] {
        assert_eq!(followed(&invocations, *id).await.0, b"ran\n");
    }
}

#[tokio::test]
async fn what_cannot_be_started_is_told_and_names_what_is_missing() {
    let invocations = Invocations::new(1);
    let mut job = job("", None);
    if let Act::Process { argv, .. } = &mut job.act {
        *argv = vec!["no-such-program".to_owned()];
    }
    let id = invocations.begin(job).unwrap();
    let last = followed(&invocations, id).await.2;
    assert!(
        matches!(&last, ExecutionEvent::Error(RegistryError::Unavailable { why, .. }) if why.contains("no-such-program")),
        "{last:?}"
    );
}

#[tokio::test]
async fn children_that_are_left_behind_hold_up_no_end() {
    let began = Instant::now();
    let (stdout, _, last) = ran("sleep 30 & echo $!").await;
    assert_eq!(last, ExecutionEvent::Exit { code: 0 });
    assert!(began.elapsed() < SOON);
    let pid = stdout.trim().parse().unwrap();
    let _gone =
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL);
}
