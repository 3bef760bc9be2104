//! Real logs and spools, cut at every byte and flipped bit by bit: what is whole is given, what is not is named.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use shellkeep_daemon::sessions::logs::Logs;
use shellkeep_daemon::sessions::manager::SessionManager;
use shellkeep_daemon::sessions::spool::{OpenSpool, SpoolState};
use shellkeep_daemon::sessions::syncer::Syncer;
use shellkeep_daemon::sessions::watch::Watchers;
use shellkeep_journal::Seq;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::Item;

use crate::world::{World, eventually, gone, signal};

/// Lines of the session; each is a record of its own.
const LINES: usize = 6;

/// Every so many-th bit is flipped: each byte is met, most of them twice, and the test stays fast.
const FLIP_STEP: usize = 5;

/// Most bytes read of a log at once: all of it.
const ALL: u32 = 1 << 20;

/// A recorded session: its one segment, and where in it each line ends.
struct Sample {
    world: World,
    session: SessionId,
    segment: PathBuf,
    bytes: Vec<u8>,
    /// Place behind each line's record in the segment, and the line.
    lines: Vec<(usize, Vec<u8>)>,
}

/// The lines are slow enough to become one record each.
fn script(then: &str) -> String {
    let numbers: Vec<String> = (1..=LINES).map(|n| n.to_string()).collect();
    format!("stty -opost; for n in {}; do echo line-$n; sleep 0.03; done; {then}", numbers.join(" "))
}

impl Sample {
    fn log() -> Result<Self> {
        let world = World::new()?;
        let session = world.session(&script("exit 0"))?;
        world.ended(&session)?;
        world.ok(&["verify", &session])?;
        // A keeper that is still there would mend what is broken here.
        eventually("the keeper has gone", || Ok((world.processes().len() <= 1).then_some(())))?;
        world.ok(&["daemon", "stop"])?;
        let directory = world.home().join("state/log").join(&session);
        Self::of(world, &session, &directory)
    }

    /// The spool of a keeper that was killed while no daemon ran.
    fn spool() -> Result<Self> {
        let world = World::new()?;
        world.ok(&["daemon", "stop"])?;
        let session = world.session(&script("exec sleep 1000"))?;
        let keeper = eventually("all is spooled", || {
            let keepers = shellkeep::keepers::running(&world.places());
            let keeper = keepers.into_iter().next().map(|keeper| keeper.info);
            Ok(keeper.filter(|info| info.output_bytes == LINES as u64 * 7))
        })?;
        let pid = i32::try_from(keeper.keeper_pid)?;
        signal(pid, Signal::KILL)?;
        gone(pid)?;
        let directory = world.home().join("state/spool").join(&session);
        Self::of(world, &session, &directory)
    }

    fn of(world: World, session: &str, directory: &Path) -> Result<Self> {
        let files = std::fs::read_dir(directory)?.flatten().map(|entry| entry.path());
        let segments: Vec<PathBuf> = files.filter(|path| !path.ends_with("lock")).collect();
        let [segment] = &segments[..] else { anyhow::bail!("one segment, not {segments:?}") };
        let bytes = std::fs::read(segment)?;
        let lines = (1..=LINES).map(|n| {
            let line = format!("line-{n}\n").into_bytes();
            let at = bytes.windows(line.len()).position(|part| part == line);
            Ok((at.context("each line is in the segment")? + line.len(), line))
        });
        let lines = lines.collect::<Result<_>>()?;
        Ok(Self { session: session.parse()?, segment: segment.clone(), bytes, lines, world })
    }

    /// Output of the records that are whole in the first `len` bytes.
    fn whole(&self, len: usize) -> Vec<u8> {
        self.lines.iter().filter(|(end, _)| *end <= len).flat_map(|(_, line)| line.clone()).collect()
    }
}

/// What readers get of a log, and what is said to be wrong with it.
fn read(logs: &Logs, session: SessionId) -> Option<(Vec<u8>, Vec<Item>)> {
    let chunk = logs.read(session, Seq::FIRST, ALL).ok()?;
    let output =
        chunk.items.iter().filter_map(|item| if let Item::Output { bytes, .. } = item { Some(bytes) } else { None });
    Some((output.flatten().copied().collect(), logs.verify(session).ok()?.findings))
}

