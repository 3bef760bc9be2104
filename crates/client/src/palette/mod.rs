//! `shellkeep palette`: one of the session's commands, chosen from a list by a few letters.
//!
//! Promises that no key waits for the daemon, that the terminal is as before on every way out, that nothing reaches it but
//! visible characters and colours, and that only a line that was chosen is printed. Draws on the terminal itself, so that a
//! shell can take what is printed. `model` says what keys do, `view` draws, `data` asks on a thread of its own.

mod data;
pub(crate) mod line;
mod model;
mod view;

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use crossterm::event::{Event, KeyEventKind};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use shellkeep_protocol::ids::SessionId;

use self::data::{Data, Told};
use self::model::{Action, Model};
use self::view::Ink;
use crate::keys::{self, STATUS_SIGNAL, Signals, terminal_failed};
use crate::places::Places;
use crate::report::{self, Failure, Outcome};

pub(crate) use self::line::quoted;

/// Status of who leaves without choosing, as after Ctrl-C.
const LEFT: u8 = 130;

/// Shows it until something is chosen, or the user leaves.
///
/// # Errors
/// If the daemon cannot be had, or the terminal not be used.
pub(crate) fn run(places: &Places, session: Option<SessionId>, query: &str) -> Outcome {
    let tty = File::options().read(true).write(true).open("/dev/tty").map_err(|_| {
        Failure::usage("palette needs a terminal").with_hint("programs use \"shellkeep commands QUERY --json\"")
    })?;
    let (wake, waker) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)
        .map_err(|error| Failure::refused(format_args!("cannot make a pipe: {error}")))?;
    let signals = Signals::new(&waker)?;
    let model = Model::new(query);
    let data = Data::start(places, session, &model.query, waker)?;
    let ink = Ink { colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
    let mut screen = Screen::open(&tty).map_err(|error| terminal_failed(&error))?;
    let end = Chooser { data, model, wake: File::from(wake), signals, ink }.run(&mut screen.terminal, &tty);
    drop(screen); // what is printed below is behind the list, on the terminal as it was
    match end? {
        End::Chosen(line) => {
            report::result(&(line + "\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        End::Left => Ok(ExitCode::from(LEFT)),
        End::Signal(signal) => Ok(ExitCode::from(STATUS_SIGNAL.saturating_add(signal))),
    }
}

type Tty = Terminal<CrosstermBackend<BufWriter<File>>>;

/// The terminal, taken; given back when this goes, however that comes.
struct Screen {
    terminal: Tty,
}

impl Screen {
    fn open(tty: &File) -> std::io::Result<Self> {
        let mut screen = Self { terminal: Terminal::new(CrosstermBackend::new(BufWriter::new(tty.try_clone()?)))? };
        enable_raw_mode()?;
        execute!(screen.terminal.backend_mut(), EnterAlternateScreen)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // In this order, and each whatever became of the other: a terminal that has gone needs nothing back.
        let _shown = self.terminal.show_cursor();
        let _left = execute!(self.terminal.backend_mut(), LeaveAlternateScreen);
        let _cooked = disable_raw_mode();
    }
}

/// How it ends.
enum End {
    Chosen(String),
    Left,
    Signal(u8),
}

struct Chooser {
    data: Data,
    model: Model,
    /// Readable when something was told or a signal came.
    wake: File,
    signals: Signals,
    ink: Ink,
}

impl Chooser {
    fn run(&mut self, terminal: &mut Tty, tty: &File) -> Result<End, Failure> {
        // Where keys are read from: standard input if that is a terminal, as crossterm has it.
        let stdin = rustix::stdio::stdin();
        let keyboard = if std::io::stdin().is_terminal() { stdin } else { tty.as_fd() };
        loop {
            while let Ok(told) = self.data.told.try_recv() {
                match told {
                    Told::Found(found) => {
                        if let Action::Choose(line) = self.model.take(found) {
                            return Ok(End::Chosen(line));
                        }
                    }
                    Told::Trouble(words) => self.model.trouble = Some(words),
                }
            }
            let (model, ink) = (&mut self.model, self.ink);
            terminal.draw(|frame| view::draw(frame, model, ink)).map_err(|error| terminal_failed(&error))?;
            keys::wait(keyboard, &mut self.wake)?;
            if let Some(signal) = self.signals.ended_by() {
                return Ok(End::Signal(signal));
            }
            while let Some(event) = keys::pending().map_err(|error| terminal_failed(&error))? {
                let action = match event {
                    Event::Key(key) if key.kind != KeyEventKind::Release => self.model.key(key),
                    Event::Paste(text) => self.model.paste(&text),
                    _ => continue,
                };
                match action {
                    Action::Nothing => {}
                    Action::Search => self.data.ask(&self.model.query),
                    Action::Choose(line) => return Ok(End::Chosen(line)),
                    Action::Leave => return Ok(End::Left),
                }
            }
        }
    }
}
