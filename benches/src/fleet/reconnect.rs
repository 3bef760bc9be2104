//! After a restart: how soon each client has replayed its session and has its first call answered, with nobody asking
//! for it. And with a server that is stopped instead of dead.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde::Serialize;
use shellkeep_transport::CallError;

use super::clients::{Clients, connect};
use super::server::Server;
use super::{Ask, Place, Told};
use crate::machine::Machine;
use crate::stats::{float, median, nanos, percentile};
use crate::{process, report};

/// How long clients may take to come back before it counts as never.
const BACK_WAIT_MAX: Duration = Duration::from_mins(1);
/// Restarts are repeated until they were away for so long in all.
const AWAY_SUM: Duration = Duration::from_secs(30);
/// Calls in flight when a server dies.
const CALLS_IN_FLIGHT: usize = 64;
/// Deadline of the call that is to end by it, with a stopped server.
const SHORT_DEADLINE: Duration = Duration::from_millis(500);

/// The measurement of reconnection.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long the server is away, in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "0,100,1000,3000,10000")]
    away_ms: Vec<u64>,
    /// How many clients come back at once.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    clients: Vec<u64>,
    /// Most restarts for each; at least 3, fewer when the server is away for long.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(3..=10_000))]
    restarts: u32,
    /// Rounds with a stopped server.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long to wait for a quiet machine, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet_wait_s: u64,
    /// Also writes every number here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Restarts of one kind.
#[derive(Debug, Serialize)]
struct Back {
    clients: u64,
    away_ms: u64,
    restarts: u32,
    /// From the new server's bind to the client's first answered call, all clients of all restarts, sorted.
    answered_ns: Vec<u64>,
    /// Tries per client and restart, the one that led to a connection included.
    tries: f64,
}

/// One round with a server that died, and one that was stopped.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(clippy::struct_field_names)] // the unit comes last
struct Ends {
    /// From SIGKILL to the end of the last call in flight, the process's own end included.
    killed_ns: u64,
    /// How far from its deadline a call of a stopped server ended.
    past_deadline_ns: u64,
    /// From SIGSTOP to the end of a call with a long deadline.
    stopped_ns: u64,
    /// From then to the first answered call of a fresh server at the same path.
    fresh_ns: u64,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    back: Vec<Back>,
    ends: Vec<Ends>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::when_quiet(Duration::from_secs(args.quiet_wait_s))?;
    let mut back = Vec::new();
    for &clients in &args.clients {
        for &away_ms in &args.away_ms {
            // Many at once are asked about once a second and under: how they spread does not depend on more.
            if clients == 1 || away_ms <= 1000 {
                back.push(restarts(clients, Duration::from_millis(away_ms), args.restarts)?);
            }
        }
    }
    let ends = (0..args.rounds).map(|_| ends()).collect::<anyhow::Result<Vec<_>>>()?;
    process::end_children();
    print(&machine, &back, &ends);
    let results = Results { machine, back, ends };
    args.json.as_ref().map_or(Ok(()), |path| report::json(path, &results))
}

fn restarts(clients: u64, away: Duration, most: u32) -> anyhow::Result<Back> {
    let fit = nanos(AWAY_SUM) / nanos(away).max(1);
    let restarts = u32::try_from(fit).unwrap_or(most).clamp(3, most);
    let place = Place::new()?;
    let mut server = Server::start(&place)?;
    let fleet = Clients::start(&place, clients, 1)?;
    let pid = |server: &Server| server.child.process.pid().as_raw_pid().unsigned_abs();
    fleet.with(pid(&server), BACK_WAIT_MAX)?;
    let (mut answered_ns, mut failed) = (Vec::new(), 0);
    for _ in 0..restarts {
        server.kill();
        std::thread::sleep(away); // the outage is the measure, there is no event to wait for
        server = Server::start(&place)?;
        let arrived = fleet.with(pid(&server), BACK_WAIT_MAX).with_context(|| format!("away for {away:?}"))?;
        failed += arrived.failed_tries;
        answered_ns.extend(arrived.answered_ns.iter().map(|answered| answered.saturating_sub(server.listening_ns)));
    }
    let seen = server.seen()?;
    ensure!(seen.connected == clients, "{} of {clients} clients are connected", seen.connected);
    ensure!(seen.started >= clients, "{} of {clients} sessions were replayed", seen.started);
    answered_ns.sort_unstable();
    let tries = 1.0 + float(failed) / float(clients * u64::from(restarts));
    Ok(Back { clients, away_ms: u64::try_from(away.as_millis())?, restarts, answered_ns, tries })
}

