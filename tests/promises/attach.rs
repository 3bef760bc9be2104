//! Attach shows the session's screen: what it showed is there, what follows comes once, and without a daemon nothing
//! is worse than before.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use shellkeep_daemon::screen::scan::{Scanner, Token};
use shellkeep_daemon::screen::{Screen as Emulated, Window};
use torture::screen::Screen;

use crate::world::{World, eventually, signal, within};

/// How long one terminal is looked at for a screen that comes from a daemon which has just started.
const SHOWN_WAIT: Duration = Duration::from_secs(4);

const WINDOW: Window = Window { cols: 80, rows: 24 };

/// What a terminal shows that was given these bytes.
fn emulated(bytes: &[u8]) -> Emulated {
    let mut screen = Emulated::new(WINDOW);
    screen.feed_whole(bytes);
    screen
}

/// Screens that programs leave: drawn once, then quiet, so that nobody draws them anew.
const SCREENS: [&str; 5] = [
    r"printf '\033[1;31mred\033[m plain\r\n$ half typed\033[?2004h'",
    r"seq 1 2000; printf '\033[44m last \033[m'",
    r"printf 'under\r\n\033[?1049h\033[2J\033[5;10Hin the middle\033[?25l\033[?1000h\033[?1006h\033[10;20r'",
    r"printf 'e\314\201 \344\275\240 \033(0lqk\033(B\033[4 q\033]2;a title\007\033[>1u\033['; sleep 0.1; printf '3;7Hcut'",
    r"i=0; while [ $i -lt 60000 ]; do i=$((i+1)); printf '\033[3%dmline %d\033[m of many\r\n' $((i%8)) $i; done",
];

/// Whatever was drawn, a terminal that attaches shows it without the program's help.
#[test]
fn an_attached_terminal_shows_what_the_session_shows() -> Result<()> {
    let world = World::new()?;
    for script in SCREENS {
        let session = world.session(&format!("{script}; printf '\\033]9;drawn\\007'; exec cat"))?;
        eventually("all is drawn", || Ok(ends_with(&world.output(&session)?, b"drawn\x07").then_some(())))?;
        let wanted = emulated(&world.output(&session)?);
        let terminal = Screen::start(&world, &["attach", &session])?;
        let begun = Instant::now();
        let same = eventually("the screen is shown", || {
            let shown = emulated(&terminal.shown());
            Ok((shown.grid() == wanted.grid() && shown.modes() == wanted.modes()).then_some(()))
        });
        let shown = emulated(&terminal.shown());
        same.map_err(|error| error.context(format!("{script}: {:?} for {:?}", shown.grid(), wanted.grid())))?;
        ensure!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let keeps = world.output(&session)?;
        ensure!(ends_with(&keeps, b"drawn\x07"), "the program was made to draw anew");
        world.ok(&["kill", &session])?;
    }
    Ok(())
}

fn ends_with(bytes: &[u8], end: &[u8]) -> bool {
    bytes.ends_with(end)
}

/// Fifty terminals come and go while the session counts: each is shown every number once and in order.
#[test]
fn terminals_that_come_and_go_miss_nothing_and_see_nothing_twice() -> Result<()> {
    let world = World::new()?;
    let session = world.session("i=0; while :; do i=$((i+1)); echo n${i}e; [ $((i%5000)) = 0 ] && sleep 0.02; done")?;
    eventually("it counts", || Ok((world.output(&session)?.len() > 100_000).then_some(())))?;
    for _ in 0..10 {
        let mut terminals = Vec::new();
        for _ in 0..5 {
            terminals.push(Screen::start(&world, &["attach", &session])?);
        }
        for mut terminal in terminals {
            eventually("it shows numbers", || Ok((numbers(&terminal.shown()).len() > 2000).then_some(())))?;
            terminal.keys(b"\0d")?;
            let shown = terminal.closed()?;
            let numbers = numbers(&shown);
            let broken = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
            ensure!(broken.is_none(), "{broken:?} among {} numbers", numbers.len());
        }
    }
    world.ok(&["kill", &session])?;
    Ok(())
}

