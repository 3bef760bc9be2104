//! What real projects and homes hold, read as it lies there: a parser per format, all behind
//! [`of_project`] and [`of_user`].
//!
//! Promises: no process is spawned; nothing outside of the project, the home and the configuration directory is read;
//! a source that fails hides no other; what is left out for a limit is said in a [`Diagnostic`]. Blocking: for a thread
//! of its own. Knows neither sessions nor trust. Formats: docs/commands.md.

mod admit;
mod agent_skills;
pub(super) mod beneath;
mod cargo;
mod claude;
mod evidence;
mod front_matter;
mod gemini;
mod item;
mod just;
mod make;
mod markdown;
mod mcp;
mod mise;
mod navi;
mod npm;
mod own;
mod paths;
mod plugins;
mod programs;
mod quoting;
mod scan;
mod taskfile;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod vscode;
mod warp;
mod words;
mod workspace;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use evidence::{Common, Content, Evidence, Held};
pub use item::{Argument, ArgumentError, Arguments, Exec, Item, Kind, McpServer, Passing, Program, Scope, Transport};
pub use template::{Dialect, Line, LineError, Places as LinePlaces, Prompt};

use scan::{Budget, Runs, Scan};

/// Where is looked.
#[derive(Debug, Clone)]
pub struct Places {
    /// The user's home.
    pub home: PathBuf,
    /// The user's configuration of shellkeep; `commands/` in it has their own.
    pub config: PathBuf,
}

/// How much one look may read and give.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Files per root; later ones are left out.
    pub files: usize,
    /// Directories below a source's own; deeper ones are left out.
    pub depth: usize,
    /// A larger file is left out.
    pub file_bytes: usize,
    /// Longer front matter is not read.
    pub front_matter_bytes: usize,
    /// Items of one source; later ones are left out.
    pub items: usize,
    /// Names, description and line of one item; a larger item is left out.
    pub item_bytes: usize,
    /// All sources together; what is not read by then is left out.
    pub time: Duration,
    /// Files that one source's lines are looked through for; beyond it an item says that it cannot be remembered.
    pub lookups: usize,
    /// Bytes of [`Evidence`] that are held; beyond it an item says that it cannot be remembered.
    pub evidence_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 2_000,
            depth: 8,
            file_bytes: 1 << 20,
            front_matter_bytes: 64 << 10,
            items: 5_000,
            item_bytes: 16 << 10,
            time: Duration::from_secs(2),
            lookups: 50_000,
            evidence_bytes: 32 << 20,
        }
    }
}

/// Something that a user should know of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it is.
    pub file: PathBuf,
    /// From 1.
    pub line: Option<u32>,
    /// What it is, and what was done about it. Without anything that a terminal acts on.
    pub message: String,
    /// A file, or a part of one, could not be read, so that commands may be missing.
    pub is_loss: bool,
}

/// What one source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Its name: `just`, `npm`, `claude`.
    pub source: &'static str,
    /// Whose files it reads.
    pub scope: Scope,
    /// In an order that depends on the files alone.
    pub items: Vec<Item>,
    /// What went wrong, and what was left out.
    pub diagnostics: Vec<Diagnostic>,
    /// False if a limit left something out.
    pub complete: bool,
    /// Files and directories on which the items depend, there or not, for who watches them.
    pub depends_on: Vec<PathBuf>,
}

