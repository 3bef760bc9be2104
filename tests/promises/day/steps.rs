//! The commands of a day, each kind at least once, in a seeded order.

use std::path::Path;

use super::is_there;
use super::model::{Act, Expected, FORGED, Out, Shell, Sshd, Step};

/// Order of every day.
const SEED: u64 = 20_261_121;

/// Kinds that are cheap enough to come again and again.
const QUICK: usize = 37;

/// Kinds that come once.
const SLOW: usize = 9;

/// The person at the keyboard, who knows where they are.
struct Person<'a> {
    shell: Shell,
    home: &'a str,
    sshd: Option<&'a Sshd>,
    cwd: String,
    cwd_before: Option<String>,
    last_exit: u64,
    number: usize,
}

/// Steps with at least `commands_min` commands.
pub(super) fn of_a_day(shell: Shell, home: &Path, sshd: Option<&Sshd>, commands_min: usize) -> Vec<Step> {
    let home = home.display().to_string();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut person = Person { shell, home: &home, sshd, cwd: home.clone(), cwd_before: None, last_exit: 0, number: 0 };
    let mut kinds: Vec<usize> = (0..QUICK + SLOW).collect();
    random.shuffle(&mut kinds);
    let mut steps: Vec<Step> = Vec::new();
    let mut count = 0;
    while count < commands_min {
        let kind = kinds.pop().unwrap_or_else(|| random.usize(..QUICK));
        let done = person.does(kind, &mut random);
        count += done.iter().map(|step| step.commands.len()).sum::<usize>();
        steps.extend(done);
    }
    steps
}

fn is(text: impl Into<String>) -> Out {
    Out::Is(text.into())
}

fn has(text: &str) -> Out {
    Out::Has(text.to_owned())
}

