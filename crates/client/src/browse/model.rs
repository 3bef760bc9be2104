//! What `browse` shows, and what each key does to it. A pure machine: it neither reads records nor draws.
//!
//! Promises that a selected row stays selected while more rows arrive, and that no key is without an effect or a word.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use nucleo_matcher::Matcher;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{CommandInfo, Hit, SessionInfo, SessionState};

use super::filter::{self, Fields, Filter};
use super::pager::Pager;
use super::preview::Preview;

/// Most characters of a filter.
const FILTER_CHARS_MAX: usize = 200;

/// Which list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    /// Of all sessions, or of one.
    Commands,
    Sessions,
    /// Lines that have what is typed.
    Output,
}

impl Tab {
    const fn next(self) -> Self {
        match self {
            Self::Commands => Self::Sessions,
            Self::Sessions => Self::Output,
            Self::Output => Self::Commands,
        }
    }

    const fn before(self) -> Self {
        self.next().next()
    }
}

/// One command and whose it is.
#[derive(Debug, Clone)]
pub(super) struct CommandRow {
    pub(super) session: SessionId,
    /// The session's name, or the beginning of its id.
    pub(super) of: String,
    pub(super) info: CommandInfo,
}

impl CommandRow {
    fn fields(&self) -> Fields<'_> {
        Fields { fuzzy: [&self.info.line, &self.of], whole: [&self.info.cwd, ""] }
    }
}

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Session(SessionId),
    /// With its number.
    Command(SessionId, u64),
}

impl Target {
    pub(super) const fn session(self) -> SessionId {
        match self {
            Self::Session(session) | Self::Command(session, _) => session,
        }
    }
}