/// The numbers among the text that was shown; the first and the last may be cut.
fn numbers(shown: &[u8]) -> Vec<u64> {
    let mut text = Vec::new();
    Scanner::default().scan(shown, |token, _| {
        if let Token::Text(bytes) = token {
            text.extend(bytes.iter().filter(|byte| byte.is_ascii_graphic()));
        }
    });
    let text = String::from_utf8_lossy(&text).into_owned();
    let whole = text.split('n').filter_map(|part| part.strip_suffix('e')).filter_map(|digits| digits.parse().ok());
    whole.collect()
}

/// A daemon that is stopped, or none at all, costs a moment and no error.
#[test]
fn without_a_daemon_that_answers_the_program_draws_its_screen() -> Result<()> {
    let world = World::new()?;
    let script = "trap 'echo drawn-anew' WINCH; echo ready; while :; do sleep 0.05; done";
    let session = world.session(script)?;
    eventually("it runs", || Ok((!world.output(&session)?.is_empty()).then_some(())))?;
    let daemon = world.daemon_other_than(None)?;
    signal(daemon, Signal::STOP)?;
    let begun = Instant::now();
    let mut terminal = Screen::start(&world, &["attach", &session])?;
    terminal.shows("drawn-anew")?;
    ensure!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    terminal.keys(b"\0d")?;
    ensure!(terminal.ended()?.success(), "detach failed");
    signal(daemon, Signal::CONT)?;
    world.ok(&["daemon", "stop"])?;
    let mut terminal = Screen::start(&world, &["attach", &session])?;
    terminal.shows("drawn-anew")?;
    terminal.keys(b"\0d")?;
    ensure!(terminal.ended()?.success(), "detach failed");
    world.ok(&["kill", &session])?;
    Ok(())
}

/// What was printed while recording was paused is in no record: the screen is the program's to draw.
#[test]
fn after_a_pause_the_program_is_asked_to_draw() -> Result<()> {
    let world = World::new()?;
    let script = "trap 'echo drawn-anew' WINCH; echo ready; while :; do sleep 0.05; done";
    let session = world.session(script)?;
    eventually("it runs", || Ok((!world.output(&session)?.is_empty()).then_some(())))?;
    world.ok(&["pause", &session])?;
    let mut terminal = Screen::start(&world, &["attach", &session])?;
    terminal.shows("drawn-anew")?;
    world.ok(&["resume", &session])?;
    terminal.keys(b"\0d")?;
    ensure!(terminal.ended()?.success(), "detach failed");
    let again = Screen::start(&world, &["attach", &session])?;
    again.shows("drawn-anew")?;
    world.ok(&["kill", &session])?;
    Ok(())
}

/// A checkpoint is a cache: without it, and with a damaged one, a restarted daemon tells the same screen.
#[test]
fn a_restarted_daemon_tells_the_same_screen_with_and_without_its_checkpoint() -> Result<()> {
    let world = World::new()?;
    let session = world.session("seq 1 400000; printf 'the \\033[7mend\\033[m'; exec cat")?;
    eventually("all is recorded", || Ok(ends_with(&world.output(&session)?, b"end\x1b[m").then_some(())))?;
    let wanted = emulated(&world.output(&session)?);
    let checkpoint = world.home().join("state/index/screens").join(&session);
    for round in 0..4 {
        // A daemon that has just started may need longer than a terminal waits for it: then the next one is shown the screen.
        eventually("the screen is shown", || {
            let terminal = Screen::start(&world, &["attach", &session])?;
            let is_shown = || Ok((emulated(&terminal.shown()).grid() == wanted.grid()).then_some(()));
            Ok(within(SHOWN_WAIT, "the screen is shown", is_shown).ok())
        })?;
        world.ok(&["daemon", "stop"])?;
        ensure!(checkpoint.exists(), "no checkpoint in round {round}");
        match round {
            0 => {}
            1 => std::fs::remove_file(&checkpoint)?,
            _ => {
                let mut bytes = std::fs::read(&checkpoint)?;
                let at = bytes.len() / 2;
                bytes[at] ^= 1;
                std::fs::write(&checkpoint, bytes)?;
            }
        }
        world.ok(&["daemon", "start"])?;
    }
    world.ok(&["kill", &session])?;
    world.ended(&session)?;
    world.ok(&["rm", &session])?;
    ensure!(!checkpoint.exists(), "the checkpoint outlives its session");
    Ok(())
}

