//! What the program asks of the system, watched from outside: modes, close-on-exec, and which paths are opened at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::world::{World, eventually};

/// Bits of a mode that nobody but the owner may have.
const OTHERS: u32 = 0o077;

/// One call, as strace prints it.
#[derive(Debug)]
struct Call {
    pid: u32,
    name: String,
    args: String,
    failed: bool,
}

/// Runs a line of shell under strace until it has ended and everything that it started has made its calls.
fn traced(world: &World, calls: &str, script: &str, args: &[&str]) -> Result<(Vec<Call>, Option<i32>)> {
    let log = world.outside().join("strace");
    let sealed = world.command([""; 0]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-v", "-s", "8192", "-e"]).arg(format!("trace=execve,{calls}")).arg("-o").arg(&log);
    command.args(["/bin/sh", "-c", script, "sh"]).arg(world.program()).args(args).current_dir(world.outside());
    command.env_clear().envs(sealed.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().context("strace is there")?;
    let text = std::fs::read_to_string(&log)?;
    // A call during which another process made one comes in two halves.
    let mut begun = BTreeMap::new();
    let mut whole = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(char::is_whitespace) else { continue };
        if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, first);
        } else if let Some((_, second)) = rest.split_once(" resumed>") {
            whole.extend(begun.remove(pid).and_then(|first| parse(&format!("{pid} {first}{second}"))));
        } else {
            whole.extend(parse(line));
        }
    }
    Ok((whole, output.status.code()))
}

