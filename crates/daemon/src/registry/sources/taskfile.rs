//! Tasks of a Taskfile (go-task), with those that it includes under their namespaces.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::item::{Argument, Exec, Item, Kind, Passing, Program};
use super::programs::Text;
use super::scan::{Scan, SourceFile, tidy};
use super::tree::Tree;

/// Names of the file, the first that is there counts.
const NAMES: [&str; 8] = [
    "Taskfile.yml",
    "taskfile.yml",
    "Taskfile.yaml",
    "taskfile.yaml",
    "Taskfile.dist.yml",
    "taskfile.dist.yml",
    "Taskfile.dist.yaml",
    "taskfile.dist.yaml",
];

/// Includes inside each other.
const INCLUDES_DEPTH_MAX: usize = 8;

/// Files that one Taskfile may be made of; one file may be included under several names.
const INCLUDES_MAX: usize = 100;

/// The base's Taskfile.
pub(super) fn read(scan: &mut Scan<'_>) {
    let Some(file) = scan.first_file(Path::new(""), &NAMES) else { return };
    let mut reader = Reader::default();
    reader.file(scan, &file, &Place::default());
    for (mut item, lines) in reader.found {
        let dirs: Vec<&Path> = lines.dirs.iter().map(PathBuf::as_path).collect();
        item.evidence = scan.programs_in(&lines.text, &dirs, &[], Text::Line);
        scan.push(item);
    }
}

/// How a file is included.
#[derive(Default, Clone)]
struct Place {
    /// `docs:`, or nothing.
    prefix: String,
    /// Other prefixes that mean the same.
    aliases: Vec<String>,
    excludes: Vec<String>,
    is_internal: bool,
    /// Files that this one is inside of.
    inside: Vec<PathBuf>,
    /// Where its tasks run, as its include says.
    dir: PathBuf,
}

#[derive(Default)]
struct Reader {
    found: Vec<(Item, Lines)>,
    seen: HashSet<PathBuf>,
    count: usize,
}

/// What a task runs, and where.
struct Lines {
    text: String,
    dirs: Vec<PathBuf>,
}

impl Reader {
    fn file(&mut self, scan: &mut Scan<'_>, file: &SourceFile, place: &Place) {
        if place.inside.contains(&file.relative) {
            return scan.note(&file.relative, None, "includes itself");
        }
        self.count += 1;
        if place.inside.len() >= INCLUDES_DEPTH_MAX || self.count > INCLUDES_MAX {
            return scan.cut(&file.relative, "is not read: too many files include each other");
        }
        let Some(tree) = scan.tree(file, Tree::yaml) else { return };
        if self.seen.insert(file.relative.clone()) {
            let dir = file.relative.parent().unwrap_or(Path::new(""));
            for key in ["vars", "env"] {
                // Variables of any of the files may be used by any other; `sh:` is run for them.
                let mut text = String::new();
                lines_below(tree.get(key).unwrap_or(&Tree::Null), &mut text);
                for (kind, text) in [(Text::Line, shell_lines(tree.get(key))), (Text::Values, text)] {
                    for evidence in scan.programs_in(&text, &[dir], &[], kind) {
                        scan.decides(evidence);
                    }
                }
            }
        }
        if !place.is_internal {
            for (name, task) in tree.get("tasks").map(Tree::map).unwrap_or_default() {
                self.task(scan, file, name, task, place);
            }
        }
        for (name, include) in tree.get("includes").map(Tree::map).unwrap_or_default() {
            self.include(scan, file, name, include, place);
        }
    }

    fn include(&mut self, scan: &mut Scan<'_>, file: &SourceFile, name: &str, include: &Tree, place: &Place) {
        let Some(path) = include.text().or_else(|| include.text_of("taskfile")) else {
            return scan.note(&file.relative, None, format!("the include \"{name}\" names no file"));
        };
        let path = path.replace("{{.TASKFILE_DIR}}", ".").replace("{{OS}}", std::env::consts::OS);
        if path.contains(['{', '$', '~']) || path.contains("://") || path.starts_with("git@") {
            let what = format!("the include \"{name}\" is not followed");
            return scan.incomplete(&file.relative, None, &what, &format!("{path} is known only to task"));
        }
        let path = tidy(&file.relative.parent().unwrap_or(Path::new("")).join(path));
        // A file, or a directory with one.
        let next = if scan.is_directory(&path) { scan.first_file(&path, &NAMES) } else { scan.file(&path) };
        let Some(next) = next else {
            if !include.truth_of("optional").unwrap_or(false) {
                scan.lost(&file.relative, None, format!("includes {}, which cannot be read", path.display()));
            }
            return;
        };
        let flat = include.truth_of("flatten").unwrap_or(false);
        let under = |prefix: &str| if flat { prefix.to_owned() } else { format!("{prefix}{name}:") };
        let mut aliases: Vec<String> = place.aliases.iter().map(|prefix| under(prefix)).collect();
        if !flat {
            let names = include.get("aliases").map(Tree::texts).unwrap_or_default();
            aliases.extend(names.iter().map(|alias| format!("{}{alias}:", place.prefix)));
        }
        let mut inside = place.inside.clone();
        inside.push(file.relative.clone());
        let place = Place {
            prefix: under(&place.prefix),
            aliases,
            excludes: include.get("excludes").map(Tree::texts).unwrap_or_default(),
            is_internal: place.is_internal || include.truth_of("internal").unwrap_or(false),
            inside,
            dir: place.dir.join(include.text_of("dir").unwrap_or_default()),
        };
        self.file(scan, &next, &place);
    }

