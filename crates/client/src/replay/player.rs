//! Plays a recording on a console: the loop between what is due and what is heard.
//!
//! Promises that what a jump shows is what playing up to there would have shown, that a line of ours changes nothing of the
//! recording's screen, and that every way out leaves the terminal plain. One page of records is in memory.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use shellkeep_journal::Seq;
use shellkeep_protocol::query::Chunk;

use super::filter::Filter;
use super::keys::Key;
use super::pace::Pace;
use super::screen::Screen;
use super::{Console, Heard};
use crate::cmd::told;
use crate::export::passage::Passage;
use crate::recording::{Moment, Reading, Recording, What};
use crate::report::Failure;

mod lines;

/// How often the line of status is drawn while nothing else happens.
const TICK: Duration = Duration::from_millis(250);
/// Longest that moments are shown one after the other without a look at the keys.
const BURST: Duration = Duration::from_millis(40);
/// How long something that was told stands in the line of status.
const NOTE_STANDS: Duration = Duration::from_secs(4);
/// A command that has played for less than this is left by "back" for the one before, in microseconds of the recording.
const AGAIN_FROM_US: u64 = 2_000_000;

/// What brings a terminal back to plain, whatever a recording has set. Source: xterm's control sequences.
const PLAIN: &str = "\x1b[?2026l\x1b[r\x1b[?6l\x1b[4l\x1b[20l\x1b[?7h\x1b[?5l\x1b[?25h\x1b]8;;\x1b\\\x1b(B\x0f\x1b[m";

/// How a replay came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was shown to its end, or left.
    Over,
    /// A signal ended it.
    Signalled(u8),
}

/// Why it could not go on.
#[derive(Debug)]
pub enum Stop {
    /// The record cannot be had.
    Record(Failure),
    /// The terminal takes no more.
    Show(io::Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Record(failure)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Show(error)
    }
}

/// A recording on a console.
pub struct Player<'a, C, F> {
    console: &'a mut C,
    recording: &'a Recording,
    reading: Reading<F>,
    next: Option<Moment>,
    /// Time of the moment that was shown last.
    at_us: u64,
    /// Time of the last moment, as far as it is known.
    end_us: u64,
    pace: Pace,
    passage: Passage,
    filter: Filter,
    screen: Screen,
    /// How many commands have begun.
    begun: usize,
    note: Option<(String, Instant)>,
    /// Rows that are covered by lines of ours where the recording has rows too.
    covered: usize,
    is_helping: bool,
    status_due: Option<Instant>,
}

impl<'a, C: Console, F: FnMut(Seq) -> Result<Chunk, Failure>> Player<'a, C, F> {
    /// At the recording's beginning.
    pub fn new(
        console: &'a mut C,
        recording: &'a Recording,
        ask: F,
        end_us: u64,
        speed: f64,
        idle_limit: Option<Duration>,
    ) -> Self {
        let start_us = recording.info.attrs.started_at_us;
        let pace = Pace::new(speed, idle_limit, start_us, console.now());
        Self {
            reading: recording.read(ask),
            console,
            recording,
            next: None,
            at_us: start_us,
            end_us,
            pace,
            passage: Passage::default(),
            filter: Filter::default(),
            screen: Screen::new(recording.info.attrs.size),
            begun: 0,
            note: None,
            covered: 0,
            is_helping: false,
            status_due: None,
        }
    }

    /// Plays it, from the command at place `from` if one is given.
    ///
    /// # Errors
    /// If the record cannot be read or the terminal takes no more. The terminal is plain in any case.
    pub fn play(&mut self, from: Option<usize>) -> Result<End, Stop> {
        self.begin()?;
        let played = self.played(from);
        let left = self.leave();
        let end = played?;
        self.console.show(&left)?;
        Ok(end)
    }

    fn played(&mut self, from: Option<usize>) -> Result<End, Stop> {
        if let Some(place) = from
            && let Some(end) = self.jump(place)?
        {
            return Ok(end);
        }
        loop {
            if self.next.is_none() {
                self.next = self.reading.next()?;
            }
            let Some(next_us) = self.next.as_ref().map(|moment| moment.time_us) else { return Ok(End::Over) };
            let due = self.pace.due(next_us);
            let now = self.console.now();
            if due.is_some_and(|due| due <= now) {
                self.burst(now)?;
            }
            self.draw_status(false)?;
            let until =
                match (self.pace.due(self.next.as_ref().map_or(next_us, |moment| moment.time_us)), self.next.is_some())
                {
                    (due, true) => [due, self.tick()].into_iter().flatten().min(),
                    (_, false) => Some(now),
                };
            for heard in self.console.wait(until) {
                if let Some(end) = self.hear(heard)? {
                    return Ok(end);
                }
            }
        }
    }

