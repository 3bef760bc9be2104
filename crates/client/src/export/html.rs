//! One page that works without a network: commands in a list, what each printed, in its colours.
//!
//! Promises that nothing of a record is markup, style or script; that the page loads nothing and that its policy forbids
//! it to; that without its script everything is there but the search; and that its size is bounded, with a word where
//! something was left out. Its own parts are `html/page.css` and `html/page.js`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Write};

use shellkeep_protocol::ids::MarksNonce;
use shellkeep_protocol::query::CommandInfo;

use self::lines::{Lines, escape};
use super::{Event, Subject, Writer, describe};
use crate::cmd::{local_time, told, utc_time};
use crate::report::size;

pub mod inks;
pub mod lines;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Bytes of HTML that the beginning of one output may take. Then only its end is kept.
const HEAD_BYTES_MAX: usize = 8 << 20;
/// Bytes of HTML that the end of such an output may take.
const TAIL_BYTES_MAX: usize = 1 << 20;
/// Bytes of HTML from which on outputs are cut much earlier, so that a browser can open the page.
const PAGE_BYTES_FULL: usize = 64 << 20;
/// The two bounds above, from there on.
const SHORT_BYTES_MAX: usize = 32 << 10;
/// Lines in one block. The browser draws only the blocks that are seen.
const BLOCK_LINES: usize = 200;

/// Writes a page.
pub struct Page<W> {
    out: W,
    lines: Lines,
    commands: Vec<CommandInfo>,
    session: String,
    /// What of the output that is shown now was written and kept.
    output: Output,
    /// Output is shown: of a command, or of a session without any.
    is_shown: bool,
    /// The command that it is of.
    current: Option<usize>,
    written: usize,
}

/// The output that is written.
#[derive(Default)]
struct Output {
    head_bytes: usize,
    block_lines: usize,
    /// Its newest lines, once the head is full.
    tail: VecDeque<String>,
    tail_bytes: usize,
    left_out: u64,
}

impl<W: Write> Page<W> {
    /// Begins one: its head and the list of commands.
    ///
    /// # Errors
    /// If `out` takes no more, or the system has no random bytes.
    pub fn begin(out: W, subject: &Subject) -> io::Result<Self> {
        let mut page = Self {
            out,
            lines: Lines::new(subject.size),
            commands: subject.commands.clone(),
            session: subject.session.session.to_string(),
            output: Output::default(),
            is_shown: false,
            current: None,
            written: 0,
        };
        // What a record could have guessed is no permission.
        let nonce = MarksNonce::random().map_err(|error| io::Error::other(error.to_string()))?;
        page.head(subject, &nonce.to_string())?;
        page.list()?;
        page.put("<main id=main>\n")?;
        if page.commands.is_empty() {
            page.is_shown = true;
            page.put("<section class=out>")?;
        }
        Ok(page)
    }

    fn put(&mut self, html: &str) -> io::Result<()> {
        self.written += html.len();
        self.out.write_all(html.as_bytes())
    }

    fn head(&mut self, subject: &Subject, nonce: &str) -> io::Result<()> {
        let session = &subject.session;
        let mut title = String::new();
        escape(&describe::title(session), &mut title);
        let mut html = format!(
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=viewport content=\"width=device-width,initial-scale=1\">\n\
             <meta name=referrer content=no-referrer><meta name=generator content=\"shellkeep {}\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n<script nonce=\"{nonce}\">\n{SCRIPT}</script></head>\n<body>\n\
             <header><h1>{title}</h1><p class=meta>",
            env!("CARGO_PKG_VERSION")
        );
        html.push_str(&time(session.attrs.started_at_us));
        if let Some(end) = session.ended_at_us {
            let took = end.saturating_sub(session.attrs.started_at_us);
            let _infallible = write!(html, " \u{b7} {}", describe::duration(took));
        }
        if let Some(exit) = session.exit {
            let _infallible = write!(html, " \u{b7} exit {}", exit.code());
        }
        html.push_str(" \u{b7} ");
        escape(&session.attrs.host, &mut html);
        html.push(':');
        escape(&session.attrs.cwd, &mut html);
        let _infallible = write!(html, " \u{b7} {} of output", size(session.output_bytes));
        html.push_str(
            "</p><div class=tools hidden><input type=search id=find placeholder=\"search (Enter: next)\" \
             aria-label=\"search in the output\"><output id=found></output><button id=prev title=\"before\">\u{2191}</button>\
             <button id=next title=\"next\">\u{2193}</button><label><input type=checkbox id=failed> failed only</label>\
             <label><input type=checkbox id=wrap checked> wrap</label><button id=all>collapse all</button>\
             <button id=theme>light/dark</button></div></header>\n",
        );
        self.put(&html)
    }

