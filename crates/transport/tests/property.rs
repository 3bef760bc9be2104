//! Calls, drops, kills and timeouts in any order: each call that is kept ends exactly once, and rightly.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use proptest::prelude::*;
use shellkeep_transport::*;

#[derive(Debug, Clone)]
enum Step {
    Call,
    /// A call that is executed and not answered: the connection ends instead.
    Unanswered,
    /// A call that is answered when its gate is opened.
    Gated,
    /// A call that only its deadline can end.
    Hopeless,
    Panic,
    Pushes,
    DropOne(usize),
    OpenAll,
    /// The server closes every connection.
    Kick,
    /// The server ends and another one begins.
    Restart,
    ReconnectNow,
    /// Lets everything else run.
    Breathe,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Call),
        1 => Just(Step::Unanswered),
        5 => Just(Step::Gated),
        2 => Just(Step::Hopeless),
        1 => Just(Step::Panic),
        1 => Just(Step::Pushes),
        3 => (0_usize..50).prop_map(Step::DropOne),
        3 => Just(Step::OpenAll),
        1 => Just(Step::Kick),
        1 => Just(Step::Restart),
        1 => Just(Step::ReconnectNow),
        4 => Just(Step::Breathe),
    ]
}

/// What was asked, so that the answer can be judged.
struct Kept {
    number: u64,
    step: Step,
    generation: Option<u64>,
    call: Call<Echo>,
}

fn start(home: &Home) -> Server {
    let options = ServerOptions {
        drain_wait: Duration::from_millis(20), // for the handlers that hang
        ..ServerOptions::default()
    };
    Server::start_with(&home.socket(), options)
}

/// Stops it and sees all its tasks end. Not within the server's own limit for that: a handler that panics prints its
/// stack, which takes longer on a machine with too much to do.
async fn stop(server: Server) {
    let rpc = server.rpc.clone();
    if server.stop().await > 0 {
        let ended = async { while rpc.stopped().await > 0 {} };
        patient("the end of the server's tasks", ended).await;
    }
}

/// What a step asks, if anything, and how long it waits, in milliseconds.
fn asked(step: &Step, number: u64) -> (Option<Ask>, u64) {
    match step {
        Step::Call => (Some(Ask::Echo(number)), 5000),
        Step::Unanswered => (Some(Ask::EchoAndClose(number)), 5000),
        Step::Gated => (Some(Ask::Gate(0)), 5000),
        Step::Hopeless => (Some(Ask::Hang), 5 + number % 7),
        Step::Panic => (Some(Ask::Panic), 5000),
        Step::Pushes => (Some(Ask::Push(3)), 5000),
        _ => (None, 0),
    }
}

async fn run(steps: Vec<Step>, spin: bool) {
    let home = Home::new();
    let mut server = start(&home);
    let mut executed = Vec::new();
    let connect = ConnectOptions { spin, ..ConnectOptions::default() };
    let client = connect_unix_lazy(home.socket(), ReconnectPolicy { connect, ..ReconnectPolicy::default() }, nothing);
    let mut events = client.events();
    connected(&client).await;
    let mut kept = Vec::<Kept>::new();
    for (number, step) in steps.into_iter().enumerate() {
        let number = number as u64;
        let (ask, wait) = asked(&step, number);
        if let Some(ask) = ask {
            let call = client.start_call_with_deadline(&ask, Duration::from_millis(wait));
            let generation = call.generation();
            kept.push(Kept { number, step: step.clone(), generation, call });
        }
        match step {
            Step::DropOne(n) if !kept.is_empty() => drop(kept.swap_remove(n % kept.len())),
            Step::OpenAll => server.seen.open_gate(0),
            Step::Kick => {
                for context in server.seen.contexts.lock().unwrap().drain(..) {
                    context.close(GoodbyeReason::Superseded);
                }
            }
            Step::Restart => {
                server.seen.open_gate(0);
                let seen = Arc::clone(&server.seen);
                stop(server).await;
                executed.append(&mut seen.echoes.lock().unwrap());
                server = start(&home);
            }
            Step::ReconnectNow => client.reconnect_now(),
            Step::Breathe => tokio::time::sleep(Duration::from_millis(1)).await, // lets the other side run: one step of the history
            _ => {}
        }
    }
    connected(&client).await;
    let mut verdicts = Vec::new();
    let judging = async {
        for kept in kept {
            verdicts.extend(judge(kept).await);
        }
    };
    let opening = async {
        loop {
            server.seen.open_gate(0);
            tokio::time::sleep(Duration::from_millis(1)).await; // lets the other side run: one step of the history
        }
    };
    tokio::select! {
        () = judging => {}
        () = opening => {}
    }
    patient("the close", client.close()).await;
    judge_events(&mut events).await;
    let seen = Arc::clone(&server.seen);
    stop(server).await;
    executed.append(&mut seen.echoes.lock().unwrap());
    judge_executions(&executed, verdicts);
}

