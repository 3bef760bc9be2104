//! What is run: only what was agreed to, as it is then, and what becomes of it.

use super::*;

/// Trust: content-bound, checked against the disk as it is, withdrawn with what runs (corner 9), never silent. R-12.
#[tokio::test]
async fn nothing_of_a_project_runs_unless_it_is_what_was_agreed_to() {
    let daemon = Daemon::start().await;
    let root = daemon.project("p", &["one"]);
    let client = daemon.client().await;
    let session = SessionId::new();
    keeper(&client, session, &root).await;
    settled(&client, session).await;
    let run = || ask(&client, Ask::Execute(execute(session, "one")));
    let Told::Failed(RegistryError::NotTrusted(question)) = run().await else { panic!() };
    assert!(question.before.is_none() && question.runs.iter().any(|line| line.contains("echo one")), "{question:?}");
    let agree = |question: &TrustQuestion| {
        let (entry, digest) = (question.entry.id.clone(), question.entry.digest);
        ask(&client, Ask::Trust { session: Some(session), entry, digest })
    };
    assert_eq!(agree(&question).await, Told::Done);
    let Told::Accepted { invocation, .. } = run().await else { panic!() };
    assert_eq!(output(&client, invocation).await, ("one\n".to_owned(), ExecutionEvent::Exit { code: 0 }));
    // Changed behind our back: what is on the disk now counts, not what was seen last.
    write_command(&root, "one", "echo evil");
    let Told::Failed(RegistryError::NotTrusted(changed)) = run().await else { panic!() };
    assert!(changed.before.as_ref().is_some_and(|before| before.iter().any(|line| line.contains("echo one"))));
    let stale = agree(&question).await;
    assert!(matches!(stale, Told::Failed(RegistryError::StaleEntry { .. })), "{stale:?}");
    let seen = ExecuteCommand { digest: Some(question.entry.digest), ..execute(session, "one") };
    let stale = ask(&client, Ask::Execute(seen)).await;
    assert!(matches!(stale, Told::Failed(RegistryError::StaleEntry { .. })), "{stale:?}");
    // Taken back while it runs.
    write_command(&root, "one", "echo begun; sleep 600");
    let Told::Failed(RegistryError::NotTrusted(question)) = run().await else { panic!() };
    assert_eq!(agree(&question).await, Told::Done);
    let Told::Accepted { invocation, .. } = run().await else { panic!() };
    let begun = ask(&client, Ask::Follow { invocation, from: 0, wait_ms: 20_000 }).await;
    assert!(matches!(&begun, Told::Events { events, .. } if events[0] == ExecutionEvent::Stdout(b"begun\n".to_vec())));
    let told = ask(&client, Ask::TrustRevoke { root: None, entry: Some("project:one".into()) }).await;
    assert_eq!(told, Told::Revoked { count: 1 });
    assert_eq!(output(&client, invocation).await.1, ExecutionEvent::Error(RegistryError::Cancelled));
    assert!(matches!(run().await, Told::Failed(RegistryError::NotTrusted(_))));
    // The founding protocol's services know nothing of projects.
    let told = ask(&client, Ask::ExecuteService(execute(session, "one"))).await;
    let Told::Failed(error) = told else { panic!("{told:?}") };
    assert_eq!(error.to_string(), "Unknown service command: one");
    let Told::Accepted { invocation, .. } = ask(&client, Ask::ExecuteService(execute(session, "pwd"))).await else {
        panic!()
    };
    assert_eq!(output(&client, invocation).await.0, format!("{}\n", root.display()));
    daemon.stop().await;
}