    /// The commands, each with a link to what it printed.
    fn list(&mut self) -> io::Result<()> {
        if self.commands.len() < 2 {
            return Ok(());
        }
        self.put("<nav aria-label=commands><ol>\n")?;
        for place in 0..self.commands.len() {
            let command = &self.commands[place];
            let mut html = format!("<li class={}><a href=\"#c{}\"><i></i><code>", kind(command), command.id);
            escape(&line(command), &mut html);
            let took = command.ended_at_us.map(|end| end.saturating_sub(command.started_at_us));
            let _infallible =
                write!(html, "</code><span>{}</span></a>", took.map_or_else(String::new, describe::duration));
            self.put(&html)?;
        }
        self.put("</ol></nav>\n")
    }

    fn begin_command(&mut self, place: usize) -> io::Result<()> {
        let command = &self.commands[place];
        let id = command.id;
        let mut html = format!(
            "<details open class=\"out {}\" id=c{id}><summary><a href=\"#c{id}\">{id}</a><code>",
            kind(command)
        );
        escape(&line(command), &mut html);
        let _infallible = write!(html, "</code><span class=meta>{} \u{b7} ", describe::status(command));
        escape(&command.cwd, &mut html);
        let _infallible = write!(html, " \u{b7} {}</span></summary>", time(command.started_at_us));
        self.current = Some(place);
        self.is_shown = true;
        self.put(&html)
    }

    /// Ends what is shown.
    fn end_output(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_shown) {
            return Ok(());
        }
        self.flush()?;
        self.current = None;
        let end = if self.commands.is_empty() { "</section>\n" } else { "</details>\n" };
        self.put(end)
    }

    /// Writes all that was printed so far.
    fn flush(&mut self) -> io::Result<()> {
        let (lines, is_full_screen) = self.lines.finish();
        self.lines(lines)?;
        let Output { tail, left_out, .. } = std::mem::take(&mut self.output).closed(self)?;
        if left_out > 0 {
            let which =
                self.current.map_or_else(String::new, |place| format!(" --command {}", self.commands[place].id));
            let word = format!(
                "<p class=note>{left_out} lines are left out here: \u{201c}shellkeep output {}{which}\u{201d} has them.</p>",
                self.session
            );
            self.put(&word)?;
        }
        if !tail.is_empty() {
            self.put("<pre>")?;
            for line in tail {
                self.put(&line)?;
                self.put("\n")?;
            }
            self.put("</pre>")?;
        }
        if is_full_screen {
            self.put("<p class=note>A full-screen program ran here; what it drew is in the replay.</p>")?;
        }
        Ok(())
    }

    fn lines(&mut self, lines: Vec<String>) -> io::Result<()> {
        let (head_max, tail_max) = if self.written > PAGE_BYTES_FULL {
            (SHORT_BYTES_MAX, SHORT_BYTES_MAX)
        } else {
            (HEAD_BYTES_MAX, TAIL_BYTES_MAX)
        };
        for line in lines {
            let bytes = line.len() + 1;
            if self.output.tail.is_empty() && self.output.head_bytes + bytes <= head_max {
                if self.output.block_lines == 0 {
                    self.put("<pre>")?;
                }
                self.put(&line)?;
                self.put("\n")?;
                self.output.head_bytes += bytes;
                self.output.block_lines += 1;
                if self.output.block_lines == BLOCK_LINES {
                    self.output.block_lines = 0;
                    self.put("</pre>")?;
                }
                continue;
            }
            self.output.tail_bytes += bytes;
            self.output.tail.push_back(line);
            while self.output.tail_bytes > tail_max && self.output.tail.len() > 1 {
                let first = self.output.tail.pop_front().unwrap_or_default();
                self.output.tail_bytes -= first.len() + 1;
                self.output.left_out += 1;
            }
        }
        Ok(())
    }
}

impl Output {
    /// With its last block ended.
    fn closed<W: Write>(self, page: &mut Page<W>) -> io::Result<Self> {
        if self.block_lines > 0 {
            page.put("</pre>")?;
        }
        Ok(self)
    }
}

