//! Commands of a session, from the marks in its output.
//!
//! Promises that commands are numbered from 1 in the order in which they began, that what a command printed is exactly
//! what lies between its marks, and that a nested shell, or text that looks like a mark, changes nothing. A pure machine.

use serde::{Deserialize, Serialize};
use shellkeep_protocol::query::CommandInfo;

use super::marks::{Found, Mark, MarkReader, Place, Told};
use super::plain::{SIZE_DEFAULT, behind_prompt};

/// Most bytes of a prompt with the line typed at it that are kept to look at. Beyond it the shell's own word must do.
const ECHO_BYTES_MAX: usize = 64 << 10;

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
        self.current.clone().map(|command| CommandInfo { output_to: self.end, ..command })
    }

    fn current_id(&self) -> u64 {
        self.current.as_ref().map_or(0, |command| command.id)
    }

    /// Of interest while a line is typed. The marks in it show nothing on a screen.
    fn show(&mut self, bytes: &[u8]) {
        if self.phase == Phase::Typing && self.shown.len() + bytes.len() <= ECHO_BYTES_MAX {
            self.shown.extend_from_slice(bytes);
        }
    }

    fn take(&mut self, Found { mark, from, to, seq, time_us }: Found) {
        match (mark, &self.phase) {
            // A shell inside a command may say where it is, and even begin prompts of its own: it is the command's matter.
            (Mark::Ended { exit, command }, Phase::Running) => self.ended(exit, command, from, time_us),
            (_, Phase::Running) | (Mark::Ended { .. }, _) => {}
            (Mark::Directory(path), _) => self.directory = path,
            (Mark::Prompt, _) => {
                self.phase = Phase::Typing;
                self.shown.clear();
                self.prompt_bytes = 0;
            }
            (Mark::PromptEnd, _) => self.prompt_bytes = self.shown.len(),
            (Mark::Started { command }, _) => {
                self.last_id += 1;
                self.phase = Phase::Running;
                self.current = Some(CommandInfo {
                    id: self.last_id,
                    line: command.unwrap_or_default(),
                    cwd: self.directory.clone(),
                    started_at_us: time_us,
                    ended_at_us: None,
                    exit: None,
                    first_seq: seq,
                    output_from: to,
                    output_to: to,
                });
            }
        }
    }

    fn ended(&mut self, exit: Option<u8>, told: Option<Told>, at: u64, time_us: u64) {
        self.phase = Phase::Between;
        let Some(mut command) = self.current.take() else { return };
        match told {
            Some(Told::New(line)) => command.line = line,
            Some(Told::Same(line)) => command.line = self.typed(line),
            None => {}
        }
        command.exit = exit;
        command.ended_at_us = Some(time_us);
        command.output_to = at;
        self.finished.push(command);
    }

    /// The line that was typed, where the shell knows only that its history ends with `newest`: what was shown, or that one
    /// if it cannot be told.
    fn typed(&self, newest: String) -> String {
        let (prompt, typed) = self.shown.split_at(self.prompt_bytes);
        match behind_prompt(prompt, typed, self.columns) {
            // Lines of a command that has several are shown with prompts of their own between them.
            Some(line) if !line.is_empty() && !line.contains('\n') => line,
            _ => newest,
        }
    }
}

#[cfg(test)]
mod tests {
    use shellkeep_journal::Seq;

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
        let hidden = marked("<A>$ <B> secret\r\n<C>x<D;0;same_url=ls -l>");
        assert_eq!(course(&hidden)[0].line, " secret");
    }
}
