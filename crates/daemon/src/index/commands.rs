//! Commands of a session, from the marks in its output.
//!
//! Promises that commands are numbered from 1 in the order in which the record tells of them (its shell's when they began, those that
//! were run for it from outside when they had ended), that what a command printed is exactly
//! what lies between its marks, without what the shell itself prints around it, that prompts and what is typed at them are
//! nobody's output, and that a nested shell, or text that looks like a mark, changes nothing. A pure machine.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shellkeep_journal::Seq;
use shellkeep_protocol::annotation::Annotation;
use shellkeep_protocol::attach::exit_from_payload;
use shellkeep_protocol::query::CommandInfo;
use shellkeep_protocol::session::ExitStatus;

use super::held::Held;
use super::lines::At;
use super::marks::{Found, Mark, MarkReader, Place, Told};
use super::plain::{SIZE_DEFAULT, behind_prompt};
use super::secrets::Secrets;

/// Most bytes of a prompt with the line typed at it that are kept to look at. Beyond it the shell's own word must do.
const ECHO_BYTES_MAX: usize = 64 << 10;

/// Bytes of a running command's newest output that are kept back until it is known that they are its own. A wider
/// terminal's filler is not recognised.
const TAIL_BYTES: usize = 8 << 10;

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

/// A piece of what a session printed.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Output, and where it was printed.
    Text(&'a [u8], At),
    /// What was given so far is a text by itself: a command's, or what was printed before the first prompt.
    End,
    /// A command has ended, whose output was given.
    Ended(CommandInfo),
}

/// Who is given pieces.
pub type Give<'a> = dyn FnMut(Piece<'_>) + 'a;

