//! What `export --format html` promises: nothing of a record runs or breaks the page, and any export is bounded in memory.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking, and says what it passes over

mod world;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use world::World;

/// Each tries to be markup, script, style or a link, in output, titles, links, colours and the command line itself.
const HOSTILE: [&str; 9] = [
    "echo '<script>document.title=\"pwned\"</script><img src=x onerror=document.title=1>'",
    "printf '\\033]0;</title><script>document.title=2</script>\\007\\033]2;x\\033\\\\'",
    "printf '\\033]8;;javascript:document.title=3\\033\\\\bad\\033]8;;\\033\\\\ \\033]8;;https://example.org/\"onclick=\"x\\033\\\\good\\033]8;;\\033\\\\\\n'",
    "printf '</pre></details></main><style>*{display:none}</style>&lt;<!--\\n'",
    "printf '\\342\\200\\256evil\\342\\200\\254 \\302\\23331mC1\\302\\235x\\302\\234\\n'",
    "printf '\\033[38;2;0;0;1mx\\033[m\\033[999999999999999999999;1;1;1m\\n'",
    "head -c 100000 /dev/zero | tr '\\0' a | sed 's/^/\\x1b]0;/'; echo after",
    "head -c 2000 /dev/zero | tr '\\0' w; echo",
    ": '\"><script>document.title=4</script>'",
];

fn hostile(world: &World) -> PathBuf {
    std::fs::write(world.path().join(".bashrc"), "PS1='READY>'\n").expect("written");
    let mut tty = world.terminal(["start", "-n", "told", "--", "bash"]);
    tty.expect("READY>");
    for line in HOSTILE {
        tty.keys(format!("{line}\r"));
        tty.expect("READY>");
    }
    tty.keys("exit\r");
    tty.wait();
    let page = world.path().join("page.html");
    let output = world.run(["export", "told", "--format", "html", "-o", page.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    page
}

/// What the browser makes of a page, where there is one.
fn opened(world: &World, page: &Path) -> Option<String> {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]);
    let command = command.arg(format!("file://{}", page.display())).env("HOME", world.path());
    match command.stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => {
            eprintln!("passed over: no chromium here");
            None
        }
    }
}

#[test]
fn nothing_of_a_record_runs_or_breaks_the_page() {
    let world = World::with_daemon();
    let path = hostile(&world);
    let page = std::fs::read_to_string(&path).expect("a page");
    assert_eq!(page.matches("<script").count(), 1, "only the page's own");
    assert_eq!(page.matches("<style").count(), 1);
    assert_eq!(
        (page.matches("<pre>").count(), page.matches("<details").count()),
        (page.matches("</pre>").count(), HOSTILE.len() + 1)
    );
    assert_eq!(page.matches("</details>").count(), HOSTILE.len() + 1);
    assert!(page.contains("default-src 'none'") && page.contains("script-src 'nonce-"));
    assert!(page.contains("href=\"https://example.org/&quot;onclick=&quot;x\">good</a>"), "a quote ends no attribute");
    assert!(page.contains(">bad ") && !page.contains("href=\"javascript"), "only the web is linked to");
    assert!(page.contains("\u{ab}U+202E\u{bb}evil") && page.contains(&"w".repeat(2000)));
    assert!(!page.chars().any(|c| c.is_control() && c != '\n'), "no control character");
    assert!(page.len() < 100_000, "an endless title is no text: {} bytes", page.len());
    let remote = ["src=", "@import", "url(", "fetch(", "XMLHttp"];
    let own = page.split("<main").next().expect("a head");
    assert!(!remote.iter().any(|way| own.contains(way) && !own.contains("&lt;img src=")), "nothing is loaded");
    if let Some(dom) = opened(&world, &path) {
        assert!(dom.contains("<title>told</title>"), "no script of a record ran: {}", &dom[..500.min(dom.len())]);
        assert_eq!(dom.matches("<details").count(), HOSTILE.len() + 1, "nothing broke out of its place");
        assert!(dom.contains("toLocaleString") && !dom.contains("class=\"tools\" hidden"), "the page's own script ran");
    }
}

/// What a form may take more for a large session than for a small one, in KiB.
const GROWTH_KIB_MAX: i64 = 4 << 10;

/// Sessions that differ in their size, and in a title of 8 MiB in the large one that never ends.
/// `SHELLKEEP_EXPORT_MB=300` makes that one that large.
#[test]
fn every_form_of_a_large_session_is_made_in_the_memory_of_a_small_one() {
    let world = World::with_daemon();
    let large = std::env::var("SHELLKEEP_EXPORT_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let line = "printf '\\033[32m%s\\033[m %s' 2026-11-21T00:00:00 'compiling an ordinary crate with an ordinary name'";
    for (name, megabytes, title) in [("small", 1, 8), ("large", large, 8 << 20)] {
        let size = megabytes * 1_000_000;
        let script =
            format!("yes \"$({line})\" | head -c {size}; printf '\\033]0;'; head -c {title} /dev/zero | tr '\\0' t");
        let mut session = world.command(["start", "-n", name, "--", "sh", "-c", &script]);
        // Its output goes nowhere: what this process has in memory would count as its children's.
        assert!(session.stdin(Stdio::null()).stdout(Stdio::null()).status().expect("it runs").success());
    }
    for form in ["cast", "cast2", "txt", "json", "html"] {
        let taken = |name: &str| {
            let mut command = world.command(["export", name, "--format", form, "-o", "/dev/null"]);
            let (status, kib) = ended(command.stdin(Stdio::null()).spawn().expect("it starts").id());
            assert_eq!(status, 0, "{form}");
            kib
        };
        let (small, large) = (taken("small"), taken("large"));
        eprintln!("{form}: {small} and {large} KiB");
        assert!(large < small + GROWTH_KIB_MAX, "{form}: {small} KiB for a small session, {large} KiB for a large one");
    }
}

/// Waits for a process; its status and its largest resident memory in KiB.
#[allow(unsafe_code)]
fn ended(pid: u32) -> (i32, i64) {
    let (mut status, pid) = (0, i32::try_from(pid).expect("a pid"));
    // SAFETY: the structure is plain numbers, for which zeroes are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals that outlive the call, which writes nothing else.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, pid);
    (std::process::ExitStatus::from_raw(status).code().unwrap_or(-1), usage.ru_maxrss)
}
