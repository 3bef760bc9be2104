//! One JSON document: the session, its commands with what they printed, what is missing.
//!
//! Promises the names of docs/export.md, times in RFC 3339 UTC, and that memory does not grow with the output: a text is
//! written as it comes. Its text is that of the form `txt`.

use std::io::{self, Write};

use serde_json::{Value, json};
use shellkeep_protocol::query::{CommandInfo, Item, SessionState};
use shellkeep_protocol::session::ExitStatus;

use super::text::Lines;
use super::{Event, Subject, Writer};
use crate::cmd::{told, utc_time};
use crate::report::json_escaped;

/// Version of the document. Raised when a name goes or changes its meaning, not when one is added.
const VERSION: u32 = 1;

/// Notes that one document takes; later ones are counted.
const NOTES_MAX: usize = 10_000;

/// Writes a document.
pub struct Document<W> {
    out: W,
    lines: Lines,
    commands: Vec<Value>,
    notes: Vec<Value>,
    notes_left_out: u64,
    /// A text is open, and the lines that come are in it.
    in_text: bool,
    is_first_command: bool,
    has_commands: bool,
    last: u64,
}

impl<W: Write> Document<W> {
    /// Begins one.
    ///
    /// # Errors
    /// If `out` takes no more.
    pub fn begin(mut out: W, subject: &Subject) -> io::Result<Self> {
        let session = session(subject).to_string();
        let session = json_escaped(&session);
        write!(out, "{{\"version\":{VERSION},\"session\":{session},\"text\":")?;
        let commands: Vec<Value> = subject.commands.iter().map(command).collect();
        let has_commands = !commands.is_empty();
        out.write_all(if has_commands { b"null,\"commands\":[" } else { b"\"" })?;
        Ok(Self {
            out,
            lines: Lines::new(subject.size),
            commands,
            notes: Vec::new(),
            notes_left_out: 0,
            in_text: !has_commands,
            is_first_command: true,
            has_commands,
            last: 0,
        })
    }

    fn begin_command(&mut self, place: usize) -> io::Result<()> {
        if !std::mem::take(&mut self.is_first_command) {
            self.out.write_all(b",")?;
        }
        self.last = self.commands[place]["id"].as_u64().unwrap_or(0);
        let fields = self.commands[place].to_string();
        self.out.write_all(json_escaped(fields.trim_end_matches('}')).as_bytes())?;
        self.in_text = true;
        self.out.write_all(b",\"text\":\"")
    }

    fn end_text(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.in_text) {
            let out = &mut self.out;
            self.lines.finish(|line| inner(out, line))?;
            self.out.write_all(b"\"")?;
            if self.has_commands {
                self.out.write_all(b"}")?;
            }
        }
        Ok(())
    }

    fn note(&mut self, time_us: u64, item: &Item) {
        if self.notes.len() >= NOTES_MAX {
            self.notes_left_out += 1;
            return;
        }
        let kind = match item {
            Item::Gap { .. } => "gap",
            Item::Damage { .. } => "damage",
            Item::Pruned { .. } => "pruned",
            _ => "recording",
        };
        let behind = (self.last > 0).then_some(self.last);
        self.notes.push(json!({
            "kind": kind, "time": utc_time(time_us), "command_id": behind, "text": told(item),
        }));
    }
}

impl<W: Write> Writer<W> for Document<W> {
    fn take(&mut self, time_us: u64, event: Event) -> io::Result<()> {
        let out = &mut self.out;
        match event {
            Event::Output(text) if self.in_text => self.lines.feed(&text, |line| inner(out, line)),
            Event::Resized(cols, rows) => self.lines.resize((cols, rows), |line| inner(out, line)),
            Event::Begins(place) => {
                self.end_text()?;
                self.begin_command(place)
            }
            Event::Ends(_) => self.end_text(),
            Event::Told(item) => {
                self.note(time_us, &item);
                Ok(())
            }
            Event::Output(_) | Event::Input(_) | Event::Exited(_) => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> io::Result<W> {
        self.end_text()?;
        self.out.write_all(if self.has_commands { b"]" } else { b",\"commands\":[]" })?;
        let notes = Value::from(std::mem::take(&mut self.notes)).to_string();
        let notes = json_escaped(&notes);
        writeln!(self.out, ",\"notes\":{notes},\"notes_left_out\":{}}}", self.notes_left_out)?;
        Ok(self.out)
    }
}

/// A line inside a string.
fn inner(out: &mut impl Write, line: &str) -> io::Result<()> {
    let quoted = serde_json::to_string(line)?;
    out.write_all(json_escaped(&quoted[1..quoted.len() - 1]).as_bytes())?;
    out.write_all(b"\\n")
}

fn session(subject: &Subject) -> Value {
    let info = &subject.session;
    let attrs = &info.attrs;
    let state = match info.state {
        SessionState::Running => "running",
        SessionState::Ended => "ended",
        SessionState::Lost => "lost",
    };
    json!({
        "id": info.session.to_string(),
        "name": attrs.name,
        "state": state,
        "command": attrs.command.join(" "),
        "cwd": attrs.cwd,
        "host": attrs.host,
        "term": attrs.term,
        "cols": subject.size.0,
        "rows": subject.size.1,
        "started_at": utc_time(attrs.started_at_us),
        "ended_at": info.ended_at_us.map(utc_time),
        "exit_code": info.exit.map(ExitStatus::code),
        "output_bytes": info.output_bytes,
    })
}

fn command(command: &CommandInfo) -> Value {
    json!({
        "id": command.id,
        "command": command.line,
        "cwd": command.cwd,
        "started_at": utc_time(command.started_at_us),
        "ended_at": command.ended_at_us.map(utc_time),
        "duration_ms": command.ended_at_us.map(|end| end.saturating_sub(command.started_at_us) / 1000),
        "exit_code": command.exit,
        "output_bytes": command.output_to - command.output_from,
    })
}