/// Reads a session's output in order.
#[allow(clippy::struct_excessive_bools)] // independent facts about what the shell has said
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Course {
    marks: MarkReader,
    phase: Phase,
    directory: String,
    /// The shell has said so since [`Self::take_said`].
    #[serde(skip)]
    has_said: bool,
    /// The newest prompt and what was typed at it, as shown.
    shown: Vec<u8>,
    /// Where in it the prompt ends.
    prompt_bytes: usize,
    columns: u16,
    /// The newest output of the running command; at a prompt, what came behind it.
    held: Held,
    /// The shell has said that a prompt begins: from then on only commands have output.
    is_marked: bool,
    /// It has said where the newest prompt ends.
    is_prompt_told: bool,
    /// More came behind the newest prompt than anybody types: it is given as output of no command.
    is_flood: bool,
    /// What the shell may have printed of its own at the beginning of it, until that can be told.
    lead: Option<Vec<u8>>,
    /// Commands of the newest prompt that began before the one that runs.
    pasted: usize,
    /// The running command has shown a prompt of ours.
    is_nested: bool,
    current: Option<CommandInfo>,
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
            has_said: false,
            shown: Vec::new(),
            prompt_bytes: 0,
            columns: SIZE_DEFAULT.0,
            held: Held::default(),
            is_marked: false,
            is_prompt_told: false,
            is_flood: false,
            lead: None,
            pasted: 0,
            is_nested: false,
            current: None,
            last_id: 0,
            end: 0,
        }
    }

    /// The window has so many columns from here on.
    pub fn resized(&mut self, columns: u16, give: &mut Give<'_>) {
        self.columns = columns;
        if self.phase == Phase::Running {
            self.held.give(&mut |bytes, at| give(Piece::Text(bytes, at)));
        }
    }

    /// Takes the next piece of output; gives what of it is output of commands, or of none, and the commands that have
    /// ended: sooner or later, and in order.
    pub fn output(&mut self, bytes: &[u8], place: Place, give: &mut Give<'_>) {
        let mut found = Vec::new();
        self.marks.feed(bytes, place, |mark| found.push(mark));
        let mut taken = 0;
        for mark in found {
            let to = usize::try_from(mark.to - place.offset).unwrap_or(usize::MAX).min(bytes.len());
            self.show(&bytes[taken..to], place, give);
            taken = to;
            self.take(mark, give);
        }
        self.show(&bytes[taken..], place, give);
        self.end = place.offset + bytes.len() as u64;
    }

    /// Something was noted from outside of the terminal. A command that was run for the session is one of it: numbered behind all that
    /// have begun, with no output here. What the shell does is not touched.
    pub fn noted(&mut self, payload: &[u8], (seq, time_us): (Seq, u64), give: &mut Give<'_>) {
        let Some(Annotation::Run(run)) = Annotation::from_payload(payload) else { return };
        self.last_id += 1;
        give(Piece::Ended(CommandInfo {
            id: self.last_id,
            line: run.line,
            cwd: run.cwd,
            started_at_us: run.started_at_us.min(time_us),
            ended_at_us: Some(time_us),
            exit: run.exit,
            first_seq: seq,
            output_from: self.end,
            output_to: self.end,
        }));
    }

    /// The session has ended, with this status if it was one: so has what ran in it.
    pub fn exited(&mut self, exit: Option<u8>, time_us: u64, give: &mut Give<'_>) {
        match self.phase {
            Phase::Running => {
                self.ended((exit, None, 0), (self.end, time_us), give);
            }
            Phase::Typing => {
                self.leave_prompt(give);
                give(Piece::End);
            }
            Phase::Between => give(Piece::End),
        }
        self.phase = Phase::Between;
    }

    /// Output of the running command that is kept back and not given yet.
    pub(super) fn waiting(&self, give: &mut Give<'_>) {
        if self.phase == Phase::Running {
            self.held.show(&mut |bytes, at| give(Piece::Text(bytes, at)));
        }
    }

    /// Whether the shell has said where it is since this was asked before, be it the same place.
    pub fn take_said(&mut self) -> bool {
        std::mem::take(&mut self.has_said)
    }

    /// Where the shell is, as it said at its last prompt.
    pub fn directory(&self) -> &str {
        &self.directory
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
            || [self.shown.as_slice(), self.held.bytes()].into_iter().chain(self.lead.as_deref()).any(is_in)
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

    /// The marks in it show nothing on a screen.
    fn show(&mut self, bytes: &[u8], place: Place, give: &mut Give<'_>) {
        let at = At { seq: place.seq, time_us: place.time_us, command: self.current_id() };
        match self.phase {
            Phase::Between if !self.is_marked => give(Piece::Text(bytes, at)),
            Phase::Between => {}
            Phase::Running => {
                self.skip_lead(bytes);
                self.held.slide(bytes, at, TAIL_BYTES, &mut |bytes, at| give(Piece::Text(bytes, at)));
            }
            Phase::Typing => {
                if self.shown.len() + bytes.len() <= ECHO_BYTES_MAX {
                    self.shown.extend_from_slice(bytes);
                }
                if self.is_prompt_told {
                    self.held.keep(bytes, at);
                }
                self.is_flood |= self.held.bytes().len() > ECHO_BYTES_MAX;
                if self.is_flood {
                    self.held.give(&mut |bytes, at| give(Piece::Text(bytes, at)));
                }
            }
        }
    }

    /// Another prompt follows, or nothing, and no command was told. If more than one line came behind the prompt, that was
    /// the output of one: a shell may have lost the hook that tells of commands, and nothing it prints must get lost.
    fn leave_prompt(&mut self, give: &mut Give<'_>) {
        if self.is_flood || memchr::memchr_iter(b'\n', self.held.bytes()).nth(1).is_some() {
            self.held.give(&mut |bytes, at| give(Piece::Text(bytes, at)));
        }
        self.forget_prompt();
    }

    fn forget_prompt(&mut self) {
        self.held.clear();
        self.shown.clear();
        self.prompt_bytes = 0;
        (self.is_prompt_told, self.is_flood) = (false, false);
    }

    fn take(&mut self, Found { mark, from, to, seq, time_us }: Found, give: &mut Give<'_>) {
        match (mark, &self.phase) {
            // A shell inside a command may say where it is, and even begin prompts of its own: it is the command's matter.
            (Mark::Ended { exit, command, fill }, Phase::Running) => {
                let filled = fill.map_or(0, |fill| filled(self.held.bytes(), to - from, &fill));
                self.ended((exit, command, to - from + filled), (from - filled, time_us), give);
                // Nobody asks for it any more, and it may have what is to be kept nowhere.
                self.forget_prompt();
            }
            // A prompt before the end is one of a shell inside, which has inherited ours by `export PS1` or the like.
            (Mark::Prompt | Mark::PromptEnd, Phase::Running) => self.is_nested = true,
            // Several lines were pasted at one prompt: the one before has ended, and nobody says how.
            (Mark::Started { .. }, Phase::Running) if !self.is_nested => {
                self.ended((None, None, to - from), (from, time_us), give);
                self.pasted += 1;
                self.started(None, false, (seq, time_us, to));
            }
            (_, Phase::Running) | (Mark::Ended { .. }, _) => {}
            (Mark::Directory(path), _) => (self.directory, self.has_said) = (path, true),
            (Mark::Prompt, _) => {
                self.leave_prompt(give);
                give(Piece::End);
                self.phase = Phase::Typing;
                self.is_marked = true;
            }
            (Mark::PromptEnd, _) => {
                self.prompt_bytes = self.shown.len();
                self.held.clear(); // a prompt that is drawn again has nothing before it
                self.is_prompt_told = true;
            }
            (Mark::Started { command, has_lead }, _) => {
                give(Piece::End);
                self.pasted = 0;
                self.is_marked = true;
                self.started(command, has_lead, (seq, time_us, to));
            }
        }
    }

    fn started(&mut self, command: Option<String>, has_lead: bool, (seq, time_us, at): (Seq, u64, u64)) {
        self.last_id += 1;
        self.phase = Phase::Running;
        self.is_nested = false;
        (self.is_prompt_told, self.is_flood) = (false, false);
        self.held.clear();
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

    /// The running command has ended; the last bytes that have come, so many, are none of its output.
    fn ended(
        &mut self,
        (exit, told, surplus): (Option<u8>, Option<Told>, u64),
        (at, time_us): (u64, u64),
        give: &mut Give<'_>,
    ) {
        self.held.drop_last(surplus);
        self.held.give(&mut |bytes, at| give(Piece::Text(bytes, at)));
        give(Piece::End);
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
        give(Piece::Ended(command));
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

/// The status that a session's end tells, if it ended with one.
pub(super) fn status(payload: &[u8]) -> Option<u8> {
    match exit_from_payload(payload)? {
        ExitStatus::Code(code) => Some(code),
        ExitStatus::Signal(_) => None,
    }
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
mod tests;
