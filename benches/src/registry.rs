//! The registry of commands beside the obvious way: to clone all entries for each reader and to scan them for each search.
//!
//! The entries are those of one base in slices of 5,000, with a session's layer on top; searches are of letters that match much,
//! little and nothing. Owns the rounds and the tables; [`live`] has the same change in the real daemon.

mod live;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use shellkeep_daemon::registry::entry::Exec;
use shellkeep_daemon::registry::slice::SOURCE_ENTRIES_MAX;
use shellkeep_daemon::registry::subscriptions::Changes;
use shellkeep_daemon::registry::usage::Usage;
use shellkeep_daemon::registry::{CommandRegistry, Draft, Preferences, Slice};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{EntryInfo, Kind, Scope, Trust};

use crate::machine::Machine;
use crate::stats::{float, median, nanos, percentile};
use crate::{process, report};

/// Entries of a session's layer that is replaced.
const LAYER: usize = 1_000;
/// Sessions that see one change.
const SESSIONS: usize = 100;
/// Hits wanted of each search.
const HITS: usize = 20;
/// Reads, and names that are resolved, in one go: each takes less than a clock can tell.
const GO: u32 = 10_000;

/// The registry of commands.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The released program [default: beside this one].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Times that each is done.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long to wait for a quiet machine, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet_wait_s: u64,
    /// Also writes every number here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Row {
    entries: usize,
    clone_ms: f64,
    clone_and_scan_ms: f64,
    read_ns: f64,
    resolve_ns: f64,
    search_p50_ms: f64,
    search_p99_ms: f64,
    layer_replace_ms: f64,
    change_in_100_sessions_ms: f64,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    rounds: u32,
    rows: Vec<Row>,
    live: Vec<live::Change>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::when_quiet(Duration::from_secs(args.quiet_wait_s))?;
    let rows = [1_000, 10_000, 100_000].into_iter().map(|count| measure(args, count));
    let rows = rows.collect::<anyhow::Result<Vec<_>>>()?;
    let beside_this = || anyhow::Ok(std::env::current_exe()?.with_file_name("shellkeep"));
    let program = args.program.clone().map_or_else(beside_this, Ok)?;
    ensure!(program.exists(), "there is no {}: build it, or name it with --program", program.display());
    let live = live::measure(&program, SESSIONS, args.rounds);
    process::end_children();
    let results = Results { machine, rounds: args.rounds, rows, live: live? };
    print(&results);
    args.json.as_ref().map_or(Ok(()), |path| report::json(path, &results))
}

const VERBS: [&str; 12] =
    ["build", "test", "deploy", "lint", "format", "release", "watch", "clean", "migrate", "seed", "review", "bench"];
const NOUNS: [&str; 10] = ["api", "web", "worker", "docs", "schema", "image", "client", "server", "mobile", "infra"];
const QUERIES: [&str; 15] = [
    "e",
    "b",
    "test",
    "deploy",
    "dplymob",
    "build-api",
    "review 77",
    "zzz",
    "xq",
    "image for",
    "relea",
    "server-9",
    "es",
    "eb",
    "t-a",
];

fn draft(n: usize) -> Draft {
    let (verb, noun) = (VERBS[n % VERBS.len()], NOUNS[n / VERBS.len() % NOUNS.len()]);
    Draft {
        description: format!("{verb} the {noun} for target {} and tell what came of it", n % 977),
        trust: Trust::Trusted,
        decides: n.to_le_bytes().to_vec(),
        ..Draft::new(&format!("{verb}-{noun}-{n}"), "just", Kind::Task, Scope::User, Exec::Nothing)
    }
}

fn layer(round: usize) -> Vec<Draft> {
    let entry = |n| Draft { scope: Scope::Session, description: format!("round {round}"), ..draft(n) };
    (0..LAYER).map(entry).collect()
}

fn filled(count: usize) -> anyhow::Result<(CommandRegistry, Vec<SessionId>)> {
    let registry = CommandRegistry::new(1, Preferences::default());
    let all: Vec<usize> = (0..count).collect();
    for (nth, part) in all.chunks(SOURCE_ENTRIES_MAX).enumerate() {
        let source = format!("source-{nth}");
        let look = registry.look_for_base(&source);
        registry.found(&look, Slice::new(&source, part.iter().copied().map(draft).collect(), Vec::new()));
    }
    let sessions: Vec<SessionId> = (0..SESSIONS).map(|_| SessionId::new()).collect();
    for session in &sessions {
        registry.add_session(*session)?;
        if let Some(look) = registry.set_project(*session, Some(Path::new("/project"))) {
            registry.found_project(&look, vec![Slice::new("just", layer(0), Vec::new())]);
        }
    }
    Ok((registry, sessions))
}

