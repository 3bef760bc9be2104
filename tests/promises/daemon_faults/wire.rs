//! Whoever connects to the daemon's socket, and however many: the others go on.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit};

use super::{Talker, descriptors, diagnostics, is_root, resident, ticks};
use crate::world::{World, eventually};

/// A client's Hello as docs/wire.md has it, for version 1 of the daemon's conversation.
fn hello() -> Vec<u8> {
    let mut body = vec![0x93, b'K', b'E', b'P', b'T', 0x0d, 0x0a, 0x01];
    body.extend_from_slice(b"SKd1");
    body.extend_from_slice(&[1, 0, 1, 0]);
    body.extend_from_slice(&(4u32 << 20).to_le_bytes());
    body.extend_from_slice(&[0; 12]);
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), body].concat()
}

fn connect(world: &World) -> Result<UnixStream> {
    let stream = UnixStream::connect(world.home().join("run/daemon.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(8)))?;
    Ok(stream)
}

/// Reads until the daemon hangs up; how long that took.
fn until_closed(stream: &mut UnixStream) -> Result<Duration> {
    let since = Instant::now();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => Ok(since.elapsed()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(since.elapsed()),
        Err(error) => Err(error).context("the daemon does not hang up"),
    }
}

/// F24 and S6: garbage, a frame that never ends, lengths of 4 GiB, before and behind a good Hello.
#[test]
fn whoever_talks_nonsense_is_hung_up_on_and_costs_no_memory() -> Result<()> {
    const GROWTH_MAX: u64 = 8 << 20;
    let world = World::new()?;
    let mut talker = Talker::start(&world)?;
    talker.say(10_000)?;
    talker.recorded()?;
    let daemon = world.daemon_other_than(None)?;
    let before = resident(daemon)?;
    let huge = u32::MAX.to_le_bytes().to_vec();
    let half = [&100u32.to_le_bytes()[..], &[7; 50]].concat();
    let greeted = |bytes: &[u8]| [&hello(), bytes].concat();
    let nested = framed(&[&[1u8][..], &[0; 12], &[0xff; 64]].concat()); // a request whose counts are all 2^64-1
    let nonsense: [(&str, Vec<u8>, bool); 7] = [
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".repeat(100), true),
        ("nothing in a frame", vec![0; 4], true),
        ("4 GiB before the Hello", huge.clone(), true),
        ("half a Hello", half.clone(), true),
        ("4 GiB behind the Hello", greeted(&huge), true),
        ("an unknown kind", greeted(&framed(&[200, 1, 2])), true),
        ("counts of 2^64", greeted(&nested), false), // answered with an error; the frame's end is known
    ];
    for (what, bytes, closed) in &nonsense {
        let mut streams = Vec::new();
        for _ in 0..40 {
            let mut stream = connect(&world)?;
            let _ = stream.write_all(bytes); // it may be gone already
            streams.push(stream);
        }
        talker.say(1000)?;
        talker.said()?;
        for stream in streams.iter_mut().filter(|_| *closed) {
            let took = until_closed(stream).with_context(|| (*what).to_owned())?;
            ensure!(took < Duration::from_secs(5), "{what}: {took:?}");
        }
    }
    // Half a frame behind a good Hello is a slow client, not a bad one: it costs what it has sent.
    let mut stalled = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&world)?;
        stream.write_all(&greeted(&half))?;
        stalled.push(stream);
    }
    talker.say(1000)?;
    talker.recorded()?;
    talker.whole()?;
    ensure!(world.daemon_pid() == Some(daemon));
    let growth = resident(daemon)?.saturating_sub(before);
    ensure!(growth < GROWTH_MAX, "{growth} bytes more");
    Ok(())
}