/// A terminal of the first version, whose program was not replaced for months, is served as it always was.
#[test]
fn a_terminal_of_version_1_is_served() -> Result<()> {
    use shellkeep::link;
    use shellkeep_protocol::attach::{ATTACH_MAGIC, Attach, FromKeeper, FromTerminal, Hello, Size};
    use std::io::Write as _;

    let world = World::new()?;
    let session = world.session("echo first; read x; echo got $x; read y")?;
    eventually("it runs", || Ok((!world.output(&session)?.is_empty()).then_some(())))?;
    let socket = std::os::unix::net::UnixStream::connect(world.home().join(format!("run/k/{session}.sock")))?;
    let mut hello = Vec::new();
    link::frame(&Hello { magic: ATTACH_MAGIC, oldest: 1, newest: 1 }, &mut hello)?;
    (&socket).write_all(&hello)?;
    let (sender, mut receiver) = link::split(socket);
    receiver.set_wait(Some(Duration::from_secs(10)))?;
    let attach = Attach { size: None, tty: false, ssh_auth_sock: Vec::new().into(), patience_ms: None };
    sender.to_keeper(&FromTerminal::Attach(attach), &[])?;
    receiver.hello()?;
    ensure!(matches!(receiver.from_keeper()?, FromKeeper::Attached { .. }), "it is not attached");
    sender.to_keeper(&FromTerminal::Resume(Size::default()), &[])?;
    sender.to_keeper(&FromTerminal::Input(b"word\n"), &[])?;
    let mut shown = Vec::new();
    while !shown.windows(8).any(|part| part == b"got word") {
        match receiver.from_keeper()? {
            FromKeeper::Output(bytes) => shown.extend_from_slice(bytes),
            other => anyhow::bail!("the keeper says {other:?}"),
        }
    }
    ensure!(!shown.contains(&0x1b), "a screen in a pipe: {:?}", String::from_utf8_lossy(&shown));
    world.ok(&["kill", &session])?;
    Ok(())
}

/// A program may have had the terminal report keys in another way; the detach key still detaches.
#[test]
fn the_detach_key_is_seen_whatever_keyboard_the_program_has_set() -> Result<()> {
    let world = World::new()?;
    // What the program sets, and what a terminal then sends for Ctrl-Space, d.
    let keyboards: [(&str, &[&[u8]]); 4] = [
        (r"\033[>4;2m", &[b"\x1b[27;5;32~", b"d"]),
        (r"\033[>1u", &[b"\x1b[32;5u", b"d"]),
        (r"\033[=3;1u", &[b"\x1b[32;5:1u", b"\x1b[32;5:3u", b"d"]),
        (
            r"\033[>31u",
            &[b"\x1b[57442;5:1u\x1b[32", b";5:1u\x1b[32;5:3u\x1b", b"[57442;1:3u", b"\x1b[100;1:1", b";100u"],
        ),
    ];
    for (set, typed) in keyboards {
        let session = world.session(&format!("stty raw -echo; printf '{set}READY'; exec cat -v"))?;
        eventually("it runs", || Ok(ends_with(&world.output(&session)?, b"READY").then_some(())))?;
        let mut terminal = Screen::start(&world, &["attach", &session])?;
        terminal.shows("READY")?;
        terminal.keys(b"x\x1b[A")?;
        terminal.shows("x^[[A")?;
        for keys in typed {
            terminal.keys(keys)?;
        }
        ensure!(terminal.ended()?.success(), "{set}: detach failed");
        let output = String::from_utf8_lossy(&world.output(&session)?).into_owned();
        ensure!(!output.contains("32;5") && !output.contains("100;1"), "{set}: the keys passed: {output:?}");
        world.ok(&["kill", &session])?;
    }
    Ok(())
}