fn measure(args: &Args, count: usize) -> anyhow::Result<Row> {
    report::note(&format!("{count} entries"));
    let (registry, sessions) = filled(count)?;
    let session = *sessions.first().context("there are sessions")?;
    let floor: Vec<EntryInfo> = registry.get_all().entries().map(|entry| entry.info(None)).collect();
    let (mut clone, mut scan, mut read, mut resolve) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut searches, mut replace, mut change) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds as usize {
        clone.push(timed(|| drop(black_box(floor.clone()))));
        scan.push(timed(|| drop(black_box(clone_and_scan(&floor, QUERIES[round % QUERIES.len()])))));
        read.push(timed(|| (0..GO).for_each(|_| drop(black_box(registry.get_for_session(Some(session)))))));
        let view = registry.get_for_session(Some(session));
        let names: Vec<&str> = view.entries().step_by(count / 97 + 1).map(|entry| &*entry.name).collect();
        let mut names = names.iter().cycle();
        resolve
            .push(timed(|| (0..GO).for_each(|_| drop(black_box(view.resolve(names.next().copied().unwrap_or("")))))));
        for query in QUERIES {
            searches.push(timed(|| drop(black_box(view.search(query, HITS, &Usage::default(), 0)))));
        }
        let drafts = layer(round + 1);
        replace.push(timed(|| drop(registry.set_session_entries(session, drafts))));
        registry.set_session_entries(session, Vec::new())?;
        change.push(timed(|| drop(seen_by_all(&registry, &sessions, round + 1))));
    }
    let per_go = |times: &[Duration]| median(times.iter().map(|time| float(nanos(*time)) / f64::from(GO)));
    let ms = |times: &[Duration]| median(times.iter().map(|time| time.as_secs_f64() * 1e3));
    let mut sorted: Vec<u64> = searches.iter().copied().map(nanos).collect();
    sorted.sort_unstable();
    Ok(Row {
        entries: count,
        clone_ms: ms(&clone),
        clone_and_scan_ms: ms(&scan),
        read_ns: per_go(&read),
        resolve_ns: per_go(&resolve),
        search_p50_ms: float(percentile(&sorted, 50)) / 1e6,
        search_p99_ms: float(percentile(&sorted, 99)) / 1e6,
        layer_replace_ms: ms(&replace),
        change_in_100_sessions_ms: ms(&change),
    })
}

/// A project of all sessions is another one: until each of them has what is to be told to it.
fn seen_by_all(registry: &CommandRegistry, sessions: &[SessionId], round: usize) -> Vec<Vec<u8>> {
    let before: Vec<_> = sessions.iter().map(|session| registry.get_for_session(Some(*session))).collect();
    if let Some(look) = registry.look_at_project(Path::new("/project")) {
        registry.found_project(&look, vec![Slice::new("just", layer(round), Vec::new())]);
    }
    let views = sessions.iter().map(|session| registry.get_for_session(Some(*session)));
    let mut changes = Changes::default();
    views.zip(&before).map(|(view, before)| changes.between(before, &view).to_vec()).collect()
}

/// The obvious way, as the founding design had it.
fn clone_and_scan(all: &[EntryInfo], query: &str) -> Vec<EntryInfo> {
    let query = query.to_lowercase();
    let matches = |entry: &EntryInfo| {
        entry.name.to_lowercase().contains(&query) || entry.description.to_lowercase().contains(&query)
    };
    #[allow(clippy::unnecessary_to_owned)] // that is what it stands for
    all.to_vec().into_iter().filter(matches).take(HITS).collect()
}

fn timed(act: impl FnOnce()) -> Duration {
    let began = Instant::now();
    act();
    began.elapsed()
}

fn print(results: &Results) {
    let title = format!("the registry of commands, {} rounds; {}", results.rounds, results.machine);
    let row = |row: &Row| {
        vec![
            row.entries.to_string(),
            format!("{:.2}", row.clone_ms),
            format!("{:.2}", row.clone_and_scan_ms),
            format!("{:.0}", row.read_ns),
            format!("{:.0}", row.resolve_ns),
            format!("{:.2}", row.search_p50_ms),
            format!("{:.2}", row.search_p99_ms),
            format!("{:.2}", row.layer_replace_ms),
            format!("{:.2}", row.change_in_100_sessions_ms),
        ]
    };
    let headings = [
        "entries",
        "clone ms",
        "clone+scan ms",
        "read ns",
        "resolve ns",
        "search p50 ms",
        "p99 ms",
        "layer of 1k ms",
        "100 sessions ms",
    ];
    let rows: Vec<_> = results.rows.iter().map(row).collect();
    report::table(&title, &headings, 0, &rows);
    let Some(most) = results.rows.last() else { return };
    let goal = |what: &str, bound: f64, measured: f64| {
        let met = if measured < bound { "met" } else { "NOT MET" };
        vec![what.to_owned(), format!("{bound}"), format!("{measured:.3}"), met.to_owned()]
    };
    let goals = [
        goal("read, µs", 1.0, most.read_ns / 1e3),
        goal("resolve, µs", 1.0, most.resolve_ns / 1e3),
        goal("search p99, ms", 10.0, most.search_p99_ms),
        goal("layer of 1k replaced, ms", 5.0, most.layer_replace_ms),
        goal("change in 100 sessions, ms", 50.0, most.change_in_100_sessions_ms),
    ];
    live::print(&results.live);
    report::table("goals, with 100,000 entries", &["what", "bound", "measured", ""], 1, &goals);
}