    fn task(&mut self, scan: &mut Scan<'_>, file: &SourceFile, short: &str, task: &Tree, place: &Place) {
        // An internal task cannot be asked for; one with a wild card is a pattern of names, not a name.
        let is_hidden = task.truth_of("internal").unwrap_or(false) || short.contains('*');
        if is_hidden || place.excludes.iter().any(|excluded| excluded == short) {
            return;
        }
        if self.found.len() > scan.limits.items {
            return scan.cut(&file.relative, "has too many tasks; the rest is left out");
        }
        let name = format!("{}{short}", place.prefix);
        let program = Program::new(&["task", &name], scan.place(), Passing::AssignmentsThenDashes);
        let mut item = Item::new("task", name, Kind::Task, Exec::Program(program), file.path.clone());
        let text = |key: &str| task.text_of(key).map(str::trim).filter(|text| !text.is_empty());
        let commands = commands(task);
        let described = text("desc").or_else(|| text("summary").and_then(|text| text.lines().next()));
        described.unwrap_or_else(|| commands.lines().next().unwrap_or_default()).clone_into(&mut item.description);
        item.group = place.prefix.strip_suffix(':').map(str::to_owned);
        let own = task.get("aliases").map(Tree::texts).unwrap_or_default();
        let mut names = vec![short.to_owned()];
        names.extend(own);
        for prefix in std::iter::once(&place.prefix).chain(&place.aliases) {
            item.aliases.extend(names.iter().map(|name| format!("{prefix}{name}")));
            // `docs:default` is also called `docs`.
            if short == "default" {
                item.aliases.extend(prefix.strip_suffix(':').map(str::to_owned));
            }
        }
        let required = task.get("requires").and_then(|requires| requires.get("vars")).map(Tree::list);
        let variable = |one: &Tree| one.scalar().or_else(|| one.text_of("name").map(str::to_owned));
        item.arguments.names = required
            .unwrap_or_default()
            .iter()
            .filter_map(variable)
            .map(|name| Argument { name, required: true, ..Argument::default() })
            .collect();
        let words: Vec<String> = item.arguments.names.iter().map(|one| format!("{}=…", one.name)).collect();
        item.arguments.hint = (!words.is_empty()).then(|| words.join(" "));
        item.own = super::item::own(&mut commands.lines());
        self.found.push((item, lines(file, task, place)));
    }
}

/// All that a task may run, and the directories that it may run in.
fn lines(file: &SourceFile, task: &Tree, place: &Place) -> Lines {
    let mut text = String::new();
    match task {
        Tree::Map(pairs) => {
            // Words for people, and names of what is made.
            let others = ["desc", "summary", "sources", "generates", "label", "aliases", "prompt", "dir", "internal"];
            let runs = pairs.iter().filter(|(key, _)| !others.contains(&key.as_str()));
            runs.for_each(|(_, value)| lines_below(value, &mut text));
        }
        other => lines_below(other, &mut text),
    }
    for (place, is) in [("{{.ROOT_DIR}}", "$PWD"), ("{{.TASKFILE_DIR}}", "$PWD"), ("{{.USER_WORKING_DIR}}", "$PWD")] {
        text = text.replace(place, is);
    }
    let own = file.relative.parent().unwrap_or(Path::new("")).to_owned();
    let dir = task.text_of("dir").unwrap_or_default().replace("{{.TASKFILE_DIR}}/", "").replace("{{.ROOT_DIR}}/", "");
    let dirs = [PathBuf::new(), own.clone(), place.dir.clone()];
    let dirs = dirs.iter().flat_map(|base| [base.clone(), tidy(&base.join(&dir))]).collect();
    Lines { text, dirs }
}

/// All text in a value, a line each.
fn lines_below(tree: &Tree, text: &mut String) {
    match tree {
        Tree::Text(line) => text.extend([line.as_str(), "\n"]),
        Tree::List(list) => list.iter().for_each(|one| lines_below(one, text)),
        Tree::Map(pairs) => pairs.iter().for_each(|(_, value)| lines_below(value, text)),
        Tree::Null | Tree::Bool(_) | Tree::Number(_) => {}
    }
}

/// `sh:` of variables.
fn shell_lines(variables: Option<&Tree>) -> String {
    let lines = variables.map(Tree::map).unwrap_or_default().iter().filter_map(|(_, value)| value.text_of("sh"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines that a task runs itself.
fn commands(task: &Tree) -> String {
    let list = task.get_any(&["cmds", "cmd"]).unwrap_or(task);
    let one = |command: &Tree| command.text().or_else(|| command.text_of("cmd")).map(str::to_owned);
    let commands: Vec<String> = match list {
        Tree::List(list) => list.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    };
    commands.join("\n")
}