fn ends() -> anyhow::Result<Ends> {
    let place = Place::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::start(&place)?;
        let client = connect(&place.socket, 0);
        let connected = async {
            let mut state = client.state();
            state.wait_for(shellkeep_transport::State::is_connected).await.map(drop)
        };
        tokio::time::timeout(BACK_WAIT_MAX, connected).await??;
        let mut calls = Vec::new();
        for _ in 0..CALLS_IN_FLIGHT {
            calls.push(client.start_call(&Ask::Hang));
        }
        client.call(Ask::Which).await?; // behind them: they have all been read
        let begun = Instant::now();
        server.child.process.signal(Signal::KILL)?;
        for call in calls {
            let end = call.await;
            ensure!(
                matches!(end, Err(CallError::ConnectionLost { maybe_executed: true })),
                "a call ended with {end:?}"
            );
        }
        let killed_ns = nanos(begun.elapsed());
        drop(server);

        let stopped = Server::start(&place)?;
        let mut state = client.state();
        tokio::time::timeout(BACK_WAIT_MAX, state.wait_for(shellkeep_transport::State::is_connected)).await??;
        client.call(Ask::Which).await?;
        stopped.child.process.signal(Signal::STOP)?;
        let begun = Instant::now();
        let long = client.start_call_with_deadline(&Ask::Which, BACK_WAIT_MAX);
        let short = client.call_with_deadline(Ask::Which, SHORT_DEADLINE).await;
        ensure!(matches!(short, Err(CallError::Deadline { .. })), "with a stopped server a call ended with {short:?}");
        let past_deadline_ns = nanos(begun.elapsed().abs_diff(SHORT_DEADLINE));
        std::fs::remove_file(&place.socket)?; // as whoever replaces a server that hangs must do
        let fresh = Server::start(&place)?;
        ensure!(long.await.is_err(), "a stopped server has answered");
        let ended = Instant::now();
        let expected = Told::Server(fresh.child.process.pid().as_raw_pid().unsigned_abs());
        loop {
            ensure!(ended.elapsed() < BACK_WAIT_MAX, "the fresh server was never used");
            match client.call(Ask::Which).await {
                Ok(answer) if answer.response == expected => break,
                _ => tokio::time::sleep(Duration::from_micros(100)).await, // fails at once while there is none
            }
        }
        let fresh_ns = nanos(ended.elapsed());
        client.close().await;
        let stopped_ns = nanos(ended.duration_since(begun));
        Ok(Ends { killed_ns, past_deadline_ns, stopped_ns, fresh_ns })
    })
}

fn print(machine: &Machine, back: &[Back], ends: &[Ends]) {
    let ms = |nanos: u64| format!("{:.2}", float(nanos) / 1e6);
    let row = |back: &Back| {
        vec![
            back.clients.to_string(),
            back.away_ms.to_string(),
            back.restarts.to_string(),
            ms(percentile(&back.answered_ns, 50)),
            ms(percentile(&back.answered_ns, 99)),
            ms(percentile(&back.answered_ns, 100)),
            format!("{:.1}", back.tries),
        ]
    };
    let headings = ["clients", "away ms", "restarts", "p50 ms", "p99 ms", "last ms", "tries each"];
    let title =
        format!("after SIGKILL, from the new bind to the first answered call; goals: p50 1 ms, p99 5 ms; {machine}");
    report::table(&title, &headings, 0, &back.iter().map(row).collect::<Vec<_>>());
    let middle = |of: fn(&Ends) -> u64| format!("{:.2}", median(ends.iter().map(|ends| float(of(ends)) / 1e6)));
    let rows = [
        ("SIGKILL to the end of 64 calls in flight", "1 ms", middle(|ends| ends.killed_ns)),
        ("stopped server: a call's distance from its deadline", "50 ms", middle(|ends| ends.past_deadline_ns)),
        ("SIGSTOP to the end of a call without a near deadline", "3000 ms", middle(|ends| ends.stopped_ns)),
        ("from there to an answer of a fresh server", "1000 ms", middle(|ends| ends.fresh_ns)),
    ];
    let rows: Vec<_> = rows.map(|(what, goal, ms)| vec![what.to_owned(), goal.to_owned(), ms]).into();
    report::table(&format!("ends of calls, medians of {} rounds", ends.len()), &["what", "at most", "ms"], 1, &rows);
}
