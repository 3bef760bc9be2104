//! Commands of a session, from the marks in its output.
//!
//! Promises that commands are numbered from 1 in the order in which they began, that what a command printed is exactly
//! what lies between its marks, without what the shell itself prints around it, and that a nested shell, or text that looks
//! like a mark, changes nothing. A pure machine.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shellkeep_journal::Seq;
use shellkeep_protocol::query::CommandInfo;

use super::marks::{Found, Mark, MarkReader, Place, Told};
use super::plain::{SIZE_DEFAULT, behind_prompt};
use super::secrets::Secrets;

/// Most bytes of a prompt with the line typed at it that are kept to look at. Beyond it the shell's own word must do.
const ECHO_BYTES_MAX: usize = 64 << 10;

/// Most bytes of a running command's newest output that are kept to look at. A wider terminal's filler is not recognised.
const TAIL_BYTES_MAX: usize = 8 << 10;

/// Most bytes that a shell prints of its own before a command prints.
const LEAD_BYTES_MAX: usize = 4 << 10;

/// What fish prints if its title is empty. Source: fish 3.6.
const LEAD_WITHOUT_TITLE: &[u8] = b"\x1b[30m\x1b(B\x1b[m";

/// Where the shell is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Before the first prompt, or between a command and the next prompt.
    Between,
    /// A prompt is shown and a line is typed.
    Typing,
    /// A command runs.
    Running,
}

/// Reads a session's output in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Course {
    marks: MarkReader,
    phase: Phase,
    directory: String,
    /// The newest prompt and what was typed at it, as shown.
    shown: Vec<u8>,
    /// Where in it the prompt ends.
    prompt_bytes: usize,
    columns: u16,
    /// The newest output of the running command.
    tail: Vec<u8>,
    /// What the shell may have printed of its own at the beginning of it, until that can be told.
    lead: Option<Vec<u8>>,
    /// Commands of the newest prompt that began before the one that runs.
    pasted: usize,
    /// The running command has shown a prompt of ours.
    is_nested: bool,
    current: Option<CommandInfo>,
    finished: Vec<CommandInfo>,
    last_id: u64,
    end: u64,
}

impl Course {
    /// Of a session whose marks carry `nonce`, which began in `directory`.
    pub fn new(nonce: Option<String>, directory: String) -> Self {
        Self {
            marks: MarkReader::new(nonce),
            phase: Phase::Between,
            directory,
            shown: Vec::new(),
            prompt_bytes: 0,
            columns: SIZE_DEFAULT.0,
            tail: Vec::new(),
            lead: None,
            pasted: 0,
            is_nested: false,
            current: None,
            finished: Vec::new(),
            last_id: 0,
            end: 0,
        }
    }

    /// The window has so many columns from here on.
    pub fn resized(&mut self, columns: u16) {
        self.columns = columns;
    }

    /// Takes the next piece of output.
    pub fn output(&mut self, bytes: &[u8], place: Place) {
        self.output_with(bytes, place, |_, _| {});
    }

    /// The same; gives the output back in pieces, each with the number of the command that ran, 0 if none did.
    pub fn output_with(&mut self, bytes: &[u8], place: Place, mut piece: impl FnMut(&[u8], u64)) {
        let mut found = Vec::new();
        self.marks.feed(bytes, place, |mark| found.push(mark));
        let mut taken = 0;
        for mark in found {
            let to = usize::try_from(mark.to - place.offset).unwrap_or(usize::MAX).min(bytes.len());
            self.show(&bytes[taken..to]);
            piece(&bytes[taken..to], self.current_id());
            taken = to;
            self.take(mark);
        }
        self.show(&bytes[taken..]);
        piece(&bytes[taken..], self.current_id());
        self.end = place.offset + bytes.len() as u64;
    }

    /// Commands that have ended since the last call.
    pub fn finished(&mut self) -> Vec<CommandInfo> {
        std::mem::take(&mut self.finished)
    }

    /// Offset behind the last byte of output that was taken.
    pub fn output_end(&self) -> u64 {
        self.end
    }

    /// The command that runs.
    pub fn running(&self) -> Option<CommandInfo> {
        let command = self.current.clone()?;
        // Until it has ended bash does not know its line; what was typed at the prompt is still known.
        let line = if command.line.is_empty() { self.typed(String::new()) } else { command.line };
        Some(CommandInfo { output_to: self.end.max(command.output_from), line, ..command })
    }

