//! What a person is asked before a command of a project runs.
//!
//! Promise: short enough for a small terminal, with the command's name, project and line right above the answer; nothing in it makes a
//! terminal act. What does not fit is counted, and `shellkeep trust --show` has it.

use std::time::Duration;

use shellkeep_protocol::registry::{ALL_OF, Kind, TrustQuestion};
use similar::{ChangeTag, TextDiff};
use unicode_width::UnicodeWidthChar as _;

use crate::report::{printable, printable_line};

/// Rows of what is the command's own, of what has changed of it, and of the line that would run: together less than a small terminal has.
const OWN_ROWS_MAX: usize = 10;
const CHANGED_ROWS_MAX: usize = 10;
const LINE_ROWS_MAX: usize = 4;

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 2;

/// How long a difference is looked for; then it is told less finely.
const LOOK_WAIT_MAX: Duration = Duration::from_millis(200);

/// Fewest columns that text is folded to.
const COLUMNS_MIN: usize = 20;

/// How it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Of the terminal.
    pub(super) columns: usize,
    pub(super) colours: bool,
}

/// All of it but the words that ask.
pub(super) fn text(question: &TrustQuestion, form: Form) -> String {
    let name = printable(&question.entry.qualified_name);
    let root = printable(&question.root);
    let rows = match &question.before {
        None => own_rows(question, &name, form),
        Some(before) => changed_rows(before, question, &name, form),
    };
    let head = match &question.before {
        None => format!("{name} of {root} is new here:"),
        Some(before) if own(before) == own(&question.runs) => {
            format!(
                "{name} of {root} has changed since you agreed to it: not the command itself, but what else decides:"
            )
        }
        Some(_) => format!("{name} of {root} has changed since you agreed to it, the command itself:"),
    };
    let mut line = folded("  ", &question.line, form.columns);
    cut_rows(&mut line, LINE_ROWS_MAX, || format!("  … all of it: \"shellkeep trust --show {name}\""));
    let mut text = head + "\n";
    for row in rows.iter().chain([&String::new(), &format!("{name} of {root} {}:", would(question))]).chain(&line) {
        text.push_str(row);
        text.push('\n');
    }
    text
}

/// All that decides what it does, and all that has changed of it.
pub(super) fn whole(question: &TrustQuestion, form: Form) -> String {
    let mut text: String = question.runs.iter().map(|line| printable_line(line) + "\n").collect();
    if let Some(before) = question.before.as_ref().filter(|before| **before != question.runs) {
        text.push_str("\nWhat has changed since you agreed to it:\n");
        for (tag, line) in changes(before, &question.runs) {
            text.push_str(&painted(tag, &printable_line(&line), form.colours));
            text.push('\n');
        }
    }
    text
}

/// What becomes of it if the answer is yes.
fn would(question: &TrustQuestion) -> &'static str {
    match question.entry.kind {
        Kind::McpServer if question.runs.iter().any(|line| line.starts_with("talks to:")) => "would be reached at",
        Kind::McpServer => "would be started as",
        Kind::Prompt | Kind::Skill => "would give your agent a text that begins",
        _ => "would run",
    }
}

/// The lines before those of whole files.
fn own(lines: &[String]) -> &[String] {
    let end = lines.iter().position(|line| line.starts_with(ALL_OF)).unwrap_or(lines.len());
    &lines[..end]
}

fn own_rows(question: &TrustQuestion, name: &str, form: Form) -> Vec<String> {
    let mut rows = Vec::new();
    let mut shown = 0;
    for line in own(&question.runs) {
        let folded = folded("  ", line, form.columns);
        if rows.len() + folded.len() > OWN_ROWS_MAX && shown > 0 {
            break;
        }
        rows.extend(folded);
        shown += 1;
    }
    cut_rows(&mut rows, OWN_ROWS_MAX, || format!("  … all of it: \"shellkeep trust --show {name}\""));
    let more = question.runs.len() - shown;
    if more > 0 {
        rows.push(more_lines("decide", more, name));
    }
    rows
}

fn changed_rows(before: &[String], question: &TrustQuestion, name: &str, form: Form) -> Vec<String> {
    let all = changes(before, &question.runs);
    let mut rows = Vec::new();
    let mut shown = 0;
    for (tag, line) in &all {
        let folded = folded(mark(*tag), line, form.columns);
        if rows.len() + folded.len() > CHANGED_ROWS_MAX && shown > 0 {
            break;
        }
        rows.extend(folded.into_iter().take(CHANGED_ROWS_MAX).map(|row| coloured(*tag, row, form.colours)));
        shown += 1;
    }
    if all.is_empty() {
        rows.push("  what differs is behind the lines that were kept of it".to_owned());
    }
    if shown < all.len() {
        rows.push(more_lines("of this", all.len() - shown, name));
    }
    rows
}

fn more_lines(of_what: &str, count: usize, name: &str) -> String {
    let lines = if count == 1 { "line" } else { "lines" };
    format!("  … {count} more {lines} {of_what}: \"shellkeep trust --show {name}\" has all")
}

