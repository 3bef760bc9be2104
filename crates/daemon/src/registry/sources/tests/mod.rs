//! The whole of it, over projects as they are found: each fixture has its listing in `expected.txt`.
//!
//! After a change that is meant, `UPDATE_EXPECTED=1 cargo test -p shellkeep-daemon sources` writes them anew.

mod attacks;
mod limits;
mod quirks;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// A home and a project in it that are copies of a fixture.
struct World {
    _dir: TempDir,
    root: PathBuf,
    places: Places,
}

impl World {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let places = Places { home: base.join("home"), config: base.join("home/.config/shellkeep") };
        fs::create_dir_all(base.join("root")).unwrap();
        fs::create_dir_all(base.join("home/.config/shellkeep")).unwrap();
        Self { _dir: dir, root: base.join("root"), places }
    }

    fn of(fixture: &str) -> Self {
        let world = Self::empty();
        let from = fixtures().join(fixture);
        world.copy(&from.join("root"), &world.root());
        world.copy(&from.join("home"), &world.places.home);
        world
    }

    fn root(&self) -> PathBuf {
        self.root.clone()
    }

    fn copy(&self, from: &Path, to: &Path) {
        let Ok(entries) = fs::read_dir(from) else { return };
        fs::create_dir_all(to).unwrap();
        for entry in entries {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.copy(&entry.path(), &target);
                continue;
            }
            fs::copy(entry.path(), &target).unwrap();
            if target.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&target).unwrap();
                let text = text.replace("@HOME@", self.places.home.to_str().unwrap());
                fs::write(&target, text.replace("@ROOT@", self.root().to_str().unwrap())).unwrap();
            }
        }
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn slices(&self) -> Vec<Slice> {
        self.discover(&patient())
    }

    /// All that a session in the project sees, of both looks.
    fn discover(&self, limits: &Limits) -> Vec<Slice> {
        [of_project(&self.root, &self.places, limits), of_user(&self.places, limits)].concat()
    }

    fn slice(&self, source: &str) -> Slice {
        self.slices().into_iter().find(|slice| slice.source == source).unwrap()
    }

    fn item(&self, source: &str, name: &str) -> Item {
        let slice = self.slice(source);
        slice.items.into_iter().find(|item| item.name == name).unwrap_or_else(|| panic!("no {name} in {source}"))
    }

    fn messages(&self, source: &str) -> String {
        let messages: Vec<String> = self.slice(source).diagnostics.into_iter().map(|one| one.message).collect();
        messages.join("\n")
    }

    fn names(&self, source: &str) -> Vec<String> {
        self.slice(source).items.into_iter().map(|item| item.name).collect()
    }

    fn listing(&self) -> String {
        let text = self.slices().iter().map(listing).collect::<String>();
        let text = text.replace(self.root().to_str().unwrap(), "@ROOT@");
        text.replace(self.places.home.to_str().unwrap(), "@HOME@")
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/projects")
}

/// The limits, but for the time: a busy machine changes no result.
fn patient() -> Limits {
    Limits { time: Duration::from_mins(10), ..Limits::default() }
}

/// One slice as lines for people; nothing of one that has nothing to say.
fn listing(slice: &Slice) -> String {
    let mut text = String::new();
    if slice.items.is_empty() && slice.diagnostics.is_empty() {
        return text;
    }
    let cut = if slice.complete { "" } else { " (cut)" };
    writeln!(text, "{} of {:?}{cut}", slice.source, slice.scope).unwrap();
    for item in &slice.items {
        let hidden = if item.listed { "" } else { " hidden" };
        let agents = if item.agents_may { "" } else { " not-for-agents" };
        writeln!(text, "  {} = {} ({:?}){hidden}{agents}", item.qualified_name, item.name, item.kind).unwrap();
        writeln!(text, "    {}", item.description).unwrap();
        let mut about = |what: &str, said: String| {
            if !said.is_empty() {
                writeln!(text, "    {what}: {said}").unwrap();
            }
        };
        about("called", item.display_name.clone().unwrap_or_default());
        about("group", item.group.clone().unwrap_or_default());
        about("also", item.aliases.join(" "));
        about("takes", item.arguments.hint.clone().unwrap_or_default());
        about("runs", exec(&item.exec));
        let there = |evidence: &&Evidence| evidence.content != Content::Absent;
        let evidence: Vec<&str> = item.evidence().filter(there).map(|evidence| &*evidence.what).collect();
        about("decided by", evidence.join(" "));
    }
    for diagnostic in &slice.diagnostics {
        let line = diagnostic.line.map_or(String::new(), |line| format!(":{line}"));
        writeln!(text, "  ! {}{line}: {}", diagnostic.file.display(), diagnostic.message).unwrap();
    }
    text
}

fn exec(exec: &Exec) -> String {
    let place =
        |dir: &Option<PathBuf>| dir.as_ref().map_or("the session's".to_owned(), |dir| dir.display().to_string());
    match exec {
        Exec::Program(program) => {
            format!("{:?} in {} {:?} {:?}", program.argv, place(&program.dir), program.env, program.passing)
        }
        Exec::Line(line) => format!("{:?} in {} {:?} {:?}", line.text, place(&line.dir), line.places, line.shell),
        Exec::Prompt(prompt) => format!("a prompt, {:?} {:?} {:?}", prompt.dialect, prompt.names, prompt.constants),
        Exec::McpServer(server) => {
            format!("{:?} in {} with {:?}", server.transport, place(&server.dir), server.variables)
        }
        Exec::Nothing => String::new(),
    }
}

fn check(fixture: &str) {
    let listing = World::of(fixture).listing();
    let path = fixtures().join(fixture).join("expected.txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &listing).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(listing == expected, "{} differs; what is found now:\n{listing}", path.display());
}

#[test]
fn a_node_monorepo_lists_its_scripts_packages_and_editor_tasks() {
    check("node-monorepo");
}

#[test]
fn a_rust_workspace_lists_its_recipes_aliases_and_targets() {
    check("rust-just");
}

#[test]
fn a_python_project_lists_its_tasks_of_mise_and_of_a_taskfile() {
    check("python-mise");
}

///
#[test]
fn a_claude_code_project_lists_commands_skills_plugins_and_servers() {
    check("claude-code");
}

#[test]
fn an_empty_directory_lists_nothing_and_complains_of_nothing() {
    let world = World::empty();
    assert_eq!(world.listing(), "");
    assert!(world.slices().iter().all(|slice| slice.complete));
}