    /// When the line of status is to be drawn again, if there is one.
    fn tick(&self) -> Option<Instant> {
        (self.has_row() && !self.pace.is_paused()).then(|| self.console.now() + TICK)
    }

    /// Shows what is due, but not for long.
    fn burst(&mut self, now: Instant) -> Result<(), Stop> {
        let mut shown = String::new();
        while let Some(moment) = self.next.take() {
            let due = self.pace.due(moment.time_us);
            if due.is_none_or(|due| due > now) {
                self.next = Some(moment);
                break;
            }
            // Of a pause, only what is seen is the end.
            if matches!(moment.what, What::Output(_) | What::Resized(..)) {
                self.pace.reached(moment.time_us, now);
            }
            self.take(moment, &mut shown);
            if self.console.now().saturating_duration_since(now) > BURST {
                break;
            }
            self.next = self.reading.next()?;
        }
        self.console.show(&shown)?;
        Ok(())
    }

    /// Takes a moment: what is to be shown of it is added to `shown`.
    fn take(&mut self, Moment { time_us, what }: Moment, shown: &mut String) {
        self.at_us = time_us;
        match what {
            What::Output(bytes) => {
                let text = self.passage.text(&bytes);
                let text = self.filter.pass(&text);
                self.screen.feed(&text);
                shown.push_str(&text);
            }
            What::Resized(cols, rows) => {
                self.screen.resize((cols, rows));
                if self.console.window().is_some() {
                    shown.clear();
                    shown.push_str(&self.drawn());
                }
            }
            What::Begins(place) => {
                self.begun = place + 1;
                self.status_due = None;
            }
            What::Told(item) => {
                let text = told(&item);
                self.note = Some((text.clone(), self.console.now() + NOTE_STANDS));
                self.status_due = None;
                self.console.note(text);
            }
            What::Input(_) | What::Ends(_) | What::Exited(_) => {}
        }
    }

    fn hear(&mut self, heard: Heard) -> Result<Option<End>, Stop> {
        let now = self.console.now();
        if self.is_helping && matches!(heard, Heard::Key(key) if key != Key::Quit) {
            self.is_helping = false;
            self.redraw()?;
            return Ok(None);
        }
        match heard {
            Heard::Signal(signal) => return Ok(Some(End::Signalled(signal))),
            Heard::Key(Key::Quit) => return Ok(Some(End::Over)),
            Heard::Key(Key::Pause) => {
                self.pace.toggle_pause(now);
                self.uncover()?;
            }
            Heard::Key(Key::Step) => self.step()?,
            Heard::Key(Key::Next) => match self.begun {
                next if next < self.recording.commands.len() => return self.jump(next),
                _ => self.say("no command is marked behind this place"),
            },
            Heard::Key(Key::Back) => match self.back() {
                Some(place) => return self.jump(place),
                None => self.say("no command is marked before this place"),
            },
            Heard::Key(Key::Faster) => self.pace.change_speed(true, now),
            Heard::Key(Key::Slower) => self.pace.change_speed(false, now),
            Heard::Key(Key::Help) => self.help()?,
            Heard::Key(Key::Other) => {}
            Heard::Key(Key::Redraw) | Heard::Resized => self.redraw()?,
            Heard::Key(Key::Suspend) | Heard::Suspended => {
                let left = self.leave();
                self.console.suspend(&left)?;
                self.begin()?;
                self.redraw()?;
            }
        }
        self.draw_status(true)?;
        Ok(None)
    }

    fn say(&mut self, text: &str) {
        self.note = Some((text.to_owned(), self.console.now() + NOTE_STANDS));
    }

    /// The command to go back to.
    fn back(&self) -> Option<usize> {
        let current = self.begun.checked_sub(1)?;
        let begun_us = self.recording.commands[current].started_at_us;
        let played_us = self.pace.position_us(self.next.as_ref().map_or(0, |next| next.time_us), self.console.now());
        if played_us.saturating_sub(begun_us) >= AGAIN_FROM_US {
            Some(current)
        } else {
            Some(current.saturating_sub(1))
        }
    }