impl Person<'_> {
    fn does(&mut self, kind: usize, random: &mut fastrand::Rng) -> Vec<Step> {
        self.number += 1;
        match kind {
            0..10 => self.plain_lines(kind, random),
            10..19 => self.several_lines(kind),
            19..28 => self.at_the_keyboard(kind - 19),
            28..QUICK => self.jobs_and_more(kind - 28),
            _ => self.programs(kind - QUICK),
        }
    }

    /// Typed, and listed so.
    fn line(&mut self, line: impl Into<String>, exit: u64, out: Out) -> Step {
        let line = line.into();
        self.keys(vec![Act::Type(format!("{line}\r"))], line, Some(exit), out)
    }

    /// Done with these keys, and listed as `line`.
    fn keys(&mut self, acts: Vec<Act>, line: impl Into<String>, exit: Option<u64>, out: Out) -> Step {
        let is_odd = matches!(out, Out::Has(_));
        let expected = Expected { line: line.into(), cwd: self.cwd.clone(), exit, out, is_odd };
        self.last_exit = exit.unwrap_or(self.last_exit);
        Step { acts, commands: vec![expected], marks_prompt: true }
    }

    fn of<'t>(&self, bash: &'t str, zsh: &'t str, fish: &'t str) -> &'t str {
        match self.shell {
            Shell::Bash => bash,
            Shell::Zsh => zsh,
            Shell::Fish => fish,
        }
    }

    fn is_fish(&self) -> bool {
        self.shell == Shell::Fish
    }

    fn plain_lines(&mut self, kind: usize, random: &mut fastrand::Rng) -> Vec<Step> {
        let (n, home) = (self.number, self.home);
        vec![match kind {
            0 => self.line(
                format!("echo 'äöü 😀; {n}%' \"two  $HOME\" \\#"),
                0,
                is(format!("äöü 😀; {n}% two  {home} #\r\n")),
            ),
            1 => self.line(format!("printf '%s\\n' c{n} b a | sort | head -n 2"), 0, is("a\r\nb\r\n")),
            2 => self.line(if n.is_multiple_of(2) { "true" } else { "test 1 -eq 2" }, (n % 2) as u64, is("")),
            3 => self.line(format!("hello n{n} {}", n % 50), (n % 50) as u64, is(format!("hello n{n}\r\n"))),
            4 => self.line(format!("greet x{n}"), 0, is(format!("hi x{n}\r\n"))),
            5 => return self.goes_elsewhere(random),
            6 => self.line(
                format!("sh -c 'echo bad{n} >&2; exit {}'", n % 100 + 1),
                (n % 100 + 1) as u64,
                is(format!("bad{n}\r\n")),
            ),
            7 => self.line("sh -c 'kill -TERM $$'", 143, Out::Any),
            8 => match n % 2 {
                0 => self.line(format!("nosuchcommand{n}"), 127, has("nosuchcommand")),
                _ => self.line("/etc/passwd", 126, Out::Any),
            },
            _ => self.line(
                format!("echo n{n} > {home}/f; cat {home}/f; echo {home}/globs/x*; false"),
                1,
                is(format!("n{n}\r\n{home}/globs/x1 {home}/globs/x2 {home}/globs/x3\r\n")),
            ),
        }]
    }

    fn goes_elsewhere(&mut self, random: &mut fastrand::Rng) -> Vec<Step> {
        let (home, before) = (self.home, self.cwd.clone());
        let (line, to) = match random.usize(..6) {
            0 => ("cd".to_owned(), home.to_owned()),
            1 => (format!("cd '{home}/a b'"), format!("{home}/a b")),
            2 => (format!("cd {home}/ünï"), format!("{home}/ünï")),
            3 => ("cd /usr/lib".to_owned(), "/usr/lib".to_owned()),
            4 => match self.cwd_before.clone() {
                Some(there) => ("cd -".to_owned(), there),
                None => ("cd /usr".to_owned(), "/usr".to_owned()),
            },
            _ => {
                let pushed = self.line("pushd /usr/share", 0, Out::Any);
                "/usr/share".clone_into(&mut self.cwd);
                let there = self.line("pwd", 0, is("/usr/share\r\n"));
                let popped = self.line("popd", 0, Out::Any);
                self.cwd = before;
                self.cwd_before = Some("/usr/share".to_owned());
                return vec![pushed, there, popped];
            }
        };
        let step = self.line(line, 0, Out::Any);
        if to != self.cwd {
            self.cwd_before = Some(before);
        }
        self.cwd = to;
        vec![step, self.line("pwd", 0, is(format!("{}\r\n", self.cwd.clone())))]
    }

    /// `typed` on several lines; bash's history joins them to `joined`.
    fn several(&mut self, typed: &str, joined: &str, out: &str) -> Step {
        let keys = typed.replace('\n', "\r") + "\r";
        let line = if self.shell == Shell::Bash { joined } else { typed };
        self.keys(vec![Act::Type(keys)], line, Some(0), is(out))
    }

    fn several_lines(&mut self, kind: usize) -> Vec<Step> {
        let n = self.number;
        vec![match kind {
            10 if self.is_fish() => {
                self.several(&format!("for i in 1 2\necho $i-{n}\nend"), "", &format!("1-{n}\r\n2-{n}\r\n"))
            }
            10 => self.several(
                &format!("for i in 1 2; do\necho $i-{n}\ndone"),
                &format!("for i in 1 2; do echo $i-{n}; done"),
                &format!("1-{n}\r\n2-{n}\r\n"),
            ),
            11 if self.is_fish() => {
                self.several("set i 0; while test $i -lt 2\necho w$i; set i (math $i + 1)\nend", "", "w0\r\nw1\r\n")
            }
            11 => self.several(
                "i=0; while [ $i -lt 2 ]; do\necho w$i; i=$((i+1))\ndone",
                "i=0; while [ $i -lt 2 ]; do echo w$i; i=$((i+1)); done",
                "w0\r\nw1\r\n",
            ),
            12 if self.is_fish() => self.several("if false\necho no\nelse\necho yes\nend", "", "yes\r\n"),
            12 => self.several(
                "if false\nthen echo no\nelse echo yes\nfi",
                "if false; then echo no; else echo yes; fi",
                "yes\r\n",
            ),
            13 => {
                let defined = match self.shell {
                    Shell::Fish => self.several(&format!("function f{n}\necho f$argv\nend"), "", ""),
                    _ => self.several(&format!("f{n}() {{\necho f$1\n}}"), &format!("f{n}() {{ echo f$1; }}"), ""),
                };
                return vec![defined, self.line(format!("f{n} x"), 0, is("fx\r\n"))];
            }
            14 if self.is_fish() => self.several(&format!("echo 'l1\nl {n}'"), "", &format!("l1\r\nl {n}\r\n")),
            14 => {
                let text = format!("cat <<'EOF' | tr a-z A-Z\nl1 $x\n  l {n}\nEOF");
                self.several(&text, &text, &format!("L1 $X\r\n  L {n}\r\n"))
            }
            15 => self.several(&format!("echo a \\\nb{n}"), &format!("echo a b{n}"), &format!("a b{n}\r\n")),
            16 => self.line(format!("echo {} | wc -c", "x".repeat(4096)), 0, is("4097\r\n")),
            17 => self.line(
                format!("echo $(echo sub {n}); echo \"quo'ted\" 'dou\"ble'"),
                0,
                is(format!("sub {n}\r\nquo'ted dou\"ble\r\n")),
            ),
            _ => return self.pastes(),
        }]
    }

    /// Two lines at once, as a terminal pastes them.
    fn pastes(&mut self) -> Vec<Step> {
        let n = self.number;
        let (one, two) = (format!("echo p{n}"), format!("echo q{n}"));
        let pasted = Act::Type(format!("\x1b[200~{one}\n{two}\x1b[201~"));
        let (seen, enter) = (Act::See(two.clone().split_off(5)), Act::Type("\r".to_owned()));
        if self.shell != Shell::Bash {
            return vec![self.keys(
                vec![pasted, seen, enter],
                format!("{one}\n{two}"),
                Some(0),
                is(format!("p{n}\r\nq{n}\r\n")),
            )];
        }
        // bash runs each line by itself, and says how only the last has ended.
        let mut step = self.keys(vec![pasted, seen, enter], one, None, is(format!("p{n}\r\n")));
        step.commands.extend(self.keys(Vec::new(), two, Some(0), is(format!("q{n}\r\n"))).commands);
        vec![step]
    }

    fn at_the_keyboard(&mut self, kind: usize) -> Vec<Step> {
        let (n, home) = (self.number, self.home);
        let typed = |keys: String| vec![Act::Type(keys)];
        let nothing = |acts: Vec<Act>| vec![Step { acts, commands: Vec::new(), marks_prompt: true }];
        match kind {
            0 => nothing(typed("\r".to_owned())),
            1 if self.is_fish() => {
                let unchanged = self.last_exit;
                vec![self.line(format!("# note {n}"), unchanged, is(""))]
            }
            1 => nothing(typed(format!("# note {n}\r"))),
            2 => vec![self.line(format!("  echo spaced {n}"), 0, is(format!("spaced {n}\r\n")))],
            3 if self.is_fish() => {
                vec![self.line(format!("echo not expanded {n}!"), 0, is(format!("not expanded {n}!\r\n")))]
            }
            3 => {
                let first = self.line(format!("echo expand {n}"), 0, is(format!("expand {n}\r\n")));
                vec![
                    first,
                    self.keys(
                        typed("!!\r".to_owned()),
                        format!("echo expand {n}"),
                        Some(0),
                        is(format!("expand {n}\r\n")),
                    ),
                ]
            }
            4 => {
                let acts = vec![
                    Act::Type(format!("cat {home}/uniq\t")),
                    Act::See("ue-file".to_owned()),
                    Act::Type("\r".to_owned()),
                ];
                let line = format!("cat {home}/unique-file{}", self.of(" ", "", " "));
                vec![self.keys(acts, line, Some(0), is("u\r\n"))]
            }
            5 => {
                let mut steps = nothing(vec![
                    Act::Type(format!("echo abandoned{n}")),
                    Act::See(format!("abandoned{n}")),
                    Act::Interrupt,
                ]);
                steps[0].marks_prompt = false;
                self.last_exit = 130;
                // What follows is no longer affected by the last status.
                steps.push(self.line("true", 0, is("")));
                steps
            }
            6 => vec![self.keys(
                typed(format!("cho ed{n}\x01e\r")),
                format!("echo ed{n}"),
                Some(0),
                is(format!("ed{n}\r\n")),
            )],
            7 => vec![self.keys(
                typed(format!("echo k{n}me\x1b[D\x1b[D\x0bx\r")),
                format!("echo k{n}x"),
                Some(0),
                is(format!("k{n}x\r\n")),
            )],
            _ => {
                let first = self.line(format!("echo again {n}"), 0, is(format!("again {n}\r\n")));
                let keys = if self.is_fish() || n.is_multiple_of(2) {
                    "\x1b[A\r".to_owned()
                } else {
                    format!("\x12again {n}\r")
                };
                vec![first, self.keys(typed(keys), format!("echo again {n}"), Some(0), is(format!("again {n}\r\n")))]
            }
        }
    }

    fn jobs_and_more(&mut self, kind: usize) -> Vec<Step> {
        let (n, home) = (self.number, self.home);
        match kind {
            0 => {
                let line = "sh -c 'echo go; exec sleep 1000'";
                let acts =
                    vec![Act::Type(format!("{line}\r")), Act::See("go\r\n".to_owned()), Act::Type("\x03".to_owned())];
                vec![self.keys(acts, line, Some(130), is(self.of("go\r\n^C\r\n", "go\r\n^C\r\n", "go\r\n^C")))]
            }
            1 => {
                let line = "sh -c 'echo go; exec sleep 1000'";
                let acts =
                    vec![Act::Type(format!("{line}\r")), Act::See("go\r\n".to_owned()), Act::Type("\x1a".to_owned())];
                let status = (!self.is_fish()).then_some(148);
                let stopped = self.keys(acts, line, status, has("go\r\n^Z"));
                let listed = self.line("jobs", 0, has("sleep 1000"));
                let background = self.line("bg", 0, Out::Any);
                let killed = self.line("kill -9 %1; wait", 0, Out::Any);
                self.last_exit = 0;
                let settled = self.line("true", 0, Out::Any);
                let mut steps = vec![stopped, listed, background, killed, settled];
                steps[3].commands[0].exit = None;
                let line = "sh -c 'echo go; exec cat'";
                let acts =
                    vec![Act::Type(format!("{line}\r")), Act::See("go\r\n".to_owned()), Act::Type("\x1a".to_owned())];
                steps.push(self.keys(acts, line, status, has("go\r\n^Z")));
                let acts = vec![
                    Act::Type("fg\r".to_owned()),
                    Act::See("cat'".to_owned()),
                    Act::Type("typed\r".to_owned()),
                    // Once, if it came before the tty was cat's again: nothing echoes it then.
                    Act::See("typed\r\n".to_owned()),
                    Act::Type("\x04".to_owned()),
                ];
                steps.push(self.keys(acts, "fg", Some(0), has("typed\r\n")));
                steps
            }
            2 => {
                let made = self.line(format!("mkfifo {home}/fifo{n}"), 0, is(""));
                let begun = self.line(format!("sh -c 'read x < {home}/fifo{n}; echo later {n}' &"), 0, Out::Any);
                let waited = self.line(format!("echo go > {home}/fifo{n}; wait"), 0, has(&format!("later {n}")));
                vec![made, begun, waited, self.line("true", 0, Out::Any)]
            }
            3 if self.is_fish() => {
                vec![self.line(format!("fish --no-config -c 'exit {}'", n % 9), (n % 9) as u64, is(""))]
            }
            3 => vec![self.line(format!("(echo sub; exit {})", n % 9), (n % 9) as u64, is("sub\r\n"))],
            4 => vec![self.line(format!("cat {home}/forged"), 0, is(FORGED.replace('\n', "\r\n")))],
            5 => vec![self.line(format!("printf abc{n}"), 0, is(format!("abc{n}")))],
            6 => vec![self.line("printf '10%%\\r50%%\\r100%%\\n'", 0, is("10%\r50%\r100%\r\n"))],
            7 => {
                let columns = if n.is_multiple_of(2) { 132 } else { 80 };
                let line = format!("echo sized {n}");
                let acts = vec![
                    Act::Size(columns),
                    Act::Type(format!("{line}\r")),
                    Act::See("\x1b]133;C;".to_owned()),
                    Act::See(format!("sized {n}\r\n")),
                ];
                vec![self.keys(acts, line, Some(0), is(format!("sized {n}\r\n")))]
            }
            _ => {
                let line = format!(
                    "{}{n}{}",
                    self.of("export V=", "export V=", "set -gx V "),
                    self.of("; exec 3>/dev/null", "; exec 3>/dev/null", "")
                );
                // fish's `set` leaves the status as it is.
                let exit = if self.is_fish() { self.last_exit } else { 0 };
                vec![self.line(line, exit, is("")), self.line("sh -c 'echo $V'", 0, is(format!("{n}\r\n")))]
            }
        }
    }

    fn programs(&mut self, kind: usize) -> Vec<Step> {
        let home = self.home;
        let full_screen = |see: &str, keys: &str, line: &str| {
            vec![Act::Type(format!("{line}\r")), Act::See(see.to_owned()), Act::Type(keys.to_owned())]
        };
        match kind {
            0 => self.shell_inside(Shell::Bash),
            1 => self.shell_inside(Shell::Zsh),
            2 => self.shell_inside(Shell::Fish),
            3 if is_there("less") => {
                let line = format!("less {home}/unique-file");
                vec![self.keys(full_screen("(END)", "q", &line), line, Some(0), Out::Any)]
            }
            4 if is_there("vim") || is_there("vim.tiny") => {
                let program = if is_there("vim") { "vim" } else { "vim.tiny" };
                let line = format!("{program} -u NONE -i NONE {home}/unique-file");
                vec![self.keys(full_screen("~", ":q\r", &line), line, Some(0), Out::Any)]
            }
            5 if is_there("top") => vec![self.line("top -b -n 1 | head -n 1", 0, has("top - "))],
            6 => match self.sshd.map(|sshd| sshd.ssh.clone()) {
                None => Vec::new(),
                Some(ssh) => {
                    let once = self.line(format!("{ssh} 'echo far; exit 3'"), 3, is("far\r\n"));
                    let line = format!("{ssh} -t 'echo re''ady; cat; exit 4'");
                    let acts = full_screen("ready\r\n", "typed there\r\x04", &line);
                    vec![once, self.keys(acts, line, Some(4), has("typed there\r\ntyped there\r\n"))]
                }
            },
            7 if is_there("su") => vec![self.line("su -c 'echo as root'", 0, is("as root\r\n"))],
            8 if is_there("sudo") => vec![self.line("sudo -n sh -c 'echo by sudo; exit 6'", 6, has("by sudo\r\n"))],
            _ => Vec::new(),
        }
    }

    /// Another shell, not kept, with the user's own files.
    fn shell_inside(&mut self, inner: Shell) -> Vec<Step> {
        let ready = || Act::See(super::READY.to_owned());
        let acts = vec![
            Act::Type(format!("{}\r", inner.name())),
            ready(),
            Act::Type("cd /; echo in''side\r".to_owned()),
            Act::See("inside\r\n".to_owned()),
            ready(),
            Act::Type("exit 5\r".to_owned()),
        ];
        vec![self.keys(acts, inner.name(), Some(5), has("inside\r\n"))]
    }
}