/// F18: cut anywhere, a log gives its longest whole part, and `verify` says where the rest begins.
#[test]
fn every_prefix_of_a_real_log_gives_its_longest_whole_part_and_says_where_it_ends() -> Result<()> {
    let sample = Sample::log()?;
    let logs = Logs::real(sample.world.home().join("state/log"), u64::MAX);
    let (mut clean, mut border) = (0, 0);
    for len in 0..=sample.bytes.len() {
        std::fs::write(&sample.segment, &sample.bytes[..len])?;
        let Some((output, findings)) = read(&logs, sample.session) else {
            ensure!(sample.whole(len).is_empty(), "cut at byte {len}: nothing can be read");
            continue;
        };
        ensure!(output == sample.whole(len), "cut at byte {len}: {:?}", String::from_utf8_lossy(&output));
        if findings.is_empty() {
            (clean, border) = (clean + 1, len);
        } else if border > 0 {
            let text = format!("{findings:?}");
            ensure!(text.contains(&format!("bytes {border} to {len} ")), "cut at byte {len}, behind {border}: {text}");
        }
    }
    // Where a cut goes unnoticed, it lies between two records: then nothing is there that could be wrong.
    ensure!(
        border == sample.bytes.len() && (LINES..LINES + 20).contains(&clean),
        "{clean} places, the last at {border}"
    );
    Ok(())
}

/// F19: no flipped bit goes unnoticed, and at most one record is lost by it.
#[test]
fn every_flipped_bit_of_a_real_log_is_found_and_costs_at_most_one_record() -> Result<()> {
    let sample = Sample::log()?;
    let logs = Logs::real(sample.world.home().join("state/log"), u64::MAX);
    let mut bytes = sample.bytes.clone();
    for bit in (0..bytes.len() * 8).step_by(FLIP_STEP) {
        let (byte, mask) = (bit / 8, 1 << (bit % 8));
        bytes[byte] ^= mask;
        std::fs::write(&sample.segment, &bytes)?;
        let (output, findings) =
            read(&logs, sample.session).with_context(|| format!("bit {bit}: nothing can be read"))?;
        ensure!(!findings.is_empty(), "bit {bit} of byte {byte} went unnoticed");
        let missing: Vec<_> =
            sample.lines.iter().filter(|(_, line)| !output.windows(line.len()).any(|part| part == line)).collect();
        ensure!(missing.len() <= 1, "bit {bit} of byte {byte} costs {} records", missing.len());
        let kept: usize = sample.lines.iter().map(|(_, line)| line.len()).sum::<usize>() - missing.len() * 7;
        ensure!(output.len() == kept, "bit {bit} of byte {byte}: {:?}", String::from_utf8_lossy(&output));
        bytes[byte] ^= mask;
    }
    Ok(())
}

/// F18 and F19 as a user meets them: a few of the same through the program.
#[test]
fn a_damaged_log_is_printed_as_far_as_it_goes_and_verify_says_so_with_status_1() -> Result<()> {
    let sample = Sample::log()?;
    let (world, session) = (&sample.world, sample.session.to_string());
    let (third, fourth) = (sample.lines[2].0, sample.lines[3].0);
    let mut flipped = sample.bytes.clone();
    flipped[fourth - 2] ^= 1;
    let all_but_the_fourth = [&sample.whole(third)[..], b"line-5\nline-6\n"].concat();
    for (bytes, expected) in [
        (&sample.bytes[..=third], sample.whole(third)),
        (&sample.bytes[..fourth - 1], sample.whole(third)),
        (&flipped[..], all_but_the_fourth),
    ] {
        std::fs::write(&sample.segment, bytes)?;
        let verified = world.run(&["verify", &session])?; // a daemon that starts now sees it as it is
        let said = String::from_utf8_lossy(&verified.stdout);
        ensure!(verified.status.code() == Some(1) && said.contains(&format!("bytes {third} to ")), "{said}");
        ensure!(world.output(&session)? == expected);
        world.ok(&["daemon", "stop"])?;
    }
    Ok(())
}

/// F3: a keeper may die in the middle of any write. What is whole is adopted, and nothing else.
#[test]
fn every_prefix_of_a_real_spool_is_adopted_to_its_last_whole_record() -> Result<()> {
    let sample = Sample::spool()?;
    let spool = sample.segment.parent().context("a segment lies in a spool")?;
    // In memory where the system has such a place: the syncs of some thousand adoptions are not what is tested.
    let memory = Path::new("/dev/shm");
    let home = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    let mut bad = 0;
    for len in 0..=sample.bytes.len() {
        std::fs::write(&sample.segment, &sample.bytes[..len])?;
        let directory = home.path().join(len.to_string());
        std::fs::create_dir(&directory)?;
        let mut opened = match OpenSpool::open(spool, sample.session) {
            SpoolState::Free(opened) => opened,
            SpoolState::Bad(_) | SpoolState::Gone => {
                ensure!(sample.whole(len).is_empty(), "cut at byte {len}: a spool with whole records is bad");
                bad += 1;
                continue;
            }
            SpoolState::Held => anyhow::bail!("cut at byte {len}: a dead keeper holds its spool"),
        };
        let logs = Logs::real(directory.clone(), u64::MAX);
        let mut manager =
            SessionManager::new(logs.clone(), Syncer::start(|_, _, _| (), |_, _| ())?, Watchers::default());
        ensure!(manager.adopt(&mut opened), "cut at byte {len}: not adopted");
        ensure!(manager.adopt(&mut opened), "cut at byte {len}: not adopted again"); // as after a crash in between
        let (output, findings) = read(&logs, sample.session).context("the log is there")?;
        ensure!(output == sample.whole(len), "cut at byte {len}: {:?}", String::from_utf8_lossy(&output));
        ensure!(findings.is_empty(), "cut at byte {len}: {findings:?}");
        std::fs::remove_dir_all(&directory)?;
    }
    ensure!(bad > 0 && bad < sample.lines[0].0, "{bad} of the cuts made it unreadable");
    Ok(())
}

