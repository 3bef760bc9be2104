//! `shellkeep browse`: sessions and commands on a full screen, to filter, look at, open, copy, replay and attach.
//!
//! Promises that the terminal is as before on every way out, and that nothing of what was recorded reaches it but visible
//! characters and colours. `model` and `pager` say what keys do, `view` draws, `data` reads on a thread of its own;
//! here is the loop, which sleeps until a key, a signal or an answer comes.

mod data;
mod filter;
mod model;
mod pager;
mod picture;
mod preview;
mod view;

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use crossterm::event::{Event, KeyEventKind};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::SessionInfo;

use self::data::{Ask, Data, Told};
use self::model::{Action, Model, Tab, Target};
use self::pager::Pager;
use self::preview::Preview;
use crate::cli;
use crate::cmd::{attach, replay};
use crate::keys::{self, STATUS_SIGNAL, Signals, terminal_failed};
use crate::names::SessionRef;
use crate::places::Places;
use crate::report::{Failure, Outcome, printable};

/// Most bytes that are copied: terminals forget longer ones without a word.
const COPY_BYTES_MAX: usize = 72 << 10;

/// Longest pause of a replay that is begun here: nobody waits through a lunch.
const REPLAY_IDLE_MAX: Duration = Duration::from_secs(2);

/// Shows it until the user leaves.
///
/// # Errors
/// If the daemon cannot be had, or the terminal not be used.
pub(crate) fn run(places: &Places) -> Outcome {
    let (wake, waker) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)
        .map_err(|error| Failure::refused(format_args!("cannot make a pipe: {error}")))?;
    let signals = Signals::new(&waker)?;
    let data = Data::start(places, waker)?;
    data.ask(Ask::Everything);
    let mut browser = Browser { places, data, model: Model::new(), wake: File::from(wake), signals };
    let mut screen = ratatui::try_init().map_err(|error| terminal_failed(&error))?;
    let outcome = browser.run(&mut screen);
    ratatui::restore();
    outcome
}

/// A session in the words of its user.
fn words(info: &SessionInfo) -> String {
    info.attrs.name.clone().unwrap_or_else(|| short(info.session))
}

/// The beginning of an id; the end of it is what differs between sessions of one minute, so that is shown too.
fn short(session: SessionId) -> String {
    let id = session.to_string();
    format!("{}…{}", &id[..8], &id[id.len() - 4..])
}

struct Browser<'a> {
    places: &'a Places,
    data: Data,
    model: Model,
    /// Readable when something was told or a signal came.
    wake: File,
    signals: Signals,
}

