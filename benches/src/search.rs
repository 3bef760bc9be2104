//! Searching recorded output: how fast it is indexed, how much that takes, how soon a word is found, warm and cold,
//! beside `rg` over the same text as files.
//!
//! The records are written by the journal's own code, indexed by the released daemon and searched with its command.

mod output;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use shellkeep_daemon::index::plain::PlainText;
use shellkeep_daemon::sessions::journal_log::{encode_attrs, real_storage};
use shellkeep_journal::{Durability, Identity, Journal, Options, RecordKind};
use shellkeep_protocol::ids::{MarksNonce, SessionId};
use shellkeep_protocol::session::Attrs;

use self::output::{RARE, Writer};
use crate::machine::Machine;
use crate::scratch::Scratch;
use crate::stats::{float, median};
use crate::{process, report};

/// Output of one session, in MiB.
const SESSION_MIB: u64 = 256;
/// Output of one command.
const COMMAND_BYTES: usize = 512 << 10;
/// Output of one record: what a keeper sends at once.
const RECORD_BYTES: usize = 32 << 10;
/// Time between two records, in microseconds.
const RECORD_US: u64 = 40_000;
/// Hits wanted of each search.
const HITS: &str = "20";
/// How long the daemon may take to index all, per GiB.
const INDEX_WAIT_PER_GIB: Duration = Duration::from_mins(3);

/// Searching what was recorded.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The released program [default: beside this one].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Recorded output, in GiB. The run takes 2.5 times as much of the disk, in TMPDIR.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100))]
    gib: u64,
    /// Times that each search is made, warm, and cold.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long to wait for a quiet machine, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet_wait_s: u64,
    /// Also writes every number here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is searched for.
struct Question {
    what: &'static str,
    text: &'static str,
    more: &'static [&'static str],
    found: bool,
}

const QUESTIONS: [Question; 8] = [
    Question { what: "rare word", text: RARE, more: &[], found: true },
    Question { what: "frequent word", text: "error", more: &[], found: true },
    Question { what: "absent word", text: "zqxjkvwpmn", more: &[], found: false },
    Question { what: "absent, frequent parts", text: "compiling panicked error", more: &[], found: false },
    Question { what: "3 characters", text: "E04", more: &[], found: true },
    Question { what: "3 characters, absent", text: "~#~", more: &[], found: false },
    Question { what: "failed commands' only", text: "warning", more: &["--failed"], found: true },
    Question { what: "oldest 5 %", text: "panicked", more: &["--until"], found: true },
];

#[derive(Debug, Serialize)]
struct Cell {
    what: &'static str,
    warm_ms: f64,
    cold_ms: Option<f64>,
    rg_warm_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Goal {
    what: String,
    unit: &'static str,
    bound: f64,
    measured: f64,
    met: bool,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    gib: u64,
    output_bytes: u64,
    text_bytes: u64,
    index_bytes: u64,
    index_wall_s: f64,
    index_cpu_s: f64,
    daemon_rss_mib: f64,
    searches: Vec<Cell>,
    goals: Vec<Goal>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let beside = std::env::current_exe()?.with_file_name("shellkeep");
    let program = args.program.clone().unwrap_or(beside);
    ensure!(program.exists(), "there is no {}; build it with: cargo build --release", program.display());
    let directory = Scratch::new()?;
    let home = Home { program: program.canonicalize()?, path: directory.path().to_owned() };
    report::note("writing records and, for rg, the same text as files");
    let written = home.write(args.gib)?;
    let measured = Machine::when_quiet(Duration::from_secs(args.quiet_wait_s))
        .and_then(|machine| measure(args, &home, &written, machine));
    let _stopped = home.command(&["daemon", "stop"]).output();
    process::end_children();
    let results = measured?;
    print(&results);
    args.json.as_ref().map_or(Ok(()), |path| report::json(path, &results))
}

struct Home {
    program: PathBuf,
    path: PathBuf,
}

/// What was written.
struct Written {
    output_bytes: u64,
    text_bytes: u64,
    /// Time at which a twentieth was written.
    early_us: u64,
}

impl Home {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("SHELLKEEP_HOME", &self.path).env_remove("SHELLKEEP_SOCKET").stdin(Stdio::null());
        command
    }

    fn texts(&self) -> PathBuf {
        self.path.join("texts")
    }

