//! What the palette shows, and what each key does to it. A pure machine: it neither asks the daemon nor draws.
//!
//! Promises that the selected command stays selected when the list changes under it, and that Enter chooses what was shown
//! as selected.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use shellkeep_protocol::registry::{EntryInfo, Kind, Scope};

use super::data::Found;
use super::line::line;

/// Most bytes that are looked for; more are not taken.
pub(super) const QUERY_BYTES_MAX: usize = 200;

/// What is to be done outside of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// The text is another one.
    Search,
    /// This line was chosen.
    Choose(String),
    Leave,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) query: String,
    pub(super) entries: Vec<EntryInfo>,
    /// There are more that match.
    pub(super) is_cut: bool,
    /// Nothing was told yet.
    pub(super) is_loading: bool,
    pub(super) selected: usize,
    /// Rows of the list that fit; told by whoever draws.
    pub(super) page: usize,
    /// Why what is shown may be old.
    pub(super) trouble: Option<String>,
    /// What the entries were found by.
    found_by: String,
    /// Enter was pressed before what it is about was found.
    is_awaited: bool,
}

impl Model {
    pub(super) fn new(query: &str) -> Self {
        let mut model = Self {
            query: String::new(),
            entries: Vec::new(),
            is_cut: false,
            is_loading: true,
            selected: 0,
            page: 1,
            trouble: None,
            found_by: String::new(),
            is_awaited: false,
        };
        model.paste(query);
        model
    }

    pub(super) fn entry(&self) -> Option<&EntryInfo> {
        self.entries.get(self.selected)
    }

    /// What was found. If the same text had found others before, the selected one stays selected.
    pub(super) fn take(&mut self, mut found: Found) -> Action {
        let was = self.entry().map(|entry| entry.id.clone());
        let was = was.filter(|_| found.query == self.found_by && self.selected > 0);
        // Hooks and agents are listed elsewhere, and never run.
        found.entries.retain(|entry| !matches!(entry.kind, Kind::Hook | Kind::Agent));
        if found.query.is_empty() {
            found.entries.sort_by_key(|entry| order(entry.scope)); // the nearest first; else the best
        }
        let again = was.and_then(|was| found.entries.iter().position(|entry| entry.id == was));
        self.selected = again.unwrap_or(0);
        (self.entries, self.is_cut, self.found_by) = (found.entries, found.is_cut, found.query);
        (self.is_loading, self.trouble) = (false, None);
        if std::mem::take(&mut self.is_awaited) { self.choose() } else { Action::Nothing }
    }

    /// More text, of which what cannot be in a name is left out.
    pub(super) fn paste(&mut self, text: &str) -> Action {
        let room = QUERY_BYTES_MAX.saturating_sub(self.query.len());
        let text: String = text.chars().filter(|character| !character.is_control()).collect();
        self.query.push_str(&text[..text.floor_char_boundary(room)]);
        Action::Search
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        self.is_awaited = false;
        match key.code {
            KeyCode::Esc => return Action::Leave,
            KeyCode::Char('c' | 'g') if control => return Action::Leave,
            KeyCode::Enter => return self.choose(),
            KeyCode::Up | KeyCode::BackTab => self.up(1),
            KeyCode::Down | KeyCode::Tab => self.down(1),
            KeyCode::Char('p' | 'k') if control => self.up(1),
            KeyCode::Char('n' | 'j') if control => self.down(1),
            KeyCode::PageUp => self.up(self.page),
            KeyCode::PageDown => self.down(self.page),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.down(usize::MAX),
            KeyCode::Backspace => return self.shorten(|query| query.pop().is_some()),
            KeyCode::Char('h') if control => return self.shorten(|query| query.pop().is_some()),
            KeyCode::Char('u') if control => return self.shorten(|query| !std::mem::take(query).is_empty()),
            KeyCode::Char('w') if control => return self.shorten(shorten_by_word),
            KeyCode::Char(character) if !control && !key.modifiers.contains(KeyModifiers::ALT) => {
                return self.paste(character.encode_utf8(&mut [0; 4]));
            }
            _ => {}
        }
        Action::Nothing
    }

    fn choose(&mut self) -> Action {
        // What was typed since is not in the list yet: what Enter is about comes at once, and then the best of it is chosen.
        self.is_awaited = self.found_by != self.query || self.is_loading;
        let entry = self.entry().filter(|_| !self.is_awaited);
        entry.map_or(Action::Nothing, |entry| Action::Choose(line(entry, &self.entries)))
    }

    fn up(&mut self, rows: usize) {
        self.selected = self.selected.saturating_sub(rows);
    }

