//! How the palette looks. Draws what the model holds and decides nothing; tells the model how much fits.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, List, ListItem, ListState, Paragraph, Wrap};
use shellkeep_protocol::registry::{EntryInfo, EntryState, Scope, Trust};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::model::Model;
use crate::cmd::NOT_TRUSTED;
use crate::report::printable;

/// Columns from which on the preview is beside the list, not below it.
const WIDE_COLUMNS: u16 = 110;
/// Rows from which on there is a preview below the list, and its own.
const TALL_ROWS: u16 = 9;
const PREVIEW_ROWS_MAX: u16 = 8;
/// Rows from which on the last one says what keys do.
const FOOT_ROWS: u16 = 4;
/// Columns of the list from which on the scope has one of its own.
const SCOPE_COLUMNS: u16 = 56;
/// Widest column of names.
const NAME_COLUMNS_MAX: usize = 32;
const PROMPT: &str = "> ";

/// Whether there are colours; without them marks and bold letters say all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ink {
    pub(super) colours: bool,
}

impl Ink {
    fn of(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn of_scope(self, scope: Scope) -> Style {
        match scope {
            Scope::Builtin => Style::new().dim(),
            Scope::User => self.of(Color::Green),
            Scope::Project => self.of(Color::Cyan),
            Scope::Session => self.of(Color::Magenta),
        }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, ink: Ink) {
    let screen = frame.area();
    let foot = u16::from(screen.height >= FOOT_ROWS);
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(foot)]).areas(screen);
    draw_query(frame, model, head);
    let is_beside = body.width >= WIDE_COLUMNS;
    let (list, preview) = if is_beside {
        let [list, preview] = Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(body);
        (list, Some(preview))
    } else if body.height >= TALL_ROWS {
        let rows = PREVIEW_ROWS_MAX.min(body.height / 2);
        let [list, preview] = Layout::vertical([Constraint::Min(1), Constraint::Length(rows)]).areas(body);
        (list, Some(preview))
    } else {
        (body, None)
    };
    model.page = usize::from(list.height).max(1);
    draw_list(frame, model, list, ink);
    if let Some(area) = preview {
        draw_preview(frame, model, area, is_beside, ink);
    }
    draw_foot(frame, model, foot, ink);
}

/// What is looked for; of a long text the end, where the cursor is.
fn draw_query(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let count = match (model.is_loading, model.is_cut) {
        (true, _) => "…".to_owned(),
        (false, cut) => format!("{}{}", model.entries.len(), if cut { "+" } else { "" }),
    };
    let width = usize::from(area.width);
    let query = printable(&model.query);
    let room = width.saturating_sub(PROMPT.width() + 1);
    let mut shown = query.as_str();
    while shown.width() > room {
        let mut characters = shown.chars();
        characters.next();
        shown = characters.as_str();
    }
    let left = PROMPT.width() + shown.width();
    let mut spans = vec![Span::styled(PROMPT, Style::new().bold()), Span::raw(shown.to_owned())];
    if left + count.width() + 2 <= width {
        spans.push(Span::raw(" ".repeat(width - left - count.width())));
        spans.push(count.dim());
    }
    frame.render_widget(Line::from(spans), area);
    let column = u16::try_from(left).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
    frame.set_cursor_position((area.x + column, area.y));
}

fn draw_list(frame: &mut Frame<'_>, model: &Model, area: Rect, ink: Ink) {
    if model.entries.is_empty() {
        let text = match (model.is_loading, model.query.is_empty()) {
            (true, _) => "",
            (_, true) => "this session has no commands: none in its project, none of yours",
            (_, false) => "nothing matches",
        };
        frame.render_widget(Paragraph::new(text.dim()).wrap(Wrap { trim: true }), area);
        return;
    }
    // Only what is seen is made into rows.
    let height = usize::from(area.height).max(1);
    let top = (model.selected / height) * height;
    let seen = || model.entries.iter().skip(top).take(height);
    let widest = seen().map(|entry| printable(&entry.qualified_name).width()).max().unwrap_or(0);
    let width = widest.min(NAME_COLUMNS_MAX).min(usize::from(area.width).saturating_sub(2));
    let rows = seen().map(|entry| ListItem::new(row(entry, width, area.width >= SCOPE_COLUMNS, ink)));
    let list = List::new(rows).highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = ListState::default().with_selected(Some(model.selected - top));
    frame.render_stateful_widget(list, area, &mut state);
}