    fn write(&self, gib: u64) -> anyhow::Result<Written> {
        let logs = self.path.join("state/log");
        std::fs::create_dir_all(&logs)?;
        std::fs::create_dir(self.texts())?;
        for private in [self.path.join("state"), logs.clone()] {
            std::fs::set_permissions(private, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        }
        std::fs::write(self.path.join("state/noticed"), "")?;
        let sessions = gib * 1024 / SESSION_MIB;
        let now = jiff::Timestamp::now().as_microsecond().unsigned_abs();
        let session_us = SESSION_MIB * 1024 / (RECORD_BYTES as u64 >> 10) * RECORD_US;
        let begin_us = now - (sessions + 1) * session_us;
        let mut written = Written { output_bytes: 0, text_bytes: 0, early_us: begin_us + sessions * session_us / 20 };
        for session in 0..sessions {
            let rare = (session == sessions / 2).then_some(RARE);
            let (output, text) = self.write_session(session, begin_us + session * session_us, rare)?;
            written.output_bytes += output;
            written.text_bytes += text;
        }
        Ok(written)
    }

    fn write_session(&self, number: u64, begin_us: u64, rare: Option<&str>) -> anyhow::Result<(u64, u64)> {
        let (id, nonce) = (SessionId::new(), MarksNonce::from_bytes([7; 16]));
        let attrs = Attrs {
            cwd: "/work".to_owned(),
            command: vec!["bash".to_owned()],
            size: (120, 40),
            started_at_us: begin_us,
            marks: Some(nonce),
            ..Attrs::default()
        };
        let attrs = encode_attrs(&attrs).context("attrs")?;
        let identity = Identity { session: *id.as_bytes(), store: [2; 16], writer: [3; 16], epoch: 1, attrs };
        let options = Options { durability: Durability::Unsynced, ..Options::default() };
        let mut log =
            Journal::create(real_storage(), &self.path.join("state/log"), &id.to_string(), identity, options)?;
        let mut text = std::io::BufWriter::with_capacity(
            1 << 20,
            std::fs::File::create(self.texts().join(format!("{number:04}.txt")))?,
        );
        let (mut plain, mut writer, mut output, mut time_us) =
            (PlainText::new((120, 40)), Writer::new(number), Vec::new(), begin_us);
        let commands = SESSION_MIB * 1024 * 1024 / COMMAND_BYTES as u64;
        for command in 0..commands {
            output.clear();
            let exit = u8::from(command % 10 == 3);
            output.extend_from_slice(format!("\x1b]133;C;sk={nonce};cmdline_url=make target-{command}\x07").as_bytes());
            writer.command(COMMAND_BYTES, &mut output)?;
            if let Some(rare) = rare.filter(|_| command == commands / 2) {
                output.extend_from_slice(format!("found {rare} here\r\n").as_bytes());
            }
            output.extend_from_slice(
                format!("\x1b]133;D;{exit};sk={nonce}\x07\x1b]133;A;sk={nonce}\x07$ \x1b]133;B;sk={nonce}\x07make\r\n")
                    .as_bytes(),
            );
            for record in output.chunks(RECORD_BYTES) {
                log.append(RecordKind::Output, time_us, record)?;
                time_us += RECORD_US;
                put_lines(&mut text, plain.feed(record))?;
            }
            log.assume_durable(log.next_seq().prev());
            while log.seal_oldest_full(log.next_seq().prev())?.is_some() {}
        }
        put_lines(&mut text, plain.finish())?;
        std::io::Write::flush(&mut text)?;
        Ok((log.output_offset(), text.get_ref().metadata()?.len()))
    }

    /// Runs a search to its end; how long it took. What it prints goes nowhere but must be something, or nothing.
    fn search(&self, question: &Question, until: &str) -> anyhow::Result<Duration> {
        let mut args = vec!["search", question.text, "--json", "--limit", HITS];
        args.extend(question.more);
        if question.more == ["--until"] {
            args.push(until);
        }
        let begin = Instant::now();
        let said = self.command(&args).output()?;
        let took = begin.elapsed();
        let errors = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success() == question.found, "{}: {} {errors}", question.what, said.status);
        ensure!(!errors.contains("more"), "{}: not all was looked at: {errors}", question.what);
        Ok(took)
    }

    /// The same by `rg`, up to as many hits.
    fn rg(&self, question: &Question) -> anyhow::Result<Duration> {
        let line = format!("rg --no-config -F -S -e \"$1\" \"$2\" | head -n {HITS}");
        let begin = Instant::now();
        Command::new("sh").args(["-c", &line, "sh", question.text]).arg(self.texts()).stdin(Stdio::null()).output()?;
        Ok(begin.elapsed())
    }

    fn index_bytes(&self) -> anyhow::Result<u64> {
        let entries = std::fs::read_dir(self.path.join("state/index"))?;
        Ok(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum())
    }
}

fn put_lines(out: &mut impl std::io::Write, lines: Vec<String>) -> std::io::Result<()> {
    lines.into_iter().try_for_each(|line| out.write_all((line + "\n").as_bytes()))
}

/// Forgets what the kernel has of files; false where that is not allowed.
fn drop_caches() -> bool {
    rustix::fs::sync();
    std::fs::write(Path::new("/proc/sys/vm/drop_caches"), "3").is_ok()
}