    fn down(&mut self, rows: usize) {
        self.selected = self.selected.saturating_add(rows).min(self.entries.len().saturating_sub(1));
    }

    fn shorten(&mut self, act: impl FnOnce(&mut String) -> bool) -> Action {
        if act(&mut self.query) { Action::Search } else { Action::Nothing }
    }
}

/// Which commands are nearer to who looks at all of them.
fn order(scope: Scope) -> u8 {
    match scope {
        Scope::Session => 0,
        Scope::Project => 1,
        Scope::User => 2,
        Scope::Builtin => 3,
    }
}

fn shorten_by_word(query: &mut String) -> bool {
    let before = query.len();
    let kept = query.trim_end().rfind(char::is_whitespace).map_or(0, |at| at + 1);
    query.truncate(kept);
    query.len() < before
}

#[cfg(test)]
mod tests {
    use shellkeep_protocol::registry::{Digest, EntryState, Trust};

    use super::*;

    fn entry(qualified: &str) -> EntryInfo {
        let name = qualified.rsplit(':').next().unwrap_or(qualified);
        EntryInfo {
            id: format!("project/{}", qualified.replace(':', "/")),
            name: name.to_owned(),
            qualified_name: qualified.to_owned(),
            kind: Kind::Task,
            scope: Scope::Project,
            source: "just".to_owned(),
            path: None,
            description: String::new(),
            args_hint: None,
            schema: None,
            group: None,
            display_name: None,
            aliases: Vec::new(),
            trust: Trust::Pending,
            state: EntryState::Ready,
            shadowed_by: None,
            runs: String::new(),
            digest: Digest::default(),
        }
    }

    fn found(query: &str, names: &[&str]) -> Found {
        Found { query: query.to_owned(), entries: names.iter().map(|name| entry(name)).collect(), is_cut: false }
    }

    fn press(model: &mut Model, code: KeyCode) -> Action {
        model.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn the_chosen_one_of_several_with_one_name_is_the_one_that_was_selected() {
        let mut model = Model::new("test");
        model.take(found("test", &["just:test", "npm:test"]));
        press(&mut model, KeyCode::Down);
        assert_eq!(press(&mut model, KeyCode::Enter), Action::Choose("shellkeep run npm:test ".to_owned()));
        // Even two of one qualified name.
        model.take(found("test", &["claude:test", "claude:test"]));
        assert_eq!(press(&mut model, KeyCode::Enter), Action::Choose("shellkeep run project/claude/test ".to_owned()));
    }

    #[test]
    fn a_change_of_the_list_moves_no_selection_to_another_command() {
        let mut model = Model::new("");
        model.take(found("", &["a", "b", "c"]));
        press(&mut model, KeyCode::Down);
        model.take(found("", &["new", "a", "b", "c"]));
        assert_eq!(model.entry().unwrap().name, "b");
        model.take(found("", &["new", "c"]));
        assert_eq!(model.selected, 0);
        press(&mut model, KeyCode::End);
        model.take(found("c", &["x", "c"])); // another text: the best is selected
        assert_eq!(model.entry().unwrap().name, "x");
    }

    #[test]
    fn enter_is_about_what_is_typed_even_if_that_is_found_later() {
        let mut model = Model::new("");
        model.take(found("", &["deploy"]));
        assert_eq!(press(&mut model, KeyCode::Char('x')), Action::Search);
        assert_eq!(press(&mut model, KeyCode::Enter), Action::Nothing); // not the one that is still shown
        assert_eq!(model.take(found("x", &["just:x"])), Action::Choose("shellkeep run just:x ".to_owned()));
        press(&mut model, KeyCode::Char('y'));
        press(&mut model, KeyCode::Enter);
        press(&mut model, KeyCode::Backspace); // thought better of it
        assert_eq!(model.take(found("x", &["just:x"])), Action::Nothing);
        model.take(found("x", &[]));
        assert_eq!(press(&mut model, KeyCode::Enter), Action::Nothing);
    }

    #[test]
    fn text_is_edited_by_letter_word_and_whole() {
        let mut model = Model::new("one two\u{7}");
        let control =
            |model: &mut Model, letter| model.key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL));
        assert_eq!(control(&mut model, 'w'), Action::Search);
        assert_eq!(model.query, "one ");
        press(&mut model, KeyCode::Backspace);
        assert_eq!(model.query, "one");
        control(&mut model, 'u');
        assert!(model.query.is_empty());
        assert_eq!(control(&mut model, 'u'), Action::Nothing);
        model.paste(&"é".repeat(QUERY_BYTES_MAX));
        assert_eq!(model.query.len(), QUERY_BYTES_MAX);
        assert_eq!(control(&mut model, 'c'), Action::Leave);
    }
}