/// `123 openat(AT_FDCWD, "/x", O_RDONLY) = 3`
fn parse(line: &str) -> Option<Call> {
    let (pid, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (name, args) = rest.split_once('(')?;
    if rest.ends_with(" = ?") {
        return None; // its process ended before the call did
    }
    let failed = rest.rsplit_once(" = ").is_some_and(|(_, result)| result.starts_with('-'));
    Some(Call { pid: pid.parse().ok()?, name: name.to_owned(), args: args.to_owned(), failed })
}

/// The calls of our own program: not those of the shell around it or of the commands that it keeps.
fn ours(world: &World, calls: Vec<Call>) -> Vec<Call> {
    let program = world.program().display().to_string();
    let mut is_ours = BTreeMap::new();
    let mut kept = Vec::new();
    for call in calls {
        if call.name == "execve" {
            if !call.failed {
                is_ours.insert(call.pid, call.args.contains(&program) || call.args.contains("/proc/self/exe"));
            }
        } else if is_ours.get(&call.pid).copied().unwrap_or(true) {
            kept.push(call); // threads and children of ours make their calls before an execve of their own
        }
    }
    kept
}

/// The octal mode in a call that makes something, if it does.
fn mode(call: &Call) -> Option<u32> {
    let made = match call.name.as_str() {
        "open" | "openat" => call.args.contains("O_CREAT") || call.args.contains("O_TMPFILE"),
        "mkdir" | "mkdirat" | "mknod" | "mknodat" | "chmod" | "fchmod" | "fchmodat" => true,
        _ => false,
    };
    // strace fills up with blanks before the result.
    let args = call.args.rsplit_once(')').map_or(&*call.args, |(args, _)| args);
    let numbers = args.split([',', '|']).map(str::trim).filter(|part| part.starts_with('0') && !part.starts_with("0x"));
    numbers.filter_map(|part| u32::from_str_radix(part, 8).ok()).next_back().filter(|_| made)
}

/// The first argument.
fn descriptor(call: &Call) -> &str {
    call.args.split(',').next().unwrap_or_default()
}

/// S1: not even for a moment is there anything that others could open, whatever the umask; and nothing of ours is
/// passed on to the programs that run in a session.
#[test]
fn nothing_is_ever_made_for_others_and_everything_closes_on_exec() -> Result<()> {
    const CALLS: &str = "open,openat,mkdir,mkdirat,mknod,mknodat,chmod,fchmod,fchmodat,bind,socket,socketpair,\
                         accept4,pipe2,pipe,dup,eventfd2,epoll_create1,inotify_init1,memfd_create";
    for umask in ["000", "077"] {
        let world = World::new()?;
        let script = format!("umask {umask}; \"$1\" start -- /bin/true; \"$1\" ls --all; \"$1\" daemon stop");
        let (calls, status) = traced(&world, CALLS, &script, &[])?;
        ensure!(status == Some(0), "{status:?}");
        let calls = ours(&world, calls);
        let mut private = BTreeSet::new();
        let mut met = BTreeSet::new();
        for call in &calls {
            met.insert(call.name.as_str());
            let told = format!("umask {umask}: {}({}", call.name, call.args);
            ensure!(mode(call).is_none_or(|mode| mode & OTHERS == 0), "{told}");
            match call.name.as_str() {
                // A socket has its mode before it has its name.
                "fchmod" => drop(private.insert((call.pid, descriptor(call).to_owned()))),
                "bind" if call.args.contains("AF_UNIX") => {
                    ensure!(private.remove(&(call.pid, descriptor(call).to_owned())), "bound open to others: {told}");
                }
                "dup" | "pipe" => anyhow::bail!("a descriptor that is passed on: {told}"),
                "open" | "openat" | "socket" | "socketpair" | "accept4" | "pipe2" | "eventfd2" | "epoll_create1"
                | "inotify_init1" | "memfd_create" => ensure!(call.args.contains("CLOEXEC"), "{told}"),
                _ => {}
            }
        }
        for name in ["openat", "mkdir", "bind", "socket"] {
            ensure!(met.contains(name), "the trace has no {name}: it proves nothing");
        }
    }
    Ok(())
}

/// S10: a hostile name is refused by its type; no path is ever built from it.
#[test]
fn no_path_is_ever_built_from_what_a_user_calls_a_session() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "start"])?;
    let long = "a".repeat(4096);
    let hostile = [
        "../../hostile",
        "/hostile",
        "hostile/..",
        "hostile\u{202e}",
        "hostile\u{0301}",
        "hostile\n",
        "%2e%2e%2fhostile",
        "~hostile",
        &long,
    ];
    let verbs: [&[&str]; 9] = [
        &["output"],
        &["attach"],
        &["kill"],
        &["detach"],
        &["tail"],
        &["verify"],
        &["rm"],
        &["start", "--detached", "-n"],
        &["output", "--"],
    ];
    let calls = "open,openat,stat,newfstatat,statx,lstat,access,mkdir,rename,unlink,connect,readlink";
    for name in hostile {
        // All verbs in one trace: tracing is what costs time here.
        let lines = verbs.iter().map(|verb| format!("\"$1\" {} \"$2\"; echo $? >> status; ", verb.join(" ")));
        let script = lines.collect::<Vec<_>>().concat();
        let (calls, _) = traced(&world, calls, &script, &[name])?;
        let statuses = std::fs::read_to_string(world.outside().join("status"))?;
        std::fs::remove_file(world.outside().join("status"))?;
        ensure!(statuses.lines().count() == verbs.len(), "{name:?}: {statuses}");
        ensure!(statuses.lines().all(|status| ["1", "2"].contains(&status)), "{name:?}: {statuses}");
        for call in ours(&world, calls) {
            let part = if name == long { &long[..64] } else { "hostile" };
            ensure!(!call.args.contains(part), "{name:?} reached the system: {}({}", call.name, call.args);
        }
    }
    eventually("no session came of it", || Ok((world.ok(&["ls", "--all", "--json"])?.trim() == "[]").then_some(())))?;
    let outside: Vec<PathBuf> = std::fs::read_dir(world.outside())?.flatten().map(|entry| entry.path()).collect();
    ensure!(!outside.iter().any(|path| path.to_string_lossy().contains("hostile")), "{outside:?}");
    Ok(())
}