/// What has changed, with some lines around it; a line of dots between places that are apart.
fn changes(before: &[String], now: &[String]) -> Vec<(Option<ChangeTag>, String)> {
    let (before, now): (Vec<&str>, Vec<&str>) =
        (before.iter().map(String::as_str).collect(), now.iter().map(String::as_str).collect());
    let diff = TextDiff::configure().timeout(LOOK_WAIT_MAX).diff_slices(&before, &now);
    let mut changes = Vec::new();
    for (at, group) in diff.grouped_ops(CONTEXT_LINES).iter().enumerate() {
        if at > 0 {
            changes.push((None, "…".to_owned()));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            changes.push((Some(change.tag()), change.value().to_owned()));
        }
    }
    changes
}

fn mark(tag: Option<ChangeTag>) -> &'static str {
    match tag {
        Some(ChangeTag::Delete) => "- ",
        Some(ChangeTag::Insert) => "+ ",
        Some(ChangeTag::Equal) | None => "  ",
    }
}

fn painted(tag: Option<ChangeTag>, line: &str, colours: bool) -> String {
    coloured(tag, mark(tag).to_owned() + line, colours)
}

fn coloured(tag: Option<ChangeTag>, row: String, colours: bool) -> String {
    match tag {
        Some(ChangeTag::Delete) if colours => format!("\x1b[31m{row}\x1b[0m"),
        Some(ChangeTag::Insert) if colours => format!("\x1b[32m{row}\x1b[0m"),
        _ => row,
    }
}

/// `text` in rows of a terminal, each behind `mark`; what begins a row is not lost in the middle of another.
fn folded(mark: &str, text: &str, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(mark.len()).max(COLUMNS_MIN);
    let mut rows = Vec::new();
    for line in text.lines() {
        let mut row = String::new();
        let mut width = 0;
        for character in printable_line(line).replace('\t', "    ").chars() {
            let wide = character.width().unwrap_or(0);
            if width + wide > room {
                rows.push(format!("{mark}{row}"));
                (row, width) = (String::new(), 0);
            }
            row.push(character);
            width += wide;
        }
        rows.push(format!("{mark}{row}"));
    }
    if rows.is_empty() {
        rows.push(mark.trim_end().to_owned());
    }
    rows
}

/// At most so many rows, the last of which says that there are more.
fn cut_rows(rows: &mut Vec<String>, most: usize, more: impl FnOnce() -> String) {
    if rows.len() > most {
        rows.truncate(most - 1);
        rows.push(more());
    }
}

#[cfg(test)]
mod tests {
    use shellkeep_protocol::registry::{Digest, EntryInfo, EntryState, Scope, Trust};

    use super::*;

    const FORM: Form = Form { columns: 80, colours: false };

    fn question(runs: &[&str], before: Option<&[&str]>, line: &str) -> TrustQuestion {
        let texts = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let entry = EntryInfo {
            id: "project/just/test".into(),
            name: "test".into(),
            qualified_name: "just:test".into(),
            kind: Kind::Task,
            scope: Scope::Project,
            source: "just".into(),
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
            runs: "just test".into(),
            digest: Digest::default(),
        };
        TrustQuestion { entry, root: "/p".into(), line: line.into(), runs: texts(runs), before: before.map(texts) }
    }

    /// Neither a long file nor a long line moves the point of it off a small terminal.
    #[test]
    fn all_that_counts_stands_in_the_last_rows() {
        let file: Vec<String> = (0..500).map(|number| format!("  line {number}")).collect();
        let long = "x".repeat(5_000);
        let mut runs = vec!["in: /p", "runs: just test", &long, "all of justfile:"];
        runs.extend(file.iter().map(String::as_str));
        for before in [None, Some(&["in: /p", "runs: just other"][..])] {
            let shown = text(&question(&runs, before, &format!("just test {long}")), FORM);
            assert!(shown.lines().count() <= 22, "{shown}");
            assert!(shown.lines().all(|line| line.chars().count() <= 110), "{shown}");
            assert!(shown.contains("more lines") && shown.contains("\"shellkeep trust --show just:test\""), "{shown}");
            let tail = shown.lines().rev().take(LINE_ROWS_MAX + 1).collect::<Vec<_>>();
            assert!(tail.last().is_some_and(|line| *line == "just:test of /p would run:"), "{shown}");
        }
    }

    #[test]
    fn what_has_changed_is_told_with_its_surroundings_and_whether_it_is_the_command() {
        let before = ["runs: just a", "all of justfile:", "  1", "  2", "  3", "  4", "  old", "  5", "  6", "  7"];
        let now = ["runs: just a", "all of justfile:", "  1", "  2", "  3", "  4", "  new", "  5", "  6", "  7"];
        let shown = text(&question(&now, Some(&before), "just a"), FORM);
        assert!(shown.contains("not the command itself"), "{shown}");
        assert!(shown.contains("\n    3\n    4\n-   old\n+   new\n    5\n    6\n\n"), "{shown}");
        let shown = text(&question(&["runs: just b"], Some(&before[..1]), "just b"), FORM);
        assert!(shown.contains("the command itself:\n- runs: just a\n+ runs: just b\n"), "{shown}");
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_is_asked() {
        let hostile = "runs: \x1b[2Jx\u{202e}y\u{7}";
        for shown in [
            text(&question(&[hostile], Some(&["\x1b]0;t\u{7}"]), "a\rb\x1b[A"), FORM),
            text(&question(&[hostile], None, "a\u{202e}"), FORM),
            whole(&question(&[hostile], Some(&["\x1bc"]), "a"), FORM),
        ] {
            assert!(!shown.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{shown:?}");
        }
    }
}