/// How a source reads its base.
type Read = fn(&mut Scan<'_>);

use Runs::{Tool, Us};

/// Sources of a project, single files first: a large tree must not cost them their share.
const PROJECT: [(&str, Runs, Read); 15] = [
    ("mcp", Us, mcp::project),
    ("shellkeep", Us, own::project),
    ("cargo", Tool, cargo::read),
    ("just", Tool, just::read),
    ("make", Tool, make::read),
    ("task", Tool, taskfile::read),
    ("mise", Tool, mise::project),
    ("vscode", Us, vscode::read),
    ("gemini", Us, gemini::read),
    ("claude", Us, claude::read),
    ("agents", Us, agent_skills::project),
    ("npm", Tool, npm::read),
    ("warp", Us, warp::project),
    ("navi", Us, navi::project),
    ("claude-hooks", Us, claude::hooks),
];

/// Sources of the home.
const HOME: [(&str, Runs, Read); 10] = [
    ("cargo", Tool, cargo::read),
    ("mise", Tool, mise::user),
    ("gemini", Us, gemini::read),
    ("claude", Us, claude::read),
    ("agents", Us, agent_skills::user),
    ("warp", Us, warp::user),
    ("navi", Us, navi::user),
    ("claude-hooks", Us, claude::hooks),
    ("mcp", Us, mcp::user),
    ("claude-plugins", Us, plugins::user),
];

/// Reads what belongs to the project at `root`, and what the user has for it alone. Returns a slice for each source, also when it
/// has nothing.
pub fn of_project(root: &Path, places: &Places, limits: &Limits) -> Vec<Slice> {
    let deadline = Instant::now() + limits.time;
    let Some(root) = canonical(root) else { return Vec::new() };
    let mut budget = Budget::new(limits, deadline);
    let scope = Scope::Project;
    let mut slices = Vec::new();
    for (source, runs, read) in PROJECT {
        slices.push(run(Scan::new((source, runs), scope, &root, limits, &mut budget), read));
    }
    let mut enabled = Vec::new();
    let settings = Scan::new(("claude-settings", Us), scope, &root, limits, &mut budget);
    slices.push(run(settings, |scan| enabled = plugins::enabled_in(scan)));
    let Some(home) = canonical(&places.home) else { return slices };
    let mut budget = Budget::new(limits, deadline);
    let servers = Scan::new(("mcp-here", Us), scope, &home, limits, &mut budget).at(&root);
    let servers = run(servers, |scan| mcp::here(scan, &root));
    give_way(&mut slices, &servers);
    slices.push(servers);
    let plugins = Scan::new(("claude-plugins-here", Us), scope, &home, limits, &mut budget).at(&root);
    slices.push(run(plugins, |scan| plugins::here(scan, &root, &enabled)));
    slices
}

/// A server of the project gives way to one of its name that the user has for this project.
fn give_way(slices: &mut [Slice], own: &Slice) {
    for slice in slices.iter_mut().filter(|slice| slice.source == "mcp") {
        let Slice { items, diagnostics, .. } = slice;
        items.retain(|item| {
            let stays = !own.items.iter().any(|other| other.name == item.name);
            if !stays {
                let message =
                    format!("the server \"{}\" is left out: you have one of that name for this project", item.name);
                diagnostics.push(Diagnostic { file: item.file.clone(), line: None, message, is_loss: false });
            }
            stays
        });
    }
}

/// Reads what is the user's own in all projects.
pub fn of_user(places: &Places, limits: &Limits) -> Vec<Slice> {
    let deadline = Instant::now() + limits.time;
    let scope = Scope::User;
    let mut slices = Vec::new();
    if let Some(home) = canonical(&places.home) {
        let mut budget = Budget::new(limits, deadline);
        for (source, runs, read) in HOME {
            slices.push(run(Scan::new((source, runs), scope, &home, limits, &mut budget), read));
        }
    }
    if let Some(config) = canonical(&places.config) {
        let mut budget = Budget::new(limits, deadline);
        slices.push(run(Scan::new(("shellkeep", Us), scope, &config, limits, &mut budget), own::user));
    }
    slices
}

/// The place that a path means, without links; nothing if it is not there.
fn canonical(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().filter(|path| path.is_dir())
}

/// One source, which takes no other down: parsers of others' formats are not all ours.
fn run(mut scan: Scan<'_>, read: impl FnOnce(&mut Scan<'_>)) -> Slice {
    if catch_unwind(AssertUnwindSafe(|| read(&mut scan))).is_err() {
        scan.failed();
    }
    scan.finish()
}
