//! What real projects and homes hold, read as it lies there: a parser per format, all behind [`discover`].
//!
//! Promises: no process is spawned; nothing outside of the project, the home and the configuration directory is read;
//! a source that fails hides no other; what is left out for a limit is said in a [`Diagnostic`]. Blocking: for a thread
//! of its own. Knows neither sessions nor trust. Formats: docs/commands.md.

mod item;
mod template;

use std::path::PathBuf;
use std::time::Duration;

pub use item::{
    Argument, ArgumentError, Arguments, Content, Evidence, Exec, Item, Kind, McpServer, Passing, Program, Scope,
    Transport,
};
pub use template::{Dialect, Line, LineError, Places as LinePlaces, Prompt};

/// Where is looked.
#[derive(Debug, Clone)]
pub struct Places {
    /// A project's root; none: only what is the user's own.
    pub root: Option<PathBuf>,
    /// The user's home.
    pub home: PathBuf,
    /// The user's configuration of shellkeep; `commands/` in it has their own.
    pub config: PathBuf,
}

/// How much one [`discover`] may read and give.
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

/// Reads all sources.
pub fn discover(places: &Places, limits: &Limits) -> Vec<Slice> {
    let _ = (places, limits);
    Vec::new()
}