impl<W: Write> Writer<W> for Page<W> {
    fn take(&mut self, time_us: u64, event: Event) -> io::Result<()> {
        match event {
            Event::Output(text) if self.is_shown => {
                let lines = self.lines.feed(&text);
                self.lines(lines)
            }
            Event::Resized(cols, rows) => {
                let lines = self.lines.resize((cols, rows));
                if self.is_shown { self.lines(lines) } else { Ok(()) }
            }
            Event::Begins(place) => {
                self.end_output()?;
                self.begin_command(place)
            }
            Event::Ends(_) => self.end_output(),
            Event::Told(item) => {
                if self.is_shown {
                    self.flush()?;
                }
                let mut html = format!("<p class=\"note told\">{}: ", time(time_us));
                escape(&told(&item), &mut html);
                self.put(&(html + "</p>\n"))
            }
            Event::Output(_) | Event::Input(_) | Event::Exited(_) => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> io::Result<W> {
        self.end_output()?;
        self.put("</main>\n</body></html>\n")?;
        Ok(self.out)
    }
}

/// The class of a command: how it ended.
fn kind(command: &CommandInfo) -> &'static str {
    match (command.exit, command.ended_at_us) {
        (Some(0), _) => "ok",
        (Some(_), _) => "bad",
        (None, _) => "open",
    }
}

fn line(command: &CommandInfo) -> String {
    if command.line.is_empty() { "(the shell did not tell this line)".to_owned() } else { command.line.clone() }
}

/// A time: local here, the reader's own once the script runs, UTC when pointed at.
fn time(us: u64) -> String {
    let utc = utc_time(us);
    format!("<time datetime=\"{utc}\" title=\"{utc}\">{}</time>", local_time(us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::tests::recording;

    fn page(commands: &[(u64, u64, u64, Option<u64>)]) -> Page<Vec<u8>> {
        let recording = recording(commands, 9);
        let subject = Subject {
            session: recording.info,
            commands: recording.commands,
            is_part: false,
            size: (80, 24),
            started_at_us: 100_000_000,
        };
        Page::begin(Vec::new(), &subject).unwrap()
    }

    #[test]
    fn a_long_output_is_cut_with_a_word_and_its_end_is_kept() {
        let mut page = page(&[(0, 9, 1, Some(2))]);
        page.take(1, Event::Begins(0)).unwrap();
        let many: Vec<String> = (0..1_000_000).map(|number| format!("line {number}, and more")).collect();
        for lines in many.chunks(1000) {
            page.lines(lines.to_vec()).unwrap();
        }
        page.take(2, Event::Ends(0)).unwrap();
        let html = String::from_utf8(Box::new(page).finish().unwrap()).unwrap();
        assert!(html.len() < HEAD_BYTES_MAX + TAIL_BYTES_MAX + (1 << 20), "{}", html.len());
        let shown = html.matches(", and more\n").count();
        let word = html.split("<p class=note>").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        assert_eq!(shown + word.parse::<usize>().unwrap(), 1_000_000, "each line is shown or counted");
        let first = html.contains("</summary><pre>line 0, and more\n");
        assert!(html.contains("line 999999, and more\n</pre></details>") && first);
        assert_eq!(html.matches("<pre>").count(), html.matches("</pre>").count());
    }

    /// A page of many long outputs stays one that a browser can open.
    #[test]
    fn a_page_is_bounded_whatever_its_commands_printed() {
        let mut page = page(&[(0, 9, 1, Some(2))]);
        let long: Vec<String> = (0..1200).map(|_| "x".repeat(10_000)).collect();
        for _ in 0..40 {
            page.take(1, Event::Begins(0)).unwrap();
            page.lines(long.clone()).unwrap();
            page.take(2, Event::Ends(0)).unwrap();
        }
        assert!(page.written < PAGE_BYTES_FULL + HEAD_BYTES_MAX + TAIL_BYTES_MAX + (4 << 20), "{}", page.written);
    }

    #[test]
    fn what_is_missing_stands_where_it_is_missing() {
        let mut page = page(&[(0, 9, 1, Some(2))]);
        let gap = shellkeep_protocol::query::Item::Damage {
            from: shellkeep_journal::Seq::FIRST,
            to: shellkeep_journal::Seq::FIRST,
            what: "<b>".to_owned(),
        };
        page.take(1, Event::Begins(0)).unwrap();
        page.take(1, Event::Output("before".to_owned())).unwrap();
        page.take(1, Event::Told(gap)).unwrap();
        page.take(1, Event::Output("after".to_owned())).unwrap();
        let html = String::from_utf8(Box::new(page).finish().unwrap()).unwrap();
        let at = |text: &str| html.find(text).unwrap();
        assert!(at("before") < at("cannot be read: &lt;b&gt;") && at("&lt;b&gt;") < at("after"), "{html}");
    }
}
