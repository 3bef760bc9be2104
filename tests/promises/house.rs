//! The rules of the house that no lint knows, kept by reading the sources.
//!
//! Each rule is a function from files to complaints. A test shows that the house has none, and that a planted breach is
//! complained about, so that no rule can fall asleep.
#![allow(clippy::unwrap_used)] // a file that cannot be read fails the test

use std::path::Path;

/// Longest file, tests included.
const FILE_LINES_MAX: usize = 800;
/// Longest file that needs no reason.
const FILE_LINES_GOAL: usize = 500;
/// Files between the two, and why each is not two files.
const LONG_FILES: &[(&str, &str)] = &[(
    "crates/journal/tests/suite/faults.rs",
    "one scenario under every fault; apart, each part would build the scenario again",
)];

/// Our crates, each with those of ours that it may know. `tests` and `benches` stand above all and may know any.
const FLOORS: &[(&str, &[&str])] = &[
    ("transport", &[]),
    ("journal", &[]),
    ("protocol", &["journal", "transport"]),
    ("hub", &["journal", "transport", "protocol"]),
    ("daemon", &["journal", "transport", "protocol"]),
    ("client", &["journal", "transport", "protocol", "daemon"]), // the daemon only to run it
];

/// A text file of the repository.
#[derive(Debug, Clone)]
struct File {
    /// From the root, with slashes.
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), text: text.into() }
    }

    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|end| end == "rs")
    }

    /// Code that only tests run. This file names what it forbids.
    fn is_test(&self) -> bool {
        let own = self.path == "tests/promises/house.rs";
        let of_tests = self.path.split('/').any(|part| part == "tests") || self.path.ends_with("/tests.rs");
        self.is_rust() && of_tests && !own
    }

    /// Code that is shipped.
    fn is_product(&self) -> bool {
        self.is_rust() && self.path.starts_with("crates/") && !self.is_test()
    }

    /// Numbered lines without their comments. A `//` in a string ends a line early: this reads habits, not Rust.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or(line)))
    }
}

/// Everything that the rules read.
fn house() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for name in ["Cargo.toml", "Cargo.lock", "deny.toml"] {
        files.push(File::new(name, std::fs::read_to_string(root.join(name)).unwrap()));
    }
    for name in ["crates", "tests", "benches"] {
        collect(&root.join(name), name, &mut files);
    }
    files
}