/// What stands in the way of running it, in one character.
fn mark(entry: &EntryInfo, ink: Ink) -> Span<'static> {
    match (entry.trust, &entry.state) {
        (Trust::Denied, _) => Span::styled("! ", ink.of(Color::Red)),
        (_, EntryState::Unavailable(_)) => Span::styled("- ", ink.of(Color::Red)),
        (Trust::Pending, _) => Span::styled("? ", ink.of(Color::Yellow)),
        (Trust::Trusted, EntryState::Starting) => Span::styled("… ", Style::new().dim()),
        (Trust::Trusted, EntryState::Ready) => Span::raw("  "),
    }
}

fn row(entry: &EntryInfo, width: usize, has_scope: bool, ink: Ink) -> Line<'static> {
    // The owner is part of the name, so that several of one name are told apart.
    let name = fitted(&printable(&entry.qualified_name), width);
    let own = printable(&entry.name);
    let at = name.rfind(own.as_str()).filter(|at| at + own.len() == name.trim_end().len()).unwrap_or(0);
    let style = ink.of_scope(entry.scope);
    let mut spans = vec![
        mark(entry, ink),
        Span::styled(name[..at].to_owned(), style.add_modifier(Modifier::DIM)),
        Span::styled(name[at..].to_owned(), style.add_modifier(Modifier::BOLD)),
    ];
    if has_scope {
        spans.push(Span::styled(format!("  {:<7}", entry.scope.name()), style));
    }
    spans.push(Span::raw(format!("  {}", printable(&entry.description))));
    Line::from(spans)
}

/// Exactly so many columns of it.
fn fitted(text: &str, width: usize) -> String {
    let mut columns = 0;
    let is_whole = text.width() <= width;
    let room = if is_whole { width } else { width.saturating_sub(1) };
    let fits = |character: &char| {
        columns += character.width().unwrap_or(0);
        columns <= room
    };
    let mut shown: String = text.chars().take_while(fits).collect();
    if !is_whole {
        shown.push('…');
    }
    let missing = width.saturating_sub(shown.width());
    shown + &" ".repeat(missing)
}

fn draw_preview(frame: &mut Frame<'_>, model: &Model, area: Rect, is_beside: bool, ink: Ink) {
    let border = if is_beside { Borders::LEFT } else { Borders::TOP };
    let block = Block::new().borders(border).border_style(Style::new().dim());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some(entry) = model.entry() else { return };
    let paragraph = Paragraph::new(about(entry, ink));
    frame.render_widget(if is_beside { paragraph.wrap(Wrap { trim: false }) } else { paragraph }, inner);
}

fn about(entry: &EntryInfo, ink: Ink) -> Vec<Line<'static>> {
    let hint = entry.args_hint.as_deref().map(printable).unwrap_or_default();
    let mut lines = vec![Line::from(vec![printable(&entry.qualified_name).bold(), format!(" {hint}").into()])];
    if entry.trust != Trust::Trusted {
        let words = format!("{NOT_TRUSTED}: running it shows what it does, and asks");
        lines.push(Line::styled(words, ink.of(Color::Yellow)));
    }
    if let EntryState::Unavailable(why) = &entry.state {
        lines.push(Line::styled(format!("unavailable: {}", printable(why)), ink.of(Color::Red)));
    }
    let mut line = |what: &str, value: &str| {
        if !value.is_empty() {
            lines.push(Line::from(vec![format!("{what:<6} ").dim(), printable(value).into()]));
        }
    };
    line("is", &entry.description);
    line("runs", &entry.runs);
    line("from", entry.path.as_deref().unwrap_or(&entry.source));
    line("kind", &format!("{}, {}", entry.kind.name().replace('_', " "), entry.scope.name()));
    if let Some(other) = &entry.shadowed_by {
        line("name", &format!("\"{}\" alone means {other}", entry.name));
    }
    lines
}

fn draw_foot(frame: &mut Frame<'_>, model: &Model, area: Rect, ink: Ink) {
    let line = match &model.trouble {
        Some(words) => Line::styled(printable(words), ink.of(Color::Yellow)),
        None => Line::from("Enter insert  Esc leave  ↑ ↓ move  ? not trusted yet".dim()),
    };
    frame.render_widget(line, area);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_the_columns_that_they_are_given() {
        for (text, width, shown) in
            [("ab", 4, "ab  "), ("abcde", 4, "abc…"), ("日本語", 4, "日… "), ("日本語", 6, "日本語"), ("a", 0, "…")]
        {
            let fitted = fitted(text, width);
            assert_eq!(fitted, shown, "{text} in {width}");
        }
    }
}