/// One log of which nothing is left keeps nobody from checking the others, and is named by whoever reads it.
#[test]
fn a_log_of_which_nothing_is_left_is_named_and_all_others_are_verified() -> Result<()> {
    let world = World::new()?;
    let mut ids = Vec::new();
    for name in ["one", "bad", "two"] {
        let id = world.ok(&["start", "--detached", "-n", name, "--", "/bin/echo", "good"])?.trim().to_owned();
        world.ended(&id)?;
        ids.push(id);
    }
    eventually("the keepers have gone", || Ok((world.processes().len() <= 1).then_some(())))?;
    let (bad, whole) = (&ids[1], [&ids[0], &ids[2]]);
    let segment = world.home().join("state/log").join(bad).join("00000001.seg");
    let place = segment.parent().context("a segment lies in a log")?.display().to_string();
    let ruins: [(&str, &dyn Fn() -> std::io::Result<()>); 3] = [
        ("emptied", &|| std::fs::write(&segment, "")),
        ("of one byte", &|| std::fs::write(&segment, "s")),
        ("deleted", &|| std::fs::remove_file(&segment)),
    ];
    for (what, ruin) in ruins {
        ruin()?;
        let verified = world.run(&["verify"])?;
        let said = String::from_utf8(verified.stdout)?;
        ensure!(verified.status.code() == Some(1), "{what}: {said}");
        ensure!(said.contains(&format!("{bad}  NOT whole")) && said.contains(&place), "{what}: {said}");
        ensure!(whole.iter().all(|id| said.contains(&format!("{id}  whole: "))), "{what}: {said}");
        let listed = world.ok(&["ls", "--all"])?;
        let row = listed.lines().find(|line| line.contains(bad.as_str())).context("it is still listed")?;
        ensure!(row.contains("lost, log unreadable") && !row.contains("1970"), "{what}: {row}");
        for args in [["output", bad], ["tail", bad], ["history", bad], ["verify", bad]] {
            let read = world.run(&args)?;
            let said = String::from_utf8([read.stdout, read.stderr].concat())?;
            ensure!(read.status.code() == Some(1) && said.contains(&place), "{what}: {args:?}: {said}");
        }
    }
    world.ok(&["rm", bad])?;
    world.ok(&["verify"])?;
    Ok(())
}

/// What is left of a record that was cut is given with one line on what is not, whoever reads it.
#[test]
fn whoever_reads_a_record_that_was_cut_is_told_so() -> Result<()> {
    let sample = Sample::log()?;
    let (world, session) = (&sample.world, sample.session.to_string());
    let cut = sample.lines[2].0 - 2;
    std::fs::write(&sample.segment, &sample.bytes[..cut])?;
    for args in [
        &["output", &session][..],
        &["output", "--plain", &session],
        &["tail", &session],
        &["history", &session],
        &["replay", "--speed", "100", &session],
        &["export", &session, "--format", "txt"],
        &["export", &session, "--format", "json"],
        &["export", &session, "--format", "cast"],
        &["export", &session, "--format", "html"],
    ] {
        let read = world.run(args)?;
        let (shown, said) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
        ensure!(read.status.success(), "{args:?}: {}: {said}", read.status);
        ensure!(args[0] == "history" || shown.contains("line-2"), "{args:?}: {shown}");
        let tells: Vec<&str> = said.lines().filter(|line| line.contains("00000001.seg")).collect();
        ensure!(tells.len() == 1 && (args[0] == "replay" || tells[0].contains("shellkeep verify")), "{args:?}: {said}");
        ensure!(said.contains(&format!(" to {cut} ")), "{args:?}: {said}");
    }
    ensure!(world.ok(&["ls", "--all"])?.contains("lost, 1 gaps"), "{}", world.ok(&["ls", "--all"])?);
    Ok(())
}