fn collect(directory: &Path, name: &str, files: &mut Vec<File>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        // Fuzz targets are a workspace of their own, which the house neither builds nor ships; projects in fixtures are others'.
        if kind.is_dir() && !["/target", "/fuzz", "/fixtures"].iter().any(|end| name.ends_with(end)) {
            collect(&entry.path(), &name, files);
        } else if kind.is_file()
            && [".rs", ".toml", ".sh", ".bash", ".zsh", ".fish"].iter().any(|end| name.ends_with(end))
        {
            files.push(File::new(&name, std::fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// The house keeps the rule, and the rule sees each breach.
fn check(rule: fn(&[File]) -> Vec<String>, breaches: &[File]) {
    let house = house();
    let complaints = rule(&house);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    for breach in breaches {
        let mut house = house.clone();
        house.retain(|file| file.path != breach.path);
        house.push(breach.clone());
        assert!(!rule(&house).is_empty(), "the rule is blind to a breach in {}:\n{}", breach.path, breach.text);
    }
}

/// The lines of a section of a TOML file, numbered, up to the next section.
fn section<'a>(file: &'a File, header: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let lines = file.text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let inside = lines.skip_while(move |(_, line)| *line != header).skip(1);
    inside.take_while(|(_, line)| !line.starts_with('['))
}

fn is_entry(line: &str) -> bool {
    line.contains('=') && !line.starts_with('#')
}

#[test]
fn every_dependency_says_why_it_is_there_and_its_version_stands_in_one_place() {
    fn rule(files: &[File]) -> Vec<String> {
        let mut complaints = Vec::new();
        for file in files.iter().filter(|file| file.path == "Cargo.toml") {
            for (number, line) in section(file, "[workspace.dependencies]").filter(|(_, line)| is_entry(line)) {
                let reason = line.split_once('#').map_or("", |(_, reason)| reason.trim());
                if !line.contains("path = \"crates/") && reason.len() < 4 {
                    complaints.push(format!("Cargo.toml:{number}: no reason: {line}"));
                }
            }
        }
        for file in files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
            for header in ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"] {
                let own =
                    section(file, header).filter(|(_, line)| is_entry(line) && !line.contains("workspace = true"));
                complaints
                    .extend(own.map(|(number, line)| format!("{}:{number}: not from the root: {line}", file.path)));
            }
        }
        complaints
    }
    let breach = "[workspace.dependencies]\nserde = \"1\"\n";
    check(
        rule,
        &[File::new("Cargo.toml", breach), File::new("crates/x/Cargo.toml", "[dependencies]\nserde = \"1\"\n")],
    );
}

#[test]
fn unmaintained_crates_are_named_in_one_file_each() {
    fn rule(files: &[File]) -> Vec<String> {
        let mut complaints = Vec::new();
        for file in files.iter().filter(|file| file.is_product()) {
            let declares_module = file.code().any(|(_, line)| line.trim_end().ends_with("mod backoff;"));
            for (number, line) in file.code() {
                if line.contains("bincode") && file.path != "crates/transport/src/codec.rs" {
                    complaints.push(format!("{}:{number}: only codec.rs names bincode", file.path));
                }
                // Our own module has the name of the crate: `crate::backoff::`, and `backoff::` where it is declared.
                let foreign = line.match_indices("backoff::").any(|(at, _)| !line[..at].ends_with("crate::"));
                if foreign && !declares_module && file.path != "crates/transport/src/backoff.rs" {
                    complaints.push(format!("{}:{number}: only backoff.rs names the crate backoff", file.path));
                }
            }
        }
        for file in
            files.iter().filter(|file| file.path.ends_with("/Cargo.toml") && file.path != "crates/transport/Cargo.toml")
        {
            let named = section(file, "[dependencies]")
                .filter(|(_, line)| line.starts_with("bincode") || line.starts_with("backoff"));
            complaints
                .extend(named.map(|(number, line)| format!("{}:{number}: only for transport: {line}", file.path)));
        }
        complaints
    }
    check(
        rule,
        &[
            File::new("crates/daemon/src/x.rs", "fn f() { bincode::serialize(&1); }"),
            File::new("crates/transport/src/x.rs", "use backoff::ExponentialBackoff;"),
            File::new("crates/daemon/Cargo.toml", "[dependencies]\nbincode.workspace = true"),
        ],
    );
}

#[test]
fn files_stay_short_enough_to_be_read() {
    fn rule(files: &[File]) -> Vec<String> {
        let mut complaints = Vec::new();
        for file in files.iter().filter(|file| file.path != "Cargo.lock") {
            let lines = file.text.lines().count();
            let reason = LONG_FILES.iter().find(|(path, _)| *path == file.path);
            if lines > FILE_LINES_MAX {
                complaints.push(format!("{}: {lines} lines, the limit is {FILE_LINES_MAX}", file.path));
            } else if lines > FILE_LINES_GOAL && reason.is_none() {
                complaints.push(format!("{}: {lines} lines, over {FILE_LINES_GOAL} and not in LONG_FILES", file.path));
            } else if lines <= FILE_LINES_GOAL && reason.is_some() {
                complaints.push(format!("{}: {lines} lines, and still in LONG_FILES", file.path));
            }
        }
        complaints
    }
    check(
        rule,
        &[File::new("crates/x/src/x.rs", "\n".repeat(501)), File::new("tests/promises/x.rs", "\n".repeat(801))],
    );
}

#[test]
fn floors_depend_only_downward() {
    fn rule(files: &[File]) -> Vec<String> {
        let mut complaints = Vec::new();
        for file in files {
            let Some(floor) = file.path.strip_prefix("crates/").and_then(|path| path.strip_suffix("/Cargo.toml"))
            else {
                continue;
            };
            let Some((_, below)) = FLOORS.iter().find(|(name, _)| *name == floor) else {
                complaints.push(format!("{}: a crate without a floor; give it one in FLOORS", file.path));
                continue;
            };
            for header in ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"] {
                for (number, line) in section(file, header).filter(|(_, line)| line.starts_with("shellkeep")) {
                    let name = line.split(['.', ' ', '=']).next().unwrap_or(line);
                    let name = name.strip_prefix("shellkeep-").unwrap_or("client");
                    if !below.contains(&name) {
                        complaints.push(format!("{}:{number}: {floor} must not know {name}", file.path));
                    }
                }
            }
        }
        complaints
    }
    check(
        rule,
        &[
            File::new("crates/transport/Cargo.toml", "[dependencies]\nshellkeep-protocol.workspace = true"),
            File::new("crates/daemon/Cargo.toml", "[dev-dependencies]\nshellkeep = { workspace = true }"),
            File::new("crates/attic/Cargo.toml", "[package]"),
        ],
    );
}