fn measure(args: &Args, home: &Home, written: &Written, machine: Machine) -> anyhow::Result<Results> {
    report::note("indexing");
    ensure!(home.command(&["daemon", "start"]).status()?.success(), "the daemon does not start");
    let status: serde_json::Value =
        serde_json::from_slice(&home.command(&["daemon", "status", "--json"]).output()?.stdout)?;
    let pid =
        status["pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(pid.try_into().ok()?)).context("pid")?;
    let (begin, before) = (Instant::now(), process::cpu_time(pid)?);
    let mut reindex = process::Process::start(home.command(&["reindex"]))?;
    let gib = u32::try_from(args.gib)?;
    ensure!(reindex_wait(&mut reindex, INDEX_WAIT_PER_GIB * gib)?, "indexing takes too long");
    let (index_wall_s, index_cpu_s) =
        (begin.elapsed().as_secs_f64(), process::cpu_time(pid)?.saturating_sub(before).as_secs_f64());
    let index_bytes = home.index_bytes()?;
    std::thread::sleep(Duration::from_secs(1)); // memory is given back once there is nothing to do
    let daemon_rss_mib = float(process::memory(pid)?.rss_kib) / 1024.0;
    let until = jiff::Timestamp::from_microsecond(written.early_us.cast_signed())?.to_string();
    let has_rg = Command::new("rg").arg("--version").stdout(Stdio::null()).status().is_ok();
    let mut searches = Vec::new();
    for question in &QUESTIONS {
        home.search(question, &until)?;
        let times = |act: &dyn Fn() -> anyhow::Result<Duration>| -> anyhow::Result<f64> {
            let all = (0..args.rounds).map(|_| act()).collect::<anyhow::Result<Vec<_>>>()?;
            Ok(median(all.into_iter().map(|time| time.as_secs_f64() * 1e3)))
        };
        let warm_ms = times(&|| home.search(question, &until))?;
        let cold = || {
            drop_caches();
            home.search(question, &until)
        };
        let cold_ms = drop_caches().then(|| times(&cold)).transpose()?;
        let rg_warm_ms = has_rg.then(|| home.rg(question)).transpose()?.map(|time| time.as_secs_f64() * 1e3);
        searches.push(Cell { what: question.what, warm_ms, cold_ms, rg_warm_ms });
    }
    let mut results = Results {
        machine,
        gib: args.gib,
        output_bytes: written.output_bytes,
        text_bytes: written.text_bytes,
        index_bytes,
        index_wall_s,
        index_cpu_s,
        daemon_rss_mib,
        searches,
        goals: Vec::new(),
    };
    results.goals = goals(&results);
    Ok(results)
}

/// Waits for a process; false if it does not end.
fn reindex_wait(process: &mut process::Process, wait: Duration) -> anyhow::Result<bool> {
    let until = Instant::now() + wait;
    while !process.has_ended()? {
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

fn goals(results: &Results) -> Vec<Goal> {
    let at_most =
        |what: String, unit, bound: f64, measured: f64| Goal { what, unit, bound, measured, met: measured <= bound };
    let mut goals = Vec::new();
    for cell in &results.searches {
        goals.push(at_most(format!("search, {}, warm", cell.what), "ms at most", 100.0, cell.warm_ms));
        if let Some(cold) = cell.cold_ms {
            goals.push(at_most(format!("search, {}, cold", cell.what), "ms at most", 500.0, cold));
        }
    }
    let share = float(results.index_bytes) * 100.0 / float(results.text_bytes);
    goals.push(at_most("index".to_owned(), "% of the text at most", 35.0, share));
    let rate = float(results.output_bytes) / 1e6 / results.index_cpu_s;
    let what = "ingest with indexing".to_owned();
    goals.push(Goal { what, unit: "MB/s of one core at least", bound: 100.0, measured: rate, met: rate >= 100.0 });
    goals.push(at_most("daemon after that".to_owned(), "MiB resident at most", 12.0, results.daemon_rss_mib));
    goals
}

fn print(results: &Results) {
    let mib = |bytes: u64| format!("{:.0}", float(bytes) / 1_048_576.0);
    let title = format!("searching {} GiB of recorded output; {}", results.gib, results.machine);
    let row = vec![
        mib(results.output_bytes),
        mib(results.text_bytes),
        mib(results.index_bytes),
        format!("{:.1}", results.index_wall_s),
        format!("{:.1}", results.index_cpu_s),
        format!("{:.1}", results.daemon_rss_mib),
    ];
    let headings = ["output MiB", "text MiB", "index MiB", "indexing s", "its CPU s", "daemon RSS MiB"];
    report::table(&title, &headings, 0, &[row]);
    let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
    let row = |cell: &Cell| vec![cell.what.to_owned(), ms(Some(cell.warm_ms)), ms(cell.cold_ms), ms(cell.rg_warm_ms)];
    let rows: Vec<_> = results.searches.iter().map(row).collect();
    report::table(&format!("first {HITS} hits"), &["search", "warm ms", "cold ms", "rg ms, once"], 1, &rows);
    if results.searches.iter().all(|cell| cell.rg_warm_ms.is_none()) {
        report::note("rg is not there and was passed over");
    }
    let row = |goal: &Goal| {
        let met = if goal.met { "met" } else { "NOT MET" };
        vec![
            goal.what.clone(),
            goal.unit.to_owned(),
            format!("{:.1}", goal.bound),
            format!("{:.1}", goal.measured),
            met.to_owned(),
        ]
    };
    let rows: Vec<_> = results.goals.iter().map(row).collect();
    report::table("goals", &["what", "unit", "bound", "measured", ""], 2, &rows);
}