/// Corner 7, and agreement that outlives the daemon. Corner 5: what runs keeps what it was started with.
#[tokio::test]
async fn a_new_daemon_knows_what_was_agreed_to_and_nothing_of_what_ran() {
    let daemon = Daemon::start().await;
    let root = daemon.project("p", &["one"]);
    write_command(&root, "one", "sleep 0.3; echo old");
    let client = daemon.client().await;
    let session = SessionId::new();
    keeper(&client, session, &root).await;
    settled(&client, session).await;
    let Told::Failed(RegistryError::NotTrusted(question)) = ask(&client, Ask::Execute(execute(session, "one"))).await
    else {
        panic!()
    };
    let (entry, digest) = (question.entry.id.clone(), question.entry.digest);
    assert_eq!(ask(&client, Ask::Trust { session: Some(session), entry, digest }).await, Told::Done);
    let Told::Accepted { invocation, .. } = ask(&client, Ask::Execute(execute(session, "one"))).await else { panic!() };
    std::fs::remove_file(root.join(".shellkeep/commands/one.toml")).unwrap();
    ask(&client, Ask::Reload { session: Some(session) }).await;
    assert!(names(&client, session).await.is_empty());
    assert_eq!(output(&client, invocation).await.0, "old\n");
    write_command(&root, "one", "sleep 0.3; echo old");
    client.close().await;
    let daemon = Daemon::start_in(daemon.stop().await).await;
    let client = daemon.client().await;
    assert!(names(&client, session).await.is_empty(), "its keeper has not come yet");
    let told = ask(&client, Ask::Follow { invocation, from: 0, wait_ms: 1 }).await;
    assert_eq!(told, Told::Failed(RegistryError::Interrupted));
    keeper(&client, session, &root).await;
    settled(&client, session).await;
    assert_eq!(names(&client, session).await, ["one"]);
    assert!(matches!(ask(&client, Ask::Execute(execute(session, "one"))).await, Told::Accepted { .. }));
    daemon.stop().await;
}

/// Errors of 4.1 that no command is needed for.
#[tokio::test]
async fn what_is_too_much_or_cannot_be_an_argument_is_refused_and_nothing_runs() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let nobody = SessionId::new();
    let pwd = || execute(nobody, "pwd");
    let many = ExecuteCommand { args: vec![String::new(); ARGS_MAX + 1], ..pwd() };
    let long = ExecuteCommand { args: vec!["x".repeat(ARGS_BYTES_MAX + 1)], ..pwd() };
    for large in [many, long] {
        let told = ask(&client, Ask::Execute(large)).await;
        assert!(matches!(&told, Told::Failed(RegistryError::TooLarge { what }) if what == "the arguments"), "{told:?}");
    }
    let nul = ExecuteCommand { args: vec!["a\0b".into()], ..pwd() };
    let told = ask(&client, Ask::Execute(nul)).await;
    assert!(matches!(told, Told::Failed(RegistryError::InvalidArgs { .. })), "{told:?}");
    let told = ask(&client, Ask::Execute(execute(nobody, "bash"))).await;
    assert!(matches!(told, Told::Failed(RegistryError::InvalidArgs { .. })), "a line is missing: {told:?}");
    let nothing = InvocationId { boot: 1, n: 1 };
    assert_eq!(ask(&client, Ask::Cancel { invocation: nothing }).await, Told::Failed(RegistryError::Interrupted));
    let told = ask(&client, Ask::Execute(ExecuteCommand { session: None, ..execute(nobody, "exti") })).await;
    let Told::Failed(error) = told else { panic!("{told:?}") };
    assert_eq!(
        error,
        RegistryError::UnknownCommand { name: "exti".into(), near: vec!["exit".into()], is_service: false }
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_question_of_another_version_is_answered_with_ours() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let answer = client.call(Request::Registry { version: 0, body: Vec::new() }).await.unwrap().response;
    assert!(matches!(answer, Response::QueryVersion { speaks: REGISTRY_VERSION, .. }), "{answer:?}");
    let answer =
        client.call(Request::Registry { version: REGISTRY_VERSION, body: vec![255; 9] }).await.unwrap().response;
    let Response::Registry { body } = answer else { panic!() };
    let told: Told = shellkeep_transport::decode(&body).unwrap();
    assert!(matches!(told, Told::Failed(RegistryError::Invalid { .. })), "{told:?}");
    daemon.stop().await;
}