#[test]
fn what_is_run_and_released_by_default_is_the_client_alone() {
    fn rule(files: &[File]) -> Vec<String> {
        let root = files.iter().filter(|file| file.path == "Cargo.toml");
        let wrong = root.filter(|file| !file.text.lines().any(|line| line == "default-members = [\"crates/client\"]"));
        wrong.map(|file| format!("{}: default-members is not the client alone", file.path)).collect()
    }
    check(rule, &[File::new("Cargo.toml", "default-members = [\"crates/client\", \"tests\"]")]);
}

#[test]
fn the_points_at_which_tests_stop_a_program_are_in_no_program_that_is_released() {
    fn rule(files: &[File]) -> Vec<String> {
        const FEATURE: &str = "test-hooks";
        let mut complaints = Vec::new();
        for file in files.iter().filter(|file| file.path.ends_with("Cargo.toml") && file.path != "tests/Cargo.toml") {
            // A feature may pass itself on downward; whoever asks for it, or is given it unasked, is released with it.
            let lines = file.text.lines().enumerate().map(|(index, line)| (index + 1, line));
            let asked = lines.filter(|(_, line)| line.contains(FEATURE) && !line.starts_with("test-hooks = ["));
            complaints
                .extend(asked.map(|(number, line)| format!("{}:{number}: asks for {FEATURE}: {line}", file.path)));
        }
        for file in files.iter().filter(|file| file.is_product()) {
            // In their own file they may be what they are, inside of the module that the feature switches on.
            let (text, forbidden) = if file.path == "crates/journal/src/hook.rs" {
                let outside = file.text.split("#[cfg(feature = \"test-hooks\")]\nmod on {").next();
                (outside.unwrap_or_default(), ["SHELLKEEP_TEST_HOOKS", "std::"])
            } else {
                (&*file.text, ["SHELLKEEP_TEST_HOOKS", FEATURE])
            };
            let broken = text.lines().filter(|line| forbidden.iter().any(|word| line.contains(word)));
            complaints.extend(broken.map(|line| format!("{}: only the feature's own module may: {line}", file.path)));
        }
        complaints
    }
    check(
        rule,
        &[
            File::new("crates/client/Cargo.toml", "[features]\ndefault = [\"test-hooks\"]"),
            File::new("benches/Cargo.toml", "shellkeep = { workspace = true, features = [\"test-hooks\"] }"),
            File::new("crates/daemon/src/x.rs", "std::env::var(\"SHELLKEEP_TEST_HOOKS\")"),
            File::new("crates/journal/src/hook.rs", "pub fn pause() { std::fs::write(\"x\", \"\"); }"),
        ],
    );
}

