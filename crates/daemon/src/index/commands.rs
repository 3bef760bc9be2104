//! Commands of a session, from the marks in its output.
//!
//! Promises that commands are numbered from 1 in the order in which they began, that what a command printed is exactly
//! what lies between its marks, and that a nested shell, or text that looks like a mark, changes nothing. A pure machine.

use shellkeep_journal::Seq;

use super::marks::{Found, Mark, MarkReader, Place, Told};
use super::plain::{SIZE_DEFAULT, behind_prompt};

/// Most bytes of a prompt with the line typed at it that are kept to look at. Beyond it the shell's own word must do.
const ECHO_BYTES_MAX: usize = 64 << 10;

/// One command line and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// From 1.
    pub id: u64,
    /// The line; empty while a shell that tells it only afterwards runs it.
    pub line: String,
    /// Directory in which it began.
    pub directory: String,
    /// Microseconds since the Unix epoch.
    pub started_at_us: u64,
    /// The same; `None` while it runs, or if its end was never told.
    pub ended_at_us: Option<u64>,
    /// Its status.
    pub exit: Option<u8>,
    /// Record in which its output begins.
    pub first_seq: Seq,
    /// Offset of its first byte of output among all output.
    pub output_from: u64,
    /// Offset behind its last one; up to now while it runs.
    pub output_to: u64,
}

/// Where the shell is.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Before the first prompt, or between a command and the next prompt.
    Between,
    /// A prompt is shown and a line is typed.
    Typing,
    /// A command runs.
    Running,
}

/// Reads a session's output in order.
#[derive(Debug)]
pub struct Course {
    marks: MarkReader,
    phase: Phase,
    directory: String,
    /// The newest prompt and what was typed at it, as shown.
    shown: Vec<u8>,
    /// Where in it the prompt ends.
    prompt_bytes: usize,
    columns: u16,
    current: Option<Command>,
    finished: Vec<Command>,
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
        let mut found = Vec::new();
        self.marks.feed(bytes, place, |mark| found.push(mark));
        let mut taken = 0;
        for mark in found {
            let to = usize::try_from(mark.to - place.offset).unwrap_or(usize::MAX).min(bytes.len());
            self.show(&bytes[taken..to]);
            taken = to;
            self.take(mark);
        }
        self.show(&bytes[taken..]);
        self.end = place.offset + bytes.len() as u64;
    }

    /// Commands that have ended since the last call.
    pub fn finished(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.finished)
    }

    /// Offset behind the last byte of output that was taken.
    pub fn output_end(&self) -> u64 {
        self.end
    }

    /// The command that runs.
    pub fn running(&self) -> Option<Command> {
        self.current.clone().map(|command| Command { output_to: self.end, ..command })
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
                self.current = Some(Command {
                    id: self.last_id,
                    line: command.unwrap_or_default(),
                    directory: self.directory.clone(),
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
    use super::*;

    fn course(output: &str) -> Vec<Command> {
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
        let seen: Vec<_> = all.iter().map(|c| (c.id, c.line.as_str(), c.directory.as_str(), c.exit)).collect();
        assert_eq!(seen, [(1, "one", "/a", Some(0)), (2, "two", "/b", Some(7))]);
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let range = |c: &Command| output[at(c.output_from)..at(c.output_to)].to_owned();
        assert_eq!((range(&all[0]), range(&all[1])), ("out1\r\n".to_owned(), String::new()));
    }

    #[test]
    fn a_shell_inside_a_command_and_an_empty_line_make_no_commands() {
        let output =
            marked("<A>$ <B>\r\n<A>$ <B>bash\r\n<C;cmdline_url=bash>{/x}<A><B><C;cmdline_url=in>text<D;0;more");
        let all = course(&(output + "\x07"));
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].line.as_str(), all[0].exit), ("bash", None), "{all:?}");
        assert_eq!(all[0].directory, "/start");
    }

    #[test]
    fn a_line_that_is_kept_out_of_the_history_is_read_from_the_screen() {
        let again = marked("<A>$ <B>ls -l\r\n<C>x<D;0;same_url=ls -l>");
        assert_eq!(course(&again)[0].line, "ls -l");
        let hidden = marked("<A>$ <B> secret\r\n<C>x<D;0;same_url=ls -l>");
        assert_eq!(course(&hidden)[0].line, " secret");
    }
}