    /// Whether a secret is in what has to be kept to go on.
    pub(super) fn has_secret(&self, secrets: &Arc<Secrets>) -> bool {
        let told = self.current.iter().flat_map(|command| [&command.line, &command.cwd]);
        let is_in = |text: &[u8]| secrets.are_in_output(text, self.columns);
        told.chain([&self.directory]).any(|text| secrets.may_be_in(text.as_bytes()) && secrets.text(text) != *text)
            || [&self.shown, &self.tail].into_iter().chain(&self.lead).any(|text| is_in(text))
            || is_in(&self.marks.unfinished())
    }

    /// Nothing comes any more: forgets all but a list of commands without secrets.
    pub(super) fn close(&mut self, secrets: &Arc<Secrets>) {
        let running = self.running();
        let nothing = Self::new(None, secrets.text(&self.directory).into_owned());
        *self = Self {
            phase: self.phase.clone(),
            current: running.map(|command| redacted(command, secrets)),
            last_id: self.last_id,
            end: self.end,
            ..nothing
        };
    }

    /// Number of the newest command.
    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    fn current_id(&self) -> u64 {
        self.current.as_ref().map_or(0, |command| command.id)
    }

    /// Of interest while a line is typed, and around what a command prints. The marks in it show nothing on a screen.
    fn show(&mut self, bytes: &[u8]) {
        if self.phase == Phase::Running {
            self.skip_lead(bytes);
            self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..]);
            if self.tail.len() > TAIL_BYTES_MAX * 2 {
                self.tail.drain(..self.tail.len() - TAIL_BYTES_MAX);
            }
        }
        if self.phase == Phase::Typing && self.shown.len() + bytes.len() <= ECHO_BYTES_MAX {
            self.shown.extend_from_slice(bytes);
        }
    }

    fn take(&mut self, Found { mark, from, to, seq, time_us }: Found) {
        match (mark, &self.phase) {
            // A shell inside a command may say where it is, and even begin prompts of its own: it is the command's matter.
            (Mark::Ended { exit, command, fill }, Phase::Running) => {
                let filled = fill.map_or(0, |fill| filled(&self.tail, to - from, &fill));
                self.ended(exit, command, from - filled, time_us);
                // Nobody asks for it any more, and it may have what is to be kept nowhere.
                self.shown.clear();
                self.prompt_bytes = 0;
                self.tail.clear();
            }
            // A prompt before the end is one of a shell inside, which has inherited ours by `export PS1` or the like.
            (Mark::Prompt | Mark::PromptEnd, Phase::Running) => self.is_nested = true,
            // Several lines were pasted at one prompt: the one before has ended, and nobody says how.
            (Mark::Started { .. }, Phase::Running) if !self.is_nested => {
                self.ended(None, None, from, time_us);
                self.pasted += 1;
                self.started(None, false, (seq, time_us, to));
            }
            (_, Phase::Running) | (Mark::Ended { .. }, _) => {}
            (Mark::Directory(path), _) => self.directory = path,
            (Mark::Prompt, _) => {
                self.phase = Phase::Typing;
                self.shown.clear();
                self.prompt_bytes = 0;
            }
            (Mark::PromptEnd, _) => self.prompt_bytes = self.shown.len(),
            (Mark::Started { command, has_lead }, _) => {
                self.pasted = 0;
                self.started(command, has_lead, (seq, time_us, to));
            }
        }
    }

    fn started(&mut self, command: Option<String>, has_lead: bool, (seq, time_us, at): (Seq, u64, u64)) {
        self.last_id += 1;
        self.phase = Phase::Running;
        self.is_nested = false;
        self.tail.clear();
        self.lead = has_lead.then(Vec::new);
        self.current = Some(CommandInfo {
            id: self.last_id,
            line: command.unwrap_or_default(),
            cwd: self.directory.clone(),
            started_at_us: time_us,
            ended_at_us: None,
            exit: None,
            first_seq: seq,
            output_from: at,
            output_to: at,
        });
    }

    /// Looks whether what begins the output is the shell's own.
    fn skip_lead(&mut self, bytes: &[u8]) {
        let Some(lead) = &mut self.lead else { return };
        lead.extend_from_slice(&bytes[..bytes.len().min(LEAD_BYTES_MAX)]);
        match lead_bytes(lead) {
            None if lead.len() < LEAD_BYTES_MAX => {}
            found => {
                let skipped = found.unwrap_or(0) as u64;
                self.lead = None;
                if let Some(command) = &mut self.current {
                    command.output_from += skipped;
                    command.output_to = command.output_from;
                }
            }
        }
    }

    fn ended(&mut self, exit: Option<u8>, told: Option<Told>, at: u64, time_us: u64) {
        self.phase = Phase::Between;
        let Some(mut command) = self.current.take() else { return };
        // It printed nothing behind what the shell did.
        if self.lead.take().is_some_and(|lead| lead.starts_with(LEAD_WITHOUT_TITLE)) {
            command.output_from += LEAD_WITHOUT_TITLE.len() as u64;
        }
        match told {
            Some(Told::New(line)) => command.line = line,
            Some(Told::Same(line)) => command.line = self.typed(line),
            None => {}
        }
        command.exit = exit;
        command.ended_at_us = Some(time_us);
        if command.line.is_empty() {
            command.line = self.typed(String::new());
        }
        command.output_to = at.max(command.output_from);
        self.finished.push(command);
    }

    /// The line that was typed, where the shell knows only that its history ends with `newest`: what was shown, or that one
    /// if it cannot be told.
    fn typed(&self, newest: String) -> String {
        let (prompt, typed) = self.shown.split_at(self.prompt_bytes);
        let Some(shown) = behind_prompt(prompt, typed, self.columns) else { return newest };
        match shown.split('\n').collect::<Vec<_>>().as_slice() {
            // A screen does not show blanks at the end.
            [line] if *line == newest.trim_end() => newest,
            [line] if !line.is_empty() && self.pasted == 0 => (*line).to_owned(),
            // Lines of a command that has several are shown with prompts of their own between them; of several that were
            // pasted each is one.
            lines if newest.is_empty() => lines.get(self.pasted).copied().unwrap_or_default().to_owned(),
            _ => newest,
        }
    }
}