/// What cannot be read is asked for each time: one answer is for one execution.
#[tokio::test]
async fn what_cannot_be_read_runs_once_for_each_yes() {
    let daemon = Daemon::start().await;
    let root = daemon.project("p", &[]);
    write_command(&root, "one", "sh ./big.sh");
    let script = format!("echo ran\nexit\n{}", "#".repeat(2 << 20));
    std::fs::write(root.join("big.sh"), script).unwrap();
    let client = daemon.client().await;
    let session = SessionId::new();
    keeper(&client, session, &root).await;
    settled(&client, session).await;
    let run = || ask(&client, Ask::Execute(execute(session, "one")));
    for _ in 0..2 {
        let Told::Failed(RegistryError::NotTrusted(question)) = run().await else { panic!("it runs unasked") };
        assert!(question.runs[0].contains("big.sh: it is larger than"), "{:?}", question.runs);
        let (entry, digest) = (question.entry.id.clone(), question.entry.digest);
        assert_eq!(ask(&client, Ask::Trust { session: Some(session), entry, digest }).await, Told::Done);
        assert_eq!(ask(&client, Ask::TrustList).await, Told::Trusted(Vec::new()));
        let Told::Accepted { invocation, .. } = run().await else { panic!("it was agreed to") };
        assert_eq!(output(&client, invocation).await.0, "ran\n");
    }
    let Told::Diagnostics(told) = ask(&client, Ask::Diagnostics { session: Some(session) }).await else { panic!() };
    assert!(told.iter().any(|one| one.message.contains("big.sh is asked for each time")), "{told:?}");
    daemon.stop().await;
}

/// As many as may run and wait are taken, however many look at the disk for that.
#[tokio::test]
async fn executions_at_once_share_their_looks_at_the_disk() {
    const FIT: usize = run::RUNNING_MAX + run::WAITING_MAX;
    let daemon = Daemon::start().await;
    let root = daemon.project("p", &[]);
    write_command(&root, "one", "sleep 600");
    // A look takes its time, so that others ask meanwhile.
    std::fs::create_dir_all(root.join(".claude/commands")).unwrap();
    for number in 0..300 {
        std::fs::write(root.join(format!(".claude/commands/c{number}.md")), "Look at src/main.rs").unwrap();
    }
    let client = daemon.client().await;
    let session = SessionId::new();
    keeper(&client, session, &root).await;
    settled(&client, session).await;
    let begin = |client: Client| async move { ask(&client, Ask::Execute(execute(session, "one"))).await };
    let Told::Failed(RegistryError::NotTrusted(question)) = begin(client.clone()).await else { panic!() };
    let (entry, digest) = (question.entry.id.clone(), question.entry.digest);
    assert_eq!(ask(&client, Ask::Trust { session: Some(session), entry, digest }).await, Told::Done);
    let runs: Vec<_> = (0..100).map(|_| tokio::spawn(begin(client.clone()))).collect();
    let mut accepted = 0;
    for run in runs {
        match run.await.unwrap() {
            Told::Accepted { .. } => accepted += 1,
            Told::Failed(RegistryError::Busy) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(accepted, FIT);
    let told = ask(&client, Ask::TrustRevoke { root: None, entry: None }).await;
    assert_eq!(told, Told::Revoked { count: 1 });
    daemon.stop().await;
}

/// Of names that match alike, the one that was run comes first, also of a daemon that has not run it itself.
#[tokio::test]
async fn how_often_commands_were_run_outlives_the_daemon() {
    let daemon = Daemon::start().await;
    let root = daemon.project("p", &["build-a", "build-b", "build-c"]);
    let client = daemon.client().await;
    let session = SessionId::new();
    keeper(&client, session, &root).await;
    settled(&client, session).await;
    let Told::Failed(RegistryError::NotTrusted(question)) =
        ask(&client, Ask::Execute(execute(session, "build-c"))).await
    else {
        panic!("it was never agreed to")
    };
    let (entry, digest) = (question.entry.id.clone(), question.entry.digest);
    ask(&client, Ask::Trust { session: Some(session), entry, digest }).await;
    let Told::Accepted { invocation, .. } = ask(&client, Ask::Execute(execute(session, "build-c"))).await else {
        panic!()
    };
    output(&client, invocation).await;
    client.close().await;
    let daemon = Daemon::start_in(daemon.stop().await).await;
    let client = daemon.client().await;
    keeper(&client, session, &root).await;
    settled(&client, session).await;
    let wanted = SearchCommands { session: Some(session), query: "build".into(), limit: 8 };
    let Told::Found(found) = ask(&client, Ask::Search(wanted)).await else { panic!() };
    let names: Vec<_> = found.iter().map(|hit| hit.name.as_str()).collect();
    assert_eq!(names, ["build-c", "build-a", "build-b"]);
    daemon.stop().await;
}
