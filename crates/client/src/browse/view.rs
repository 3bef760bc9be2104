//! How `browse` looks. Draws what the model holds and decides nothing; tells the model how much fits.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, List, ListItem, ListState, Paragraph};
use shellkeep_protocol::query::{Hit, SessionInfo, SessionState};

use super::model::{CommandRow, Model, Tab, Target};
use super::pager::Pager;
use crate::report::{in_one_line, printable, size};

/// Columns from which on the preview is beside the list, not below it.
const WIDE_COLUMNS: u16 = 110;

const KEYS: &[(&str, &str)] = &[
    ("↑ ↓ PgUp PgDn, j k, g G", "move"),
    ("/", "filter, fuzzy: a few letters of the command, session or directory"),
    ("s", "search: lines of all output that have what you type"),
    ("Tab", "commands, sessions, output"),
    ("Enter", "open: a command's output, a session's commands"),
    ("y", "copy the output, as text"),
    ("c", "copy the command line (of a session: its id)"),
    ("r", "replay"),
    ("a", "attach, if the session runs"),
    ("R", "read everything again"),
    ("Esc", "out of the filter, back to all, leave"),
    ("q", "leave"),
    ("", ""),
    ("in the output:  /  n N", "find, next, the one before"),
];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    if let Some(pager) = &mut model.pager {
        draw_pager(frame, pager, head, body);
        let keys = if pager.is_typing { format!("/{}█", pager.find) } else { String::new() };
        foot_line(frame, foot, model.notice.as_deref(), &keys, "/ find  y copy  q back");
        return;
    }
    draw_head(frame, model, head);
    let [list, beside] = if body.width >= WIDE_COLUMNS {
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(body)
    } else {
        Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(body)
    };
    model.page = usize::from(list.height).max(1);
    draw_list(frame, model, list);
    draw_preview(frame, model, beside, body.width >= WIDE_COLUMNS);
    let filter = match (model.is_typing, model.filter.is_empty()) {
        (true, _) => format!("/{}█", model.filter),
        (false, false) => format!("/{}", model.filter),
        _ => String::new(),
    };
    foot_line(
        frame,
        foot,
        model.notice.as_deref(),
        &filter,
        "/ filter  Enter open  y copy  Tab switch  ? keys  q leave",
    );
    if model.is_help {
        draw_help(frame);
    }
}