/// A command as everybody may see it.
pub(super) fn redacted(command: CommandInfo, secrets: &Arc<Secrets>) -> CommandInfo {
    let without = |text: String| match secrets.text(&text) {
        Cow::Owned(shown) => shown,
        Cow::Borrowed(_) => text,
    };
    CommandInfo { line: without(command.line), cwd: without(command.cwd), ..command }
}

/// How many bytes at the end of `tail`, up to behind a mark of `mark` bytes, were printed when the command had ended: by
/// the shell to begin a line (`fill`, blanks, and the way back), and by the user's hooks after that.
/// Source: zsh, `preprompt` in Src/utils.c.
fn filled(tail: &[u8], mark: u64, fill: &str) -> u64 {
    let Some(end) = usize::try_from(mark).ok().and_then(|mark| tail.len().checked_sub(mark)) else { return 0 };
    let blanks = |text: &[u8]| text.iter().rev().take_while(|byte| **byte == b' ').count();
    let mut text = &tail[..end];
    while let Some(last) = text.iter().rposition(|byte| *byte == b'\r') {
        text = &text[..last];
        let found = text[..last - blanks(text)].strip_suffix(b"\r").and_then(|text| {
            let blanks = blanks(text);
            text[..text.len() - blanks].strip_suffix(fill.as_bytes()).filter(|_| blanks > 0)
        });
        if let Some(output) = found {
            return (end - output.len()) as u64;
        }
    }
    0
}