impl Browser<'_> {
    fn run(&mut self, screen: &mut ratatui::DefaultTerminal) -> Outcome {
        loop {
            self.take_told(screen)?;
            self.look();
            screen.draw(|frame| view::draw(frame, &mut self.model)).map_err(|error| terminal_failed(&error))?;
            keys::wait(rustix::stdio::stdin(), &mut self.wake)?;
            if let Some(signal) = self.signals.ended_by() {
                return Ok(ExitCode::from(STATUS_SIGNAL.saturating_add(signal)));
            }
            while let Some(event) = keys::pending().map_err(|error| terminal_failed(&error))? {
                let key = match event {
                    Event::Key(key) if key.kind != KeyEventKind::Release => key,
                    _ => continue,
                };
                let action = self.model.key(key);
                if action == Action::Quit {
                    return Ok(ExitCode::SUCCESS);
                }
                self.act(action, screen)?;
            }
        }
    }

    /// Asks for what is beside the list, if it is of another row.
    fn look(&mut self) {
        let Some(target) = self.model.target() else {
            self.model.preview = None;
            return;
        };
        if self.model.preview.as_ref().is_some_and(|preview| preview.target == target) {
            return;
        }
        self.model.preview = Some(Preview { target, lines: Vec::new(), note: None });
        if matches!(target, Target::Command(..)) {
            self.data.ask(Ask::Preview(target));
        }
    }

    fn take_told(&mut self, screen: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
        while let Ok(told) = self.data.told.try_recv() {
            match told {
                Told::Sessions(sessions) => self.model.take_sessions(sessions),
                Told::Commands(rows) => self.model.take_commands(rows),
                Told::Loaded => self.model.loaded(),
                Told::Found { text, hits, note } => {
                    self.model.take_hits(text, hits);
                    self.model.notice = note;
                }
                Told::Preview { target, lines, note } => {
                    if let Some(preview) = self.model.preview.as_mut().filter(|preview| preview.target == target) {
                        (preview.lines, preview.note) = (lines, note);
                    }
                }
                Told::Open { target, lines, note } => {
                    let title = self.model.command(target).map_or_else(
                        || self.model.session(target.session()).map(words).unwrap_or_default(),
                        |row| format!("{}  {}", row.info.id, row.info.line),
                    );
                    self.model.notice = note;
                    let mut pager = Pager::new(target, printable(&title), lines);
                    if self.model.tab == Tab::Output {
                        pager.begin_at(&self.model.hits_of);
                    }
                    self.model.pager = Some(pager);
                }
                Told::Copy { text } => self.copy(&text, screen)?,
                Told::Failed(failure) => self.model.notice = Some(printable(&failure.message)),
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action, screen: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
        match action {
            Action::Nothing | Action::Quit => {}
            Action::Open(target) => self.data.ask(Ask::Open(target)),
            Action::CopyOutput(target) => self.data.ask(Ask::Copy(target)),
            Action::CopyText(text) => self.copy(&text, screen)?,
            Action::Search(text) => self.data.ask(Ask::Search(text)),
            Action::Reload => self.data.ask(Ask::Everything),
            Action::Replay(target) => {
                let from = if let Target::Command(_, id) = target { Some(id) } else { None };
                let session = Some(SessionRef::Id(target.session()));
                let (speed, idle_limit) = (cli::Speed(1.0), Some(cli::IdleLimit(REPLAY_IDLE_MAX)));
                let args = cli::Replay { session, speed, idle_limit, from };
                let places = self.places;
                self.outside(screen, || replay::run(places, &args).inspect(|_| wait_for_key()))?;
            }
            Action::Attach(session) => self.outside(screen, || {
                attach::run(&cli::Attach {
                    session: Some(SessionRef::Id(session)),
                    detach_key: cli::DetachKey::default(),
                })
            })?,
        }
        Ok(())
    }

    /// Gives the terminal to something else for a while.
    fn outside(&mut self, screen: &mut ratatui::DefaultTerminal, act: impl FnOnce() -> Outcome) -> Result<(), Failure> {
        ratatui::restore();
        let outcome = act();
        *screen = ratatui::try_init().map_err(|error| terminal_failed(&error))?;
        if let Err(failure) = outcome {
            self.model.notice = Some(printable(&failure.message));
        }
        self.data.ask(Ask::Everything);
        Ok(())
    }

    /// Puts text into the clipboard of the terminal, wherever that is (OSC 52).
    fn copy(&mut self, text: &str, screen: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
        let end = (0..=COPY_BYTES_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let encoded = base64::engine::general_purpose::STANDARD.encode(&text[..end]);
        let backend = screen.backend_mut();
        write!(backend, "\x1b]52;c;{encoded}\x07")
            .and_then(|()| std::io::Write::flush(backend))
            .map_err(|error| terminal_failed(&error))?;
        let lines = text[..end].lines().count();
        self.model.notice = Some(if end < text.len() {
            format!("copied the first {lines} lines: more than terminals take")
        } else if lines > 1 {
            format!("copied {lines} lines")
        } else {
            "copied".to_owned()
        });
        Ok(())
    }
}

/// What a replay has left on the screen stays there until it was seen.
fn wait_for_key() {
    use crossterm::style::Stylize as _;
    use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
    let _gone = writeln!(std::io::stderr(), "{}", "the end; any key goes back".dim());
    if enable_raw_mode().is_ok() {
        while crossterm::event::read().is_ok_and(|event| !event.is_key_press()) {}
        let _cooked = disable_raw_mode();
    }
}