/// What the errors said of execution, held against what the servers did.
fn judge_executions(executed: &[u64], verdicts: Vec<(u64, Executed)>) {
    for (number, verdict) in verdicts {
        let times = executed.iter().filter(|echoed| **echoed == number).count();
        match verdict {
            Executed::Yes => assert_eq!(times, 1, "call {number}"),
            Executed::No => assert_eq!(times, 0, "call {number}"),
            Executed::Unknown => assert!(times <= 1, "call {number} was executed {times} times"),
        }
    }
}

/// Ends the call, and says of a plain one what its outcome says about its execution.
async fn judge(kept: Kept) -> Option<(u64, Executed)> {
    let mut call = kept.call;
    let outcome = patient("a call's end", &mut call).await;
    assert!(patient("a second poll", &mut call).await.is_err(), "once is all");
    let plain = matches!(kept.step, Step::Call | Step::Unanswered);
    let verdict = outcome.as_ref().map_or_else(CallError::executed, |_| Executed::Yes);
    match (outcome, kept.step) {
        (Ok(answer), step) => {
            assert_eq!(Some(answer.generation), kept.generation);
            let Told::Number(number) = answer.response else { panic!("{:?}", answer.response) };
            match step {
                Step::Call => assert_eq!(number, kept.number),
                Step::Gated => assert_eq!(number, 0),
                // Closed on another thread while its handler pushes, a connection takes only some of them.
                Step::Pushes => assert!(number <= 3, "{number}"),
                other => panic!("{other:?} was answered"),
            }
        }
        (Err(CallError::Disconnected | CallError::ConnectionLost { .. } | CallError::ShuttingDown), _)
        | (Err(CallError::Deadline { .. }), Step::Hopeless)
        | (Err(CallError::HandlerFailed), Step::Panic) => {}
        (Err(error), step) => panic!("{step:?} ended with {error:?}"),
    }
    plain.then_some((kept.number, verdict))
}

/// Up, pushes, Down, and again; generations only grow.
async fn judge_events(events: &mut Events<Echo>) {
    let (mut up, mut last) = (None, 0);
    while let Some(event) = patient("the end of the events", events.next()).await {
        match event {
            Event::Up { generation } => {
                assert!(up.is_none() && generation > last, "{up:?}, {last}, then up {generation}");
                up = Some(generation);
                last = generation;
            }
            Event::Push { generation, .. } => assert_eq!(up, Some(generation)),
            Event::Down { generation, .. } => assert_eq!(up.take(), Some(generation)),
        }
    }
    assert!(up.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn every_call_ends_exactly_once_whatever_happens(steps in prop::collection::vec(step(), 1..120), spin: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps, spin));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(15) })]

    #[test]
    fn and_on_several_threads_too(steps in prop::collection::vec(step(), 1..120), spin: bool) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { tokio::spawn(run(steps, spin)).await.unwrap() });
    }
}
