//! Text with places for arguments: prompts for agents, and lines for a shell.
//!
//! Promise: one pass. What an argument holds is never looked at again, so `$1` in a value stays `$1`. Runs nothing:
//! `!` and `@`, which agents act on, pass as they are.

use std::path::PathBuf;
use std::sync::Arc;

/// Whose rules a prompt's places follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `$ARGUMENTS`, `$ARGUMENTS[0]`, and positions from `$1`.
    FromOne,
    /// `$ARGUMENTS`, `$ARGUMENTS[0]`, positions from `$0`, and named arguments.
    FromZero,
    /// `{{args}}`.
    Gemini,
}

/// Text for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// As written, without its front matter.
    pub text: Arc<str>,
    /// How its places look.
    pub dialect: Dialect,
    /// Named arguments in order, for `$name`.
    pub names: Vec<String>,
}

/// How the places of a line look, and how values get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// There are none; what is added goes behind, quoted.
    None,
    /// `{{name}}`, the value as one quoted word.
    Quoted,
    /// `{{name}}`, the value as it is: its author put quotes around the place. To be shown before it runs.
    Braces,
    /// `<name>`, the value as it is. To be shown before it runs.
    Angles,
}

/// A line for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// As written.
    pub text: String,
    /// How its places look.
    pub places: Places,
    /// Which shells it is written for; empty: any.
    pub shell: Vec<String>,
    /// Where it runs.
    pub dir: PathBuf,
    /// Set on top of the child's environment.
    pub env: Vec<(String, String)>,
}
