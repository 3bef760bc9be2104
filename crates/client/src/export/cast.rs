//! asciicast: version 3 with times since the event before, version 2 with times since the beginning.
//!
//! Promises a header line, then a JSON array a line, as the format says; the text of all output events is the session's
//! output. Source: <https://docs.asciinema.org/manual/asciicast/v3/> and `v2`.

use std::io::{self, Write};

use serde_json::json;

use super::{Event, Subject, Writer, describe};
use crate::cmd::told;
use crate::report::{in_one_line, json_escaped};

/// Versions of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// For players before asciinema 3.
    Two,
    /// Of asciinema 3.
    Three,
}

/// Writes a cast.
pub struct Cast<W> {
    out: W,
    version: Version,
    /// When the event before was, or the beginning in version 2: microseconds since the Unix epoch.
    since_us: u64,
    labels: Vec<String>,
}

impl<W: Write> Cast<W> {
    /// Begins one with its header.
    ///
    /// # Errors
    /// If `out` takes no more.
    pub fn begin(mut out: W, version: Version, subject: &Subject) -> io::Result<Self> {
        let attrs = &subject.session.attrs;
        let (cols, rows) = subject.size;
        let command = match subject.commands.first().filter(|_| subject.is_part) {
            Some(command) => command.line.clone(),
            None => attrs.command.join(" "),
        };
        let mut header = match version {
            Version::Two => json!({"version": 2, "width": cols, "height": rows}),
            Version::Three => json!({"version": 3, "term": {"cols": cols, "rows": rows, "type": attrs.term}}),
        };
        header["timestamp"] = json!(subject.started_at_us / 1_000_000);
        header["command"] = json!(command);
        header["title"] = json!(describe::title(&subject.session));
        let mut env = serde_json::Map::new();
        env.insert("TERM".to_owned(), json!(attrs.term));
        if let Some(shell) = attrs.command.first().filter(|_| attrs.marks.is_some()) {
            env.insert("SHELL".to_owned(), json!(shell)); // only a shell makes marks
        }
        header["env"] = env.into();
        writeln!(out, "{}", json_escaped(&header.to_string()))?;
        let labels = subject.commands.iter().map(|command| in_one_line(&command.line)).collect();
        Ok(Self { out, version, since_us: subject.started_at_us, labels })
    }

    fn event(&mut self, time_us: u64, code: &str, data: &str) -> io::Result<()> {
        let us = time_us.saturating_sub(self.since_us);
        if self.version == Version::Three {
            self.since_us = self.since_us.max(time_us);
        }
        write!(self.out, "[{}.{:06}, \"{code}\", ", us / 1_000_000, us % 1_000_000)?;
        writeln!(self.out, "{}]", json_escaped(&serde_json::to_string(data)?))
    }
}

impl<W: Write> Writer<W> for Cast<W> {
    fn take(&mut self, time_us: u64, event: Event) -> io::Result<()> {
        match event {
            Event::Output(text) if text.is_empty() => Ok(()),
            Event::Output(text) => self.event(time_us, "o", &text),
            Event::Input(text) if text.is_empty() => Ok(()),
            Event::Input(text) => self.event(time_us, "i", &text),
            Event::Resized(cols, rows) => self.event(time_us, "r", &format!("{cols}x{rows}")),
            Event::Begins(place) => {
                let label = self.labels[place].clone();
                self.event(time_us, "m", &label)
            }
            Event::Told(item) => self.event(time_us, "m", &told(&item)),
            // Version 2 has no such event, and its players may stop at one that they do not know.
            Event::Exited(exit) if self.version == Version::Three => self.event(time_us, "x", &exit.code().to_string()),
            Event::Exited(_) | Event::Ends(_) => Ok(()),
        }
    }

    fn finish(self: Box<Self>) -> io::Result<W> {
        Ok(self.out)
    }
}