#[test]
fn tests_run_always_and_wait_for_events_not_for_time() {
    fn rule(files: &[File]) -> Vec<String> {
        let mut complaints = Vec::new();
        for file in files.iter().filter(|file| file.is_test()) {
            let mut explained = false;
            for (number, line) in file.text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
                let code = line.split("//").next().unwrap_or(line);
                if code.starts_with("#[ignore") {
                    complaints.push(format!("{}:{number}: a test that nobody runs", file.path));
                }
                // The reason stands on the line, or on the one before where a line would grow too long.
                let sleeps = code.contains("thread::sleep(") || code.contains("time::sleep(");
                if sleeps && !explained && code == line {
                    complaints.push(format!("{}:{number}: sleeps, and no comment says why: {line}", file.path));
                }
                explained = line.starts_with("//");
            }
        }
        complaints
    }
    check(
        rule,
        &[
            File::new("crates/x/tests/x.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"),
            File::new("tests/promises/x.rs", "    std::thread::sleep(Duration::from_millis(5));"),
            File::new("crates/x/src/y/tests.rs", "tokio::time::sleep(D).await;"),
        ],
    );
}

#[test]
fn modules_begin_with_what_they_own_and_promise() {
    fn rule(files: &[File]) -> Vec<String> {
        let product = files.iter().filter(|file| file.is_product() && file.path.contains("/src/"));
        let headless = product.filter(|file| !file.text.starts_with("//! "));
        headless.map(|file| format!("{}: begins without a head (//!)", file.path)).collect()
    }
    check(rule, &[File::new("crates/x/src/x.rs", "use std::io;\n")]);
}

/// What a line of deny.toml bans. One that others may use (`wrappers`) is cargo-deny's to judge.
fn ban_of(line: &str) -> Option<&str> {
    between(line, "{ crate = \"", "\"")
}

#[test]
fn what_deny_toml_bans_is_not_locked_and_all_sources_are_crates_io() {
    fn rule(files: &[File]) -> Vec<String> {
        let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
        let banned: Vec<&str> =
            text("deny.toml").lines().filter(|line| !line.contains("wrappers")).filter_map(ban_of).collect();
        let mut complaints = Vec::new();
        if banned.is_empty() {
            complaints.push("deny.toml bans nothing".to_owned());
        }
        for package in text("Cargo.lock").split("[[package]]").skip(1) {
            let field = |name: &str| {
                package.lines().find_map(|line| between(line, &format!("{name} = \""), "\"")).unwrap_or("")
            };
            let (name, version) = (field("name"), field("version"));
            let is_banned = |ban: &str| match ban.split_once('@') {
                Some((of, major)) => of == name && version.split('.').next() == Some(major),
                None => ban == name,
            };
            complaints.extend(
                banned
                    .iter()
                    .find(|ban| is_banned(ban))
                    .map(|ban| format!("Cargo.lock: {name} {version}, but {ban} is banned")),
            );
            if !["", "registry+https://github.com/rust-lang/crates.io-index"].contains(&field("source")) {
                complaints.push(format!("Cargo.lock: {name} {version} comes from {}", field("source")));
            }
        }
        complaints
    }
    let locked = |name: &str, version: &str, source: &str| {
        let package = format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n");
        File::new("Cargo.lock", package)
    };
    check(
        rule,
        &[
            locked("bincode", "3.0.0", "registry+https://github.com/rust-lang/crates.io-index"),
            locked("openssl", "0.10.0", "registry+https://github.com/rust-lang/crates.io-index"),
            locked("serde", "1.0.0", "git+https://example.org/serde"),
            File::new("deny.toml", "[bans]\n"),
        ],
    );
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.trim_start().strip_prefix(before)?.split(after).next()
}