/// F22: no descriptor is left: sessions go on, the daemon neither spins nor dies, and serves again when there are some.
#[test]
fn without_descriptors_sessions_go_on_and_the_daemon_neither_spins_nor_dies() -> Result<()> {
    let world = World::new()?;
    let mut talker = Talker::start(&world)?;
    talker.say(10_000)?;
    talker.recorded()?;
    let daemon = world.daemon_other_than(None)?;
    let most = u64::try_from(descriptors(daemon)? + 8)?;
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::prlimit(Pid::from_raw(daemon), Resource::Nofile, limit)?;
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(&world)?;
        let _ = stream.write_all(&hello()); // it may have been turned away
        clients.push(stream);
    }
    let (since, used) = (Instant::now(), ticks(daemon)?);
    talker.say(100_000)?;
    talker.said()?;
    std::thread::sleep(Duration::from_millis(500)); // a span over which processor time is compared
    let (used, span) = (Duration::from_millis(10 * (ticks(daemon)? - used)), since.elapsed());
    ensure!(used < span / 2, "it spins: {used:?} of {span:?}");
    drop(clients);
    talker.recorded()?;
    talker.whole()?;
    ensure!(world.daemon_pid() == Some(daemon));
    Ok(())
}

/// A short program that connects, says Hello, and prints how many bytes it was given before the end.
const STRANGER: &str = "use IO::Socket::UNIX; alarm 5; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die \"connect: $!\"; \
    $SIG{PIPE} = 'IGNORE'; syswrite($s, pack('H*', $ARGV[1])); my $n = 0; while (sysread($s, my $b, 4096)) { $n += length $b } print $n;";

/// Another user's daemon: accepts one client and prints how many bytes that said.
const IMPOSTOR: &str = "use IO::Socket::UNIX; alarm 20; umask 0; my $s = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 5) or die \"bind: $!\"; \
    $| = 1; print \"ready\\n\"; my $c = $s->accept; my $n = 0; while (sysread($c, my $b, 4096)) { $n += length $b } print $n;";

fn as_nobody(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-e", program]).args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    command
}

/// S4: with all directories forced open, another user is hung up on before a byte is read, and gets none.
#[test]
fn another_users_client_is_hung_up_on_without_a_word() -> Result<()> {
    if !is_root("a client of another user") {
        return Ok(());
    }
    let world = World::new()?;
    world.ok(&["daemon", "start"])?;
    let socket = world.home().join("run/daemon.sock");
    for open in [world.outside().to_owned(), world.home().to_owned(), world.home().join("run")] {
        std::fs::set_permissions(open, PermissionsExt::from_mode(0o755))?;
    }
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777))?;
    let hello = hello().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    for _ in 0..20 {
        let output = as_nobody(STRANGER, &[&socket.display().to_string(), &hello]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && said == "0", "{said} {}", String::from_utf8_lossy(&output.stderr));
    }
    world.ok(&["daemon", "status"])?;
    let lines = diagnostics(&world).lines().filter(|line| line.contains("user")).count();
    ensure!(lines <= 2, "told once, not {lines} times");
    Ok(())
}

/// S4, the other way round: nothing is said to a daemon of another user.
#[test]
fn nothing_is_said_to_another_users_daemon() -> Result<()> {
    if !is_root("a daemon of another user") {
        return Ok(());
    }
    let world = World::new()?;
    let theirs = world.outside().join("theirs");
    std::fs::create_dir(&theirs)?;
    std::fs::set_permissions(world.outside(), PermissionsExt::from_mode(0o755))?;
    std::fs::set_permissions(&theirs, PermissionsExt::from_mode(0o777))?;
    let socket = theirs.join("sock");
    let mut impostor = as_nobody(IMPOSTOR, &[&socket.display().to_string()]).spawn()?;
    let mut said = impostor.stdout.take().context("no stdout")?;
    eventually("the impostor listens", || Ok(socket.exists().then_some(())))?;
    let refused = world.command(["daemon", "status"]).env("SHELLKEEP_SOCKET", &socket).output()?;
    ensure!(refused.status.code() == Some(3), "{refused:?}");
    let mut heard = String::new();
    said.read_to_string(&mut heard)?;
    impostor.wait()?;
    ensure!(heard == "ready\n0", "{heard}");
    Ok(())
}