/// What is to be done outside of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Quit,
    /// Show the whole output in the pager.
    Open(Target),
    Replay(Target),
    Attach(SessionId),
    /// Copy the output of it.
    CopyOutput(Target),
    /// Copy this text.
    CopyText(String),
    /// Look for this in all output.
    Search(String),
    /// Read everything again.
    Reload,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) tab: Tab,
    pub(super) sessions: Vec<SessionInfo>,
    pub(super) commands: Vec<CommandRow>,
    /// Lines of output, newest first, and what they were found by.
    pub(super) hits: Vec<Hit>,
    pub(super) hits_of: String,
    /// Only the commands of this session.
    pub(super) narrowed: Option<SessionId>,
    pub(super) filter: String,
    /// Keys go into the filter.
    pub(super) is_typing: bool,
    /// Places in `sessions` or `commands` of the rows that are shown, the best first.
    pub(super) shown: Vec<usize>,
    pub(super) selected: usize,
    /// Rows of the list that fit; told by whoever draws.
    pub(super) page: usize,
    pub(super) preview: Option<Preview>,
    pub(super) pager: Option<Pager>,
    /// The last thing that the user should know.
    pub(super) notice: Option<String>,
    pub(super) is_help: bool,
    pub(super) is_loading: bool,
    matcher: Matcher,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            tab: Tab::Commands,
            sessions: Vec::new(),
            commands: Vec::new(),
            hits: Vec::new(),
            hits_of: String::new(),
            narrowed: None,
            filter: String::new(),
            is_typing: false,
            shown: Vec::new(),
            selected: 0,
            page: 1,
            preview: None,
            pager: None,
            notice: None,
            is_help: false,
            is_loading: true,
            matcher: filter::matcher(),
        }
    }

    /// What the selected row stands for.
    pub(super) fn target(&self) -> Option<Target> {
        let at = *self.shown.get(self.selected)?;
        match self.tab {
            Tab::Sessions => Some(Target::Session(self.sessions.get(at)?.session)),
            Tab::Commands => {
                let row = self.commands.get(at)?;
                Some(Target::Command(row.session, row.info.id))
            }
            Tab::Output => {
                let hit = self.hits.get(at)?;
                let session = hit.at.session;
                Some(hit.command.as_ref().map_or(Target::Session(session), |info| Target::Command(session, info.id)))
            }
        }
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&SessionInfo> {
        self.sessions.iter().find(|info| info.session == id)
    }

    pub(super) fn command(&self, target: Target) -> Option<&CommandRow> {
        let Target::Command(session, id) = target else { return None };
        self.commands.iter().find(|row| row.session == session && row.info.id == id)
    }

    /// All sessions, newest first. Their commands come later, anew.
    pub(super) fn take_sessions(&mut self, sessions: Vec<SessionInfo>) {
        let was = self.target();
        self.sessions = sessions;
        self.commands.clear();
        self.is_loading = true;
        self.look_again(was);
    }

    /// More commands.
    pub(super) fn take_commands(&mut self, rows: Vec<CommandRow>) {
        // Nobody has moved yet: the newest stays selected, whichever comes to be it.
        let was = self.target().filter(|_| !self.is_loading || self.selected > 0);
        self.commands.extend(rows);
        self.commands.sort_by_key(|row| std::cmp::Reverse((row.info.started_at_us, row.info.id)));
        self.look_again(was);
    }

    /// What was found by `text`, if that is still looked for.
    pub(super) fn take_hits(&mut self, text: String, hits: Vec<Hit>) {
        if self.tab == Tab::Output && text == self.filter {
            (self.hits, self.hits_of) = (hits, text);
            self.selected = 0;
            self.refilter();
        }
    }

    /// Nothing more comes.
    pub(super) fn loaded(&mut self) {
        self.is_loading = false;
        // A person whose shells mark nothing sees their sessions at once, not an empty list.
        if self.commands.is_empty() && self.tab == Tab::Commands && self.filter.is_empty() {
            self.show(Tab::Sessions);
        }
    }

    /// Makes `shown` anew and puts the selection on the row that it was on.
    fn look_again(&mut self, was: Option<Target>) {
        self.refilter();
        let again = was.and_then(|was| {
            (0..self.shown.len()).find(|&at| {
                self.selected = at;
                self.target() == Some(was)
            })
        });
        self.selected = again.unwrap_or(0);
    }

    fn refilter(&mut self) {
        let mut filter = Filter::new(&self.filter, &mut self.matcher);
        let mut found: Vec<(u32, usize)> = match self.tab {
            Tab::Commands => {
                let is_of = |row: &CommandRow| self.narrowed.is_none_or(|only| only == row.session);
                let rows = self.commands.iter().enumerate().filter(|(_, row)| is_of(row));
                rows.filter_map(|(at, row)| Some((filter.score(&row.fields())?, at))).collect()
            }
            Tab::Sessions => {
                let score = |info: &SessionInfo| {
                    let (command, id) = (info.attrs.command.join(" "), info.session.to_string());
                    let name = info.attrs.name.as_deref().unwrap_or_default();
                    filter.score(&Fields { fuzzy: [name, &command], whole: [&info.attrs.cwd, &id] })
                };
                self.sessions.iter().map(score).enumerate().filter_map(|(at, score)| Some((score?, at))).collect()
            }
            Tab::Output => (0..self.hits.len()).map(|at| (0, at)).collect(), // the daemon has chosen them
        };
        found.sort_by_key(|&(score, at)| (std::cmp::Reverse(score), at));
        self.shown = found.into_iter().map(|(_, at)| at).collect();
    }

    fn show(&mut self, tab: Tab) {
        self.tab = tab;
        self.selected = 0;
        self.refilter();
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        self.notice = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Action::Quit;
        }
        if self.is_help {
            self.is_help = false;
            return Action::Nothing;
        }
        if let Some(pager) = &mut self.pager {
            return match pager.key(key) {
                super::pager::Said::Nothing => Action::Nothing,
                super::pager::Said::Notice(text) => {
                    self.notice = Some(text);
                    Action::Nothing
                }
                super::pager::Said::Copy(target) => Action::CopyOutput(target),
                super::pager::Said::Closed => {
                    self.pager = None;
                    Action::Nothing
                }
            };
        }
        if let Some(action) = self.moved(key, control) {
            return action;
        }
        if self.is_typing { self.typed(key, control) } else { self.commanded(key.code) }
    }

    /// Keys that work everywhere in a list.
    fn moved(&mut self, key: KeyEvent, control: bool) -> Option<Action> {
        let half = (self.page / 2).max(1);
        match key.code {
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            KeyCode::PageUp => self.step(-self.page.cast_signed()),
            KeyCode::PageDown => self.step(self.page.cast_signed()),
            KeyCode::Char('p' | 'k') if control => self.step(-1),
            KeyCode::Char('n' | 'j') if control => self.step(1),
            KeyCode::Char('u') if control && !self.is_typing => self.step(-half.cast_signed()),
            KeyCode::Char('d') if control => self.step(half.cast_signed()),
            KeyCode::Tab => return Some(self.turned(self.tab.next())),
            KeyCode::BackTab => return Some(self.turned(self.tab.before())),
            KeyCode::Enter => return Some(self.opened()),
            KeyCode::Esc => return Some(self.left()),
            _ => return None,
        }
        Some(Action::Nothing)
    }

    /// To another list. What is typed is looked for there.
    fn turned(&mut self, tab: Tab) -> Action {
        self.narrowed = None;
        self.show(tab);
        self.is_typing |= tab == Tab::Output;
        self.wanted()
    }

    /// What has to be looked for elsewhere.
    fn wanted(&mut self) -> Action {
        if self.tab != Tab::Output || self.filter == self.hits_of {
            return Action::Nothing;
        }
        if self.filter.is_empty() {
            self.take_hits(String::new(), Vec::new());
            return Action::Nothing;
        }
        Action::Search(self.filter.clone())
    }

    fn typed(&mut self, key: KeyEvent, control: bool) -> Action {
        match key.code {
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char('u') if control => self.filter.clear(),
            KeyCode::Char('w') if control => {
                let kept = self.filter.trim_end().rfind(' ').map_or(0, |at| at + 1);
                self.filter.truncate(kept);
            }
            KeyCode::Char(character) if !control && self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(character);
            }
            _ => return Action::Nothing,
        }
        if self.tab != Tab::Output {
            self.selected = 0;
            self.refilter();
        }
        self.wanted()
    }

    fn commanded(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('s') => return self.turned(Tab::Output),
            KeyCode::Char('?') => self.is_help = true,
            KeyCode::Char('k') => self.step(-1),
            KeyCode::Char('j') => self.step(1),
            KeyCode::Char('g') | KeyCode::Home => self.selected = 0,
            KeyCode::Char('G') | KeyCode::End => self.selected = self.shown.len().saturating_sub(1),
            KeyCode::Char('R') => return Action::Reload,
            KeyCode::Char(character @ ('r' | 'a' | 'y' | 'c')) => return self.on_target(character),
            KeyCode::Char(_) => self.notice = Some("\"?\" shows the keys, \"/\" filters".to_owned()),
            _ => {}
        }
        Action::Nothing
    }

    fn on_target(&mut self, key: char) -> Action {
        let Some(target) = self.target() else {
            self.notice = Some("nothing is selected".to_owned());
            return Action::Nothing;
        };
        match key {
            'r' => Action::Replay(target),
            'y' => Action::CopyOutput(target),
            'c' => match self.command(target) {
                Some(row) => Action::CopyText(row.info.line.clone()),
                None => Action::CopyText(target.session().to_string()),
            },
            _ if self.session(target.session()).is_some_and(|info| info.state == SessionState::Running) => {
                Action::Attach(target.session())
            }
            _ => {
                self.notice = Some("that session has ended; \"r\" replays it".to_owned());
                Action::Nothing
            }
        }
    }

    /// Enter: a command's output; a session's commands.
    fn opened(&mut self) -> Action {
        match self.target() {
            Some(Target::Session(session)) if self.commands.iter().any(|row| row.session == session) => {
                self.narrowed = Some(session);
                self.filter.clear();
                self.is_typing = false;
                self.show(Tab::Commands);
                Action::Nothing
            }
            Some(target) => Action::Open(target),
            None => Action::Nothing,
        }
    }

    /// Esc: out of the innermost thing.
    fn left(&mut self) -> Action {
        if self.is_typing || !self.filter.is_empty() {
            self.is_typing = false;
            let was = self.target();
            self.filter.clear();
            self.look_again(was);
            return self.wanted();
        } else if self.narrowed.take().is_some() {
            self.show(Tab::Sessions);
        } else {
            return Action::Quit;
        }
        Action::Nothing
    }

    fn step(&mut self, by: isize) {
        let last = self.shown.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }
}

#[cfg(test)]
mod tests;