fn draw_head(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let tab = |tab: Tab, text: String| {
        let style = if model.tab == tab { Style::new().bold().reversed() } else { Style::new().dim() };
        Span::styled(format!(" {text} "), style)
    };
    let mut spans = vec![
        tab(Tab::Commands, format!("Commands {}", model.commands.len())),
        Span::raw(" "),
        tab(Tab::Sessions, format!("Sessions {}", model.sessions.len())),
        Span::raw(" "),
        tab(Tab::Output, "Output".to_owned()),
    ];
    if let Some(info) = model.narrowed.and_then(|session| model.session(session)) {
        spans.push(format!("  of {}", printable(&super::words(info))).into());
    }
    if model.is_loading {
        spans.push("  reading …".dim());
    } else if !model.filter.is_empty() {
        spans.push(format!("  {} match", model.shown.len()).dim());
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_list(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    if model.shown.is_empty() {
        let text = match (model.is_loading, model.filter.is_empty(), model.tab) {
            (true, ..) => "",
            (_, false, _) => "nothing matches; Esc shows all again",
            (.., Tab::Output) => "type what the output had; Esc leaves the typing",
            (.., Tab::Commands) => "no commands are recorded yet: bash, zsh and fish mark theirs in \"shellkeep\"",
            (.., Tab::Sessions) => "no sessions are recorded yet: \"shellkeep\" starts one",
        };
        frame.render_widget(Paragraph::new(text.dim()).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    // Only what is seen is made into rows: there may be 100,000.
    let height = usize::from(area.height).max(1);
    let top = (model.selected / height) * height;
    let rows = model.shown.iter().skip(top).take(height).map(|&at| match model.tab {
        Tab::Commands => ListItem::new(command_line(&model.commands[at], model.narrowed.is_some())),
        Tab::Sessions => ListItem::new(session_line(&model.sessions[at])),
        Tab::Output => ListItem::new(hit_line(&model.hits[at], &model.hits_of)),
    });
    let list = List::new(rows).highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = ListState::default().with_selected(Some(model.selected - top));
    frame.render_stateful_widget(list, area, &mut state);
}

fn command_line(row: &CommandRow, is_narrowed: bool) -> Line<'static> {
    let info = &row.info;
    let (status, style) = match (info.exit, info.ended_at_us) {
        (Some(0), _) => ("   ".to_owned(), Style::new()),
        (Some(status), _) => (format!("{status:>3}"), Style::new().fg(Color::Red)),
        (None, Some(_)) => ("  ?".to_owned(), Style::new()),
        (None, None) => ("...".to_owned(), Style::new().fg(Color::Yellow)),
    };
    let mut spans = vec![
        Span::styled(status, style),
        Span::raw(" "),
        Span::styled(format!("{:>4} ", ago(info.started_at_us)), Style::new().dim()),
        Span::raw(in_one_line(&info.line)),
    ];
    if !is_narrowed {
        spans.push(Span::styled(format!("  {}", printable(&row.of)), Style::new().dim()));
    }
    Line::from(spans)
}

/// A line of output, with what it was found by in bold; the first of it that fits.
fn hit_line(hit: &Hit, text: &str) -> Line<'static> {
    let mut spans = vec![Span::styled(format!("{:>4} ", ago(hit.at.time_us)), Style::new().dim())];
    let line = printable(hit.line.trim_start());
    let found = if text.chars().any(char::is_uppercase) { line.find(text) } else { line.to_lowercase().find(text) };
    // Lower case may be longer than what it was made of: then nothing is in bold.
    match found.filter(|&at| line.get(at..at + text.len()).is_some()) {
        Some(at) => {
            let (before, rest) = line.split_at(at);
            let (hit, behind) = rest.split_at(text.len());
            let bold = Style::new().bold().fg(Color::Yellow);
            spans.extend([before.to_owned().into(), Span::styled(hit.to_owned(), bold), behind.to_owned().into()]);
        }
        None => spans.push(line.into()),
    }
    Line::from(spans)
}

fn session_line(info: &SessionInfo) -> Line<'static> {
    let (state, style) = match info.state {
        SessionState::Running => ("running", Style::new().fg(Color::Green)),
        SessionState::Ended => ("ended  ", Style::new().dim()),
        SessionState::Lost => ("lost   ", Style::new().fg(Color::Red)),
    };
    Line::from(vec![
        Span::styled(state, style),
        Span::styled(format!(" {:>4} ", ago(info.attrs.started_at_us)), Style::new().dim()),
        Span::styled(printable(&super::words(info)), Style::new().bold()),
        Span::raw(format!("  {}", printable(&info.attrs.command.join(" ")))),
        Span::styled(format!("  {}", printable(&info.attrs.cwd)), Style::new().dim()),
    ])
}

fn draw_preview(frame: &mut Frame<'_>, model: &Model, area: Rect, is_beside: bool) {
    let border = if is_beside { Borders::LEFT } else { Borders::TOP };
    let block = Block::new().borders(border).border_style(Style::new().dim());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some(preview) = &model.preview else { return };
    let mut lines = match preview.target {
        Target::Command(..) => model.command(preview.target).map(about_command).unwrap_or_default(),
        Target::Session(session) => model.session(session).map(about_session).unwrap_or_default(),
    };
    if let Some(note) = &preview.note {
        lines.push(Line::from(note.clone().dim()));
    }
    if let Target::Session(session) = preview.target {
        lines.push(Line::default());
        let of_it = model.commands.iter().filter(|row| row.session == session);
        lines.extend(of_it.take(usize::from(inner.height)).map(|row| command_line(row, true)));
    }
    lines.push(Line::default());
    let left = usize::from(inner.height).saturating_sub(lines.len());
    let skipped = preview.lines.len().saturating_sub(left);
    lines.extend(preview.lines[skipped..].iter().cloned());
    frame.render_widget(Paragraph::new(lines), inner);
}

fn about_command(row: &CommandRow) -> Vec<Line<'static>> {
    let info = &row.info;
    let took = info.ended_at_us.map(|end| duration(end.saturating_sub(info.started_at_us)));
    let mut lines: Vec<Line<'static>> = info.line.lines().map(|line| Line::from(printable(line).bold())).collect();
    let status = match (info.exit, &took) {
        (Some(exit), Some(took)) => format!("status {exit}, {took}"),
        (None, Some(took)) => format!("{took}, status not told"),
        _ => "still running, or its end was not told".to_owned(),
    };
    let printed = size(info.output_to.saturating_sub(info.output_from));
    let when = crate::cmd::local_time(info.started_at_us);
    lines.push(Line::from(format!("{when}  {status}, printed {printed}").dim()));
    lines.push(Line::from(format!("in {}  number {} of {}", printable(&info.cwd), info.id, printable(&row.of)).dim()));
    lines
}

fn about_session(info: &SessionInfo) -> Vec<Line<'static>> {
    let ended = info.ended_at_us.map_or_else(String::new, |end| format!(", until {}", crate::cmd::local_time(end)));
    let gaps = if info.gaps == 0 { String::new() } else { format!(", {} gaps", info.gaps) };
    vec![
        Line::from(printable(&super::words(info)).bold()),
        Line::from(format!("id {}", info.session).dim()),
        Line::from(format!("from {}{ended}", crate::cmd::local_time(info.attrs.started_at_us)).dim()),
        Line::from(format!("{} of output{gaps}", size(info.output_bytes)).dim()),
    ]
}

fn draw_pager(frame: &mut Frame<'_>, pager: &mut Pager, head: Rect, body: Rect) {
    pager.fit(body.height, body.width);
    let (first, last, all) = pager.place();
    frame.render_widget(Line::from(format!("{}   lines {first} to {last} of {all}", pager.title)).reversed(), head);
    frame.render_widget(Paragraph::new(pager.shown()), body);
}

fn foot_line(frame: &mut Frame<'_>, area: Rect, notice: Option<&str>, typed: &str, keys: &str) {
    let line = match notice {
        Some(notice) => Line::from(notice.to_owned().fg(Color::Yellow)),
        None if typed.is_empty() => Line::from(keys.to_owned().dim()),
        None => Line::from(vec![Span::raw(typed.to_owned()), Span::raw("   "), keys.to_owned().dim()]),
    };
    frame.render_widget(line, area);
}

fn draw_help(frame: &mut Frame<'_>) {
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(keys, what)| Line::from(vec![Span::styled(format!(" {keys:<26}"), Style::new().bold()), (*what).into()]))
        .collect();
    let screen = frame.area();
    let (width, height) = (96.min(screen.width), u16::try_from(KEYS.len() + 2).unwrap_or(u16::MAX).min(screen.height));
    let area = Rect { x: (screen.width - width) / 2, y: (screen.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Keys ")), area);
}

/// How long ago, in four characters.
fn ago(us: u64) -> String {
    let seconds = crate::keeper::spool::now_us().saturating_sub(us) / 1_000_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn duration(us: u64) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        0..60 => format!("{}.{:01} s", seconds, us / 100_000 % 10),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