    /// Shows up to the next output, while paused.
    fn step(&mut self) -> Result<(), Stop> {
        if !self.pace.is_paused() {
            return Ok(());
        }
        self.uncover()?;
        let mut shown = String::new();
        while let Some(moment) = self.next.take() {
            let is_output = matches!(moment.what, What::Output(_));
            self.pace.jumped(moment.time_us, self.console.now());
            self.take(moment, &mut shown);
            self.next = self.reading.next()?;
            if is_output {
                break;
            }
        }
        self.console.show(&shown)?;
        Ok(())
    }

    /// Goes to where the command at `place` begins.
    fn jump(&mut self, place: usize) -> Result<Option<End>, Stop> {
        if place < self.begun {
            self.reading.rewind(self.recording);
            self.next = None;
            self.begun = 0;
            self.passage = Passage::default();
            self.filter = Filter::default();
            self.screen = Screen::new(self.recording.info.attrs.size);
        }
        let mut looked = self.console.now();
        let mut unshown = String::new();
        while self.begun <= place {
            let Some(moment) = self.next.take().map_or_else(|| self.reading.next(), |next| Ok(Some(next)))? else {
                break;
            };
            self.take(moment, &mut unshown);
            unshown.clear();
            if self.console.now().saturating_duration_since(looked) > BURST {
                looked = self.console.now();
                for heard in self.console.wait(Some(looked)) {
                    match heard {
                        Heard::Key(Key::Quit) => return Ok(Some(End::Over)),
                        Heard::Signal(signal) => return Ok(Some(End::Signalled(signal))),
                        _ => {}
                    }
                }
            }
        }
        self.pace.jumped(self.at_us, self.console.now());
        self.redraw()?;
        Ok(None)
    }

    fn begin(&mut self) -> Result<(), Stop> {
        let Some((_, rows)) = self.console.window() else { return Ok(()) };
        self.limit();
        let mut shown = String::new();
        if !self.has_row() {
            shown.push_str("\x1b[22;2t"); // the title, which says what the line would
        }
        // What stood here goes into the scrollback, where the user finds it.
        shown.extend(std::iter::repeat_n('\n', rows.into()));
        self.filter.margins(&mut shown);
        shown.push_str("\x1b[H\x1b[2J");
        self.console.show(&shown)?;
        self.draw_status(true)
    }

    /// What leaves the terminal plain, with the cursor below what was shown.
    fn leave(&mut self) -> String {
        let Some((_, rows)) = self.console.window() else { return String::new() };
        let mut shown = String::new();
        if self.filter.style.alternate {
            shown.push_str("\x1b[?1049l");
        }
        shown.push_str(PLAIN);
        if self.has_row() {
            let _infallible = write!(shown, "\x1b[{rows};1H\x1b[2K");
        } else {
            if self.covered > 0 {
                let _infallible = write!(shown, "\x1b[{rows};1H\x1b[2K");
            }
            shown.push_str("\x1b[23;2t");
        }
        let row = if self.filter.style.alternate { usize::from(rows) } else { self.screen.cursor().0 };
        let _infallible = write!(shown, "\x1b[{row};1H\r\n");
        self.covered = 0;
        shown
    }

    /// Whether there is a row below the recording's.
    fn has_row(&self) -> bool {
        self.console.window().is_some_and(|(_, rows)| rows > self.screen.size().1)
    }

    fn limit(&mut self) {
        let rows = self.screen.size().1;
        self.filter.limit_rows(self.has_row().then_some(rows));
    }

    /// What draws the recording's screen anew, from nothing.
    fn drawn(&mut self) -> String {
        self.limit();
        let mut shown = String::from("\x1b[?1049l");
        shown.push_str(PLAIN);
        shown.push_str("\x1b[?2026h");
        self.filter.margins(&mut shown);
        shown.push_str("\x1b[H\x1b[2J");
        // The dump is no recording, but what is in it came from one.
        let mut dumped = Filter::default();
        dumped.limit_rows(self.has_row().then_some(self.screen.size().1));
        shown.push_str(&dumped.pass(&self.screen.dump()));
        shown.push_str("\x1b[?2026l");
        self.covered = 0;
        shown
    }

    fn redraw(&mut self) -> Result<(), Stop> {
        if self.console.window().is_none() {
            return Ok(()); // nothing was drawn: into a pipe, what follows follows
        }
        let shown = self.drawn();
        self.console.show(&shown)?;
        self.draw_status(true)
    }

    /// Draws the recording's own rows where lines of ours were.
    fn uncover(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.covered) > 0 {
            self.redraw()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
