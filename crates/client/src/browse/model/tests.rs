use shellkeep_journal::Seq;
use shellkeep_protocol::query::Cursor;
use shellkeep_protocol::session::Attrs;

use super::*;

fn session(name: &str) -> SessionInfo {
    SessionInfo {
        session: SessionId::new(),
        attrs: Attrs { name: Some(name.to_owned()), ..Attrs::default() },
        state: SessionState::Running,
        connected: true,
        ended_at_us: None,
        exit: None,
        output_bytes: 0,
        gaps: 0,
    }
}

fn row(of: &SessionInfo, id: u64, line: &str) -> CommandRow {
    let info = CommandInfo {
        id,
        line: line.to_owned(),
        cwd: "/src".to_owned(),
        started_at_us: id,
        ended_at_us: None,
        exit: None,
        first_seq: Seq::FIRST,
        output_from: 0,
        output_to: 0,
    };
    CommandRow { session: of.session, of: of.attrs.name.clone().unwrap_or_default(), info }
}

fn filled() -> Model {
    let mut model = Model::new();
    let (one, two) = (session("one"), session("two"));
    let rows = vec![row(&one, 1, "make all"), row(&one, 2, "git status"), row(&two, 3, "make test")];
    model.take_sessions(vec![two, one]);
    model.take_commands(rows);
    model.loaded();
    model
}

fn press(model: &mut Model, keys: &str) -> Action {
    keys.chars().fold(Action::Nothing, |_, key| {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            other => KeyCode::Char(other),
        };
        model.key(KeyEvent::new(code, KeyModifiers::NONE))
    })
}

fn lines(model: &Model) -> Vec<&str> {
    model.shown.iter().map(|&at| model.commands[at].info.line.as_str()).collect()
}

#[test]
fn commands_of_all_sessions_are_listed_newest_first_and_filtered_by_a_few_letters() {
    let mut model = filled();
    assert_eq!(lines(&model), ["make test", "git status", "make all"]);
    press(&mut model, "/gst");
    assert_eq!(lines(&model), ["git status"]);
    press(&mut model, "\x1b");
    assert_eq!(lines(&model).len(), 3);
    press(&mut model, "/one make");
    assert_eq!(lines(&model), ["make all"]);
}

#[test]
fn a_word_is_not_scattered_over_a_path_nor_over_two_places() {
    let mut model = filled();
    model.commands[0].info.cwd = "/ci/work/crates/client".to_owned();
    press(&mut model, "/mcwan"); // "make", and then the path
    assert_eq!(lines(&model), [""; 0]);
    press(&mut model, "\x1b/mtwo"); // "make test", and then the session's name
    assert_eq!(lines(&model), [""; 0]);
    press(&mut model, "\x1b/crates mt");
    assert_eq!(lines(&model), ["make test"]);
    press(&mut model, "\x1b/make !crates");
    assert_eq!(lines(&model), ["make all"]);
}

#[test]
fn the_selected_row_stays_selected_while_more_arrive() {
    let mut model = filled();
    press(&mut model, "j");
    let before = model.target();
    let newer = row(&model.sessions[0].clone(), 9, "newer");
    model.take_commands(vec![newer]);
    assert_eq!((model.target(), model.selected), (before, 2));
}

#[test]
fn letters_are_commands_in_the_list_and_text_in_the_filter() {
    let mut model = filled();
    let selected = model.target().unwrap();
    assert_eq!(press(&mut model, "y"), Action::CopyOutput(selected));
    assert_eq!(press(&mut model, "c"), Action::CopyText("make test".to_owned()));
    assert_eq!(press(&mut model, "r"), Action::Replay(selected));
    assert_eq!(press(&mut model, "a"), Action::Attach(selected.session()));
    assert_eq!((press(&mut model, "/yq"), model.filter.as_str()), (Action::Nothing, "yq"));
    assert_eq!((press(&mut model, "\x1b"), press(&mut model, "q")), (Action::Nothing, Action::Quit));
}

#[test]
fn enter_opens_a_command_and_narrows_to_a_session_and_escape_goes_back() {
    let mut model = filled();
    let target = model.target().unwrap();
    assert_eq!(press(&mut model, "\n"), Action::Open(target));
    press(&mut model, "\tj\n");
    assert_eq!(lines(&model), ["git status", "make all"]);
    press(&mut model, "\x1b");
    assert_eq!((model.tab, model.narrowed), (Tab::Sessions, None));
    assert_eq!(press(&mut model, "\x1b"), Action::Quit);
}

#[test]
fn with_no_marked_commands_the_sessions_are_shown_and_keys_without_a_row_say_so() {
    let mut model = Model::new();
    model.take_sessions(vec![session("only")]);
    model.take_commands(Vec::new());
    model.loaded();
    assert_eq!((model.tab, model.shown.len()), (Tab::Sessions, 1));
    model.take_sessions(Vec::new());
    assert_eq!(press(&mut model, "y"), Action::Nothing);
    assert_eq!(model.notice.as_deref(), Some("nothing is selected"));
    assert_eq!(press(&mut model, "\n"), Action::Nothing);
}

#[test]
fn what_is_typed_at_the_output_is_looked_for_and_late_answers_are_dropped() {
    let mut model = filled();
    assert_eq!(press(&mut model, "se"), Action::Search("e".to_owned()));
    assert_eq!(press(&mut model, "rr"), Action::Search("err".to_owned()));
    let session = model.sessions[0].session;
    let hit = |line: &str| Hit {
        at: Cursor { time_us: 1, session, line: 0 },
        seq: Seq::FIRST,
        name: None,
        command: Some(row(&model.sessions[0], 3, "make test").info),
        is_command: false,
        line: line.to_owned(),
        before: Vec::new(),
        behind: Vec::new(),
    };
    let (late, right) = (hit("late"), hit("an error"));
    model.take_hits("e".to_owned(), vec![late]);
    assert!(model.shown.is_empty());
    model.take_hits("err".to_owned(), vec![right]);
    assert_eq!((model.shown.len(), model.target()), (1, Some(Target::Command(session, 3))));
    assert_eq!(press(&mut model, "\n"), Action::Open(Target::Command(session, 3)));
}