/// How many bytes `text` has of escape sequences and the carriage return behind them, with which a shell begins a command's
/// output; `None` as long as that cannot be told.
fn lead_bytes(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match (text.get(at)?, text.get(at + 1)) {
            (b'\r', _) => return Some(at + 1),
            (0x1b, None) => return None,
            (0x1b, Some(b'[')) => at += 3 + text[at + 2..].iter().position(|byte| (0x40..0x7f).contains(byte))?,
            (0x1b, Some(b']')) => {
                let body = &text[at + 2..];
                let end = body.iter().position(|byte| matches!(*byte, 0x07 | 0x1b))?;
                at += 3 + end + usize::from(body[end] == 0x1b);
            }
            (0x1b, Some(b'(')) => at += 3,
            (0x0f, _) => at += 1,
            // With no title to set there is no carriage return.
            _ => return Some(if text.starts_with(LEAD_WITHOUT_TITLE) { LEAD_WITHOUT_TITLE.len() } else { 0 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(output: &str) -> Vec<CommandInfo> {
        let mut course = Course::new(Some("n".to_owned()), "/start".to_owned());
        let mut offset = 0;
        for (at, piece) in output.as_bytes().chunks(7).enumerate() {
            let seq = Seq::new(at as u64 + 1);
            course.output(piece, Place { seq, offset, time_us: offset });
            offset += piece.len() as u64;
        }
        let mut all = course.finished();
        all.extend(course.running());
        all
    }

    fn marked(text: &str) -> String {
        text.replace('<', "\x1b]133;").replace('>', ";sk=n\x07").replace('{', "\x1b]7;file://h").replace('}', "\x07")
    }

    #[test]
    fn commands_have_their_lines_directories_statuses_and_output() {
        let output =
            marked("{/a}<A>$ <B>x\r\n<C;cmdline_url=one>out1\r\n<D;0>{/b}<A>$ <B>y\r\n<C;cmdline_url=two><D;7>");
        let all = course(&output);
        let seen: Vec<_> = all.iter().map(|c| (c.id, c.line.as_str(), c.cwd.as_str(), c.exit)).collect();
        assert_eq!(seen, [(1, "one", "/a", Some(0)), (2, "two", "/b", Some(7))]);
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let range = |c: &CommandInfo| output[at(c.output_from)..at(c.output_to)].to_owned();
        assert_eq!((range(&all[0]), range(&all[1])), ("out1\r\n".to_owned(), String::new()));
    }

    #[test]
    fn a_shell_inside_a_command_and_an_empty_line_make_no_commands() {
        let output =
            marked("<A>$ <B>\r\n<A>$ <B>bash\r\n<C;cmdline_url=bash>{/x}<A><B><C;cmdline_url=in>text<D;0;more");
        let all = course(&(output + "\x07"));
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].line.as_str(), all[0].exit), ("bash", None), "{all:?}");
        assert_eq!(all[0].cwd, "/start");
    }

    #[test]
    fn a_line_that_is_kept_out_of_the_history_is_read_from_the_screen() {
        let again = marked("<A>$ <B>ls -l\r\n<C>x<D;0;same_url=ls -l>");
        assert_eq!(course(&again)[0].line, "ls -l");
        let blank = marked("<A>$ <B>ls -l \r\n<C>x<D;0;same_url=ls -l >");
        assert_eq!(course(&blank)[0].line, "ls -l ");
        let hidden = marked("<A>$ <B> secret\r\n<C>x<D;0;same_url=ls -l>");
        assert_eq!(course(&hidden)[0].line, " secret");
    }

    #[test]
    fn what_the_shell_prints_around_the_output_is_none_of_it() {
        let blanks = " ".repeat(79);
        for cut in [7, 1000] {
            let zsh = marked("<A>% <B>x\r\n<C;cmdline_url=x>out") + "\x1b[7m%\x1b[0m" + &blanks + "\r \r";
            let zsh = zsh + &marked("<D;0;fill=%1B[7m%25%1B[0m>");
            // A forged mark in the output, and one that fills nothing.
            let other = marked("<A>% <B>x\r\n<C;cmdline_url=y>100%\r<D;0;fill=%25>");
            let fish =
                marked("<A>> x\r\n<C;lead;cmdline_url=x>\x1b[?2004l\x1b]0;x\x07\x1b[30m\x1b(B\x1b[m\rout\r<D;0>");
            let fish = fish + &marked("<A>> y\r\n<C;lead;cmdline_url=y>\x1b[1mbold\r<D;0>");
            for (output, expected) in [(zsh + &other, ["out", "100%\r"]), (fish, ["out\r", "\x1b[1mbold\r"])] {
                let mut course = Course::new(Some("n".to_owned()), String::new());
                let mut offset = 0;
                for piece in output.as_bytes().chunks(cut) {
                    course.output(piece, Place { seq: Seq::FIRST, offset, time_us: 0 });
                    offset += piece.len() as u64;
                }
                let at = |offset: u64| usize::try_from(offset).unwrap();
                let all = course.finished();
                let ranges: Vec<&str> = all.iter().map(|c| &output[at(c.output_from)..at(c.output_to)]).collect();
                assert_eq!(ranges, expected, "cut {cut}");
            }
        }
    }

    #[test]
    fn of_lines_that_were_pasted_each_is_a_command_and_a_running_one_has_its_line() {
        let pasted = marked("<A>$ <B>echo one\r\necho two\r\n<C>one\r\n<C>two\r\n<D;3;cmdline_url=echo two>");
        let all = course(&(pasted + &marked("<A>$ <B>exit\r\n<C>bye")));
        let seen: Vec<_> = all.iter().map(|c| (c.id, c.line.as_str(), c.exit, c.output_to - c.output_from)).collect();
        assert_eq!(seen, [(1, "echo one", None, 5), (2, "echo two", Some(3), 5), (3, "exit", None, 3)]);
    }
}
