//! Text: a line for each command with how it ended, then what it printed, as it was last seen.
//!
//! Promises that what a command printed is what `output --command N --plain` prints of it, that no line has a control
//! character, and that a session without marks is all of its text.

use std::io::{self, Write};

use shellkeep_daemon::index::plain::PlainText;

use super::{Event, Subject, Writer, describe};
use crate::cmd::{local_time, told};
use crate::report::{printable, printable_line};

/// What output comes to, without the empty lines at its end.
pub struct Lines {
    text: PlainText,
    size: (u16, u16),
    /// Empty lines that are shown once another one follows.
    empty: usize,
}

impl Lines {
    /// In a window of `size`: columns, rows.
    pub fn new(size: (u16, u16)) -> Self {
        Self { text: PlainText::new(size), size, empty: 0 }
    }

    /// Takes output; gives the lines that are done to `tell`.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn feed(&mut self, text: &str, tell: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        let lines = self.text.feed(text.as_bytes());
        self.tell(&lines, tell)
    }

    /// The window has another size.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn resize(&mut self, size: (u16, u16), tell: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        self.size = size;
        let lines = self.text.resize(size);
        self.tell(&lines, tell)
    }

    /// Gives what is left to `tell` and begins anew.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn finish(&mut self, tell: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        let lines = std::mem::replace(&mut self.text, PlainText::new(self.size)).finish();
        self.tell(&lines, tell)?;
        self.empty = 0;
        Ok(())
    }

    fn tell(&mut self, lines: &[String], mut tell: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        for line in lines {
            if line.is_empty() {
                self.empty += 1;
                continue;
            }
            for _ in 0..std::mem::take(&mut self.empty) {
                tell("")?;
            }
            tell(line)?;
        }
        Ok(())
    }
}

/// Writes text.
pub struct Text<W> {
    out: W,
    lines: Lines,
    headers: Vec<String>,
    /// The output that comes now is shown.
    is_shown: bool,
    is_first: bool,
}

impl<W: Write> Text<W> {
    /// Begins it with a line on the session.
    ///
    /// # Errors
    /// If `out` takes no more.
    pub fn begin(mut out: W, subject: &Subject) -> io::Result<Self> {
        let session = &subject.session;
        let started = local_time(session.attrs.started_at_us);
        writeln!(out, "# {} ({}), {started}", printable(&describe::title(session)), session.session)?;
        let headers = subject.commands.iter().map(|command| {
            let line = match printable(&command.line).replace("\\u{a}", "\n> ") {
                line if line.is_empty() => "(the shell did not tell this line)".to_owned(),
                line => line,
            };
            let (status, cwd) = (describe::status(command), printable(&command.cwd));
            format!("$ {line}   [{status}, {cwd}, {}]", local_time(command.started_at_us))
        });
        let headers: Vec<String> = headers.collect();
        let is_shown = headers.is_empty();
        Ok(Self { out, lines: Lines::new(subject.size), headers, is_shown, is_first: true })
    }

    fn flush(&mut self) -> io::Result<()> {
        let out = &mut self.out;
        self.lines.finish(|line| writeln!(out, "{}", printable_line(line)))
    }
}

impl<W: Write> Writer<W> for Text<W> {
    fn take(&mut self, _time_us: u64, event: Event) -> io::Result<()> {
        let out = &mut self.out;
        match event {
            Event::Output(text) if self.is_shown => {
                if std::mem::take(&mut self.is_first) {
                    writeln!(out)?;
                }
                self.lines.feed(&text, |line| writeln!(out, "{}", printable_line(line)))
            }
            Event::Resized(cols, rows) => {
                self.lines.resize((cols, rows), |line| writeln!(out, "{}", printable_line(line)))
            }
            Event::Begins(place) => {
                self.is_shown = true;
                self.is_first = false;
                writeln!(out, "\n{}", self.headers[place])
            }
            Event::Ends(_) => {
                self.is_shown = false;
                self.flush()
            }
            Event::Told(item) => {
                self.flush()?;
                writeln!(self.out, "# {}", printable(&told(&item)))
            }
            Event::Output(_) | Event::Input(_) | Event::Exited(_) => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }
}
