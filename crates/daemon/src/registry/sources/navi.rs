//! Cheats of navi: `.cheat` files of tags (`%`), descriptions (`#`), lines, and variables (`$`), which are never run.

use std::path::Path;

use super::admit::slug;
use super::item::{Argument, Exec, Item, Kind};
use super::just::hint;
use super::scan::{Scan, SourceFile, ends_with};
use super::template::{Line, Places, places, refusal};

/// Cheats that lie in a project.
pub(super) fn project(scan: &mut Scan<'_>) {
    for entry in scan.entries(Path::new(""), |name| ends_with(name, "cheat")) {
        if !entry.is_dir {
            file(scan, &entry.path);
        }
    }
    for dir in [".navi", ".cheats", "cheats"] {
        below(scan, Path::new(dir));
    }
}

/// Where navi keeps the user's.
pub(super) fn user(scan: &mut Scan<'_>) {
    below(scan, Path::new(".local/share/navi/cheats"));
}

fn below(scan: &mut Scan<'_>, dir: &Path) {
    for path in scan.walk(dir, |name| ends_with(name, "cheat")) {
        file(scan, &path);
    }
}

fn file(scan: &mut Scan<'_>, path: &Path) {
    let Some(file) = scan.file(path) else { return };
    let (mut tags, mut description) = (String::new(), String::new());
    let mut lines: Vec<&str> = Vec::new();
    let mut begin = 0;
    let text = file.text.clone();
    for (line, number) in text.lines().zip(1_u32..) {
        let mark = line.trim_start().chars().next();
        let is_line =
            !matches!(mark, None | Some('%' | '#' | ';' | '$' | '@')) && !line.trim_start().starts_with("```");
        if is_line {
            if lines.is_empty() {
                begin = number;
            }
            lines.push(line);
            continue;
        }
        cheat(scan, &file, &tags, &mut description, &mut lines, begin);
        let said = || line.trim_start()[1..].trim().to_owned();
        match mark {
            Some('%') => tags = said(),
            Some('#') => description = said(),
            _ => {}
        }
    }
    cheat(scan, &file, &tags, &mut description, &mut lines, begin);
}

/// One cheat, if there are lines of it. A description is that of one cheat.
fn cheat(
    scan: &mut Scan<'_>,
    file: &SourceFile,
    tags: &str,
    description: &mut String,
    lines: &mut Vec<&str>,
    begin: u32,
) {
    if lines.is_empty() {
        return;
    }
    let text = std::mem::take(lines).join("\n");
    let described = std::mem::take(description);
    if let Some(why) = refusal(&text, Places::Angles) {
        return scan.note(&file.relative, Some(begin), format!("a cheat is left out: {why}"));
    }
    let described = if described.is_empty() { text.lines().next().unwrap_or_default().to_owned() } else { described };
    let mut arguments: Vec<Argument> = Vec::new();
    for (_, name) in places(&text, Places::Angles) {
        if !arguments.iter().any(|argument| argument.name == name) {
            arguments.push(Argument { name: name.to_owned(), required: true, ..Argument::default() });
        }
    }
    let line = Line {
        places: if arguments.is_empty() { Places::None } else { Places::Angles },
        text,
        shell: Vec::new(),
        dir: scan.place(),
        env: Vec::new(),
    };
    let run = line.text.clone();
    let mut item = Item::new("navi", slug(&described), Kind::Task, Exec::Line(line), file.path.clone());
    item.display_name = (item.name != described).then(|| described.clone());
    item.description.clone_from(&run);
    item.group = (!tags.is_empty()).then(|| tags.to_owned());
    item.line = Some(begin);
    item.arguments.hint = hint(&arguments);
    item.arguments.names = arguments;
    item.evidence = vec![scan.evidence(file)];
    item.evidence.extend(scan.programs_of(&run, Path::new("")));
    scan.push(item);
}
