//! Tasks of mise: `[tasks]` in its configuration files, and executable files in its task directories.
//!
//! Templates in descriptions and lines are shown as they are written: mise would run programs to expand some.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::item::{Exec, Item, Kind, Passing, Program};
use super::programs::Text;
use super::scan::{Scan, SourceFile, ends_with, tidy};
use super::tree::Tree;

/// A project's configuration, the file that counts more first.
const PROJECT: [&str; 11] = [
    "mise.local.toml",
    ".mise.local.toml",
    "mise/config.local.toml",
    ".mise/config.local.toml",
    ".config/mise/config.local.toml",
    "mise.toml",
    ".mise.toml",
    "mise/config.toml",
    ".mise/config.toml",
    ".config/mise.toml",
    ".config/mise/config.toml",
];

/// Where more files of configuration may lie.
const FRAGMENTS: [&str; 3] = ["mise/conf.d", ".mise/conf.d", ".config/mise/conf.d"];

/// Where tasks lie that are files, unless the configuration says otherwise.
const DIRECTORIES: [&str; 5] = ["mise-tasks", ".mise-tasks", "mise/tasks", ".mise/tasks", ".config/mise/tasks"];

/// Lines at the head of a file that may say something of it.
const HEADER_LINES_MAX: usize = 100;

/// A project's tasks.
pub(super) fn project(scan: &mut Scan<'_>) {
    let mut files: Vec<PathBuf> = PROJECT.iter().map(PathBuf::from).collect();
    files.extend(fragments(scan, &FRAGMENTS));
    read(scan, &files, &DIRECTORIES);
}

/// The user's tasks.
pub(super) fn user(scan: &mut Scan<'_>) {
    let mut files: Vec<PathBuf> = [".config/mise/config.local.toml", ".config/mise/config.toml", ".mise.toml"]
        .iter()
        .map(PathBuf::from)
        .collect();
    files.extend(fragments(scan, &FRAGMENTS[2..]));
    read(scan, &files, &[".config/mise/tasks", ".mise/tasks"]);
}

fn fragments(scan: &mut Scan<'_>, dirs: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in dirs {
        let entries = scan.entries(Path::new(dir), |name| ends_with(name, "toml"));
        let files = entries.into_iter().filter(|entry| !entry.is_dir);
        found.extend(files.map(|entry| entry.path));
    }
    found
}

struct Reader {
    names: HashSet<String>,
    /// With the text that runs, and the directory that it is looked for from.
    found: Vec<(Item, String, PathBuf)>,
    /// What the files set for all tasks.
    settings: String,
}

fn read(scan: &mut Scan<'_>, files: &[PathBuf], directories: &[&str]) {
    let mut reader = Reader { names: HashSet::new(), found: Vec::new(), settings: String::new() };
    let mut includes: Option<Vec<PathBuf>> = None;
    for path in files {
        let Some(file) = scan.file(path) else { continue };
        let Some(tree) = scan.tree(&file, Tree::toml) else { continue };
        for key in ["env", "hooks", "settings", "vars", "task_config"] {
            reader.settings.extend(tree.get(key).map(|set| format!("{set:?}\n")));
        }
        for (name, task) in tree.get("tasks").map(Tree::map).unwrap_or_default() {
            reader.table(scan, &file, name, task);
        }
        if let Some(list) = tree.get("task_config").and_then(|config| config.get("includes")) {
            let list = list.texts().iter().map(|path| tidy(Path::new(path))).collect();
            includes = includes.or(Some(list));
        }
    }
    let places = includes.unwrap_or_else(|| directories.iter().map(PathBuf::from).collect());
    for place in places {
        reader.place(scan, &place);
    }
    // Variables and environment of any file reach all tasks.
    for evidence in scan.programs_in(&reader.settings, &[], &[], Text::Prose) {
        scan.decides(evidence);
    }
    for (mut item, run, dir) in reader.found {
        item.own = super::item::own(&mut run.lines());
        item.evidence = scan.programs_of(&run, &dir);
        scan.push(item);
    }
}

impl Reader {
    /// A directory of tasks, or one file of them.
    fn place(&mut self, scan: &mut Scan<'_>, place: &Path) {
        if place.extension().is_some_and(|extension| extension == "toml") {
            return self.toml_file(scan, place);
        }
        for path in scan.walk(place, |name| !name.starts_with('.')) {
            if path.extension().is_some_and(|extension| extension == "toml") {
                self.toml_file(scan, &path);
            } else if let Some(file) = scan.file_in_parts(&path) {
                // mise takes only what may be executed.
                if file.executable {
                    let evidence = scan.evidence(&file);
                    scan.decides(evidence);
                    self.program(scan, place, &file);
                }
            }
        }
    }

    /// A file that has nothing but tasks.
    fn toml_file(&mut self, scan: &mut Scan<'_>, path: &Path) {
        let Some(file) = scan.file(path) else { return };
        let Some(tree) = scan.tree(&file, Tree::toml) else { return };
        for (name, task) in tree.map() {
            self.table(scan, &file, name, task);
        }
    }

    fn table(&mut self, scan: &mut Scan<'_>, file: &SourceFile, name: &str, task: &Tree) {
        let run = lines(task.get("run").unwrap_or(task));
        let script = task.text_of("file").unwrap_or_default();
        let mut item = Self::item(scan, file, name.to_owned(), task);
        if item.description.is_empty() {
            let first = run.lines().find(|line| !line.is_empty() && !line.starts_with("#!"));
            first.unwrap_or(script).clone_into(&mut item.description);
        }
        let dir = task.text_of("dir").unwrap_or_default().replace("{{config_root}}", ".");
        self.add(scan, item, format!("{run}\n{script}"), tidy(Path::new(&dir)));
    }

    fn program(&mut self, scan: &mut Scan<'_>, place: &Path, file: &SourceFile) {
        let relative = file.relative.strip_prefix(place).unwrap_or(&file.relative);
        let mut parts: Vec<String> =
            relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        // Endings say how a file is run; `test/_default` is `test`.
        let last = parts.pop().unwrap_or_default();
        let stem = last.split('.').next().unwrap_or_default();
        if stem != "_default" || parts.is_empty() {
            parts.push(stem.to_owned());
        }
        let header = header(&file.text);
        let item = Self::item(scan, file, parts.join(":"), &header);
        let dir = file.relative.parent().unwrap_or(Path::new("")).to_owned();
        self.add(scan, item, file.text.to_string(), dir);
    }

    fn item(scan: &Scan<'_>, file: &SourceFile, name: String, task: &Tree) -> Item {
        let program = Program::new(&["mise", "run", &name], scan.place(), Passing::Behind);
        let mut item = Item::new("mise", name, Kind::Task, Exec::Program(program), file.path.clone());
        item.group = item.name.rsplit_once(':').map(|(folder, _)| folder.to_owned());
        task.text_of("description").unwrap_or_default().clone_into(&mut item.description);
        item.aliases = task.get_any(&["alias", "aliases"]).map(Tree::texts).unwrap_or_default();
        item.listed = !task.truth_of("hide").unwrap_or(false);
        item.arguments.hint = task.text_of("usage").map(usage);
        item
    }

    fn add(&mut self, scan: &mut Scan<'_>, item: Item, run: String, dir: PathBuf) {
        if self.found.len() > scan.limits.items {
            return scan.cut(Path::new(""), "there are too many tasks; the rest is left out");
        }
        if self.names.insert(item.name.clone()) {
            self.found.push((item, run, dir));
        }
    }
}

/// `run` in any of its forms.
fn lines(run: &Tree) -> String {
    match run {
        Tree::List(list) => list.iter().filter_map(Tree::text).collect::<Vec<_>>().join("\n"),
        other => other.text().unwrap_or_default().to_owned(),
    }
}

/// The words in quotes of a usage spec's `arg` and `flag` lines: `arg "<name>"`.
fn usage(spec: &str) -> String {
    let word = |line: &str| {
        let rest = line.trim().strip_prefix("arg ").or_else(|| line.trim().strip_prefix("flag "))?;
        let rest = rest.trim().strip_prefix('"')?;
        rest.split_once('"').map(|(word, _)| word.to_owned())
    };
    spec.lines().filter_map(word).collect::<Vec<_>>().join(" ")
}

/// `#MISE key=value` lines, in the comment of any language, as one table.
fn header(text: &str) -> Tree {
    let mut pairs = Vec::new();
    let mut usage = String::new();
    for line in text.lines().take(HEADER_LINES_MAX) {
        let comment = line.trim_start();
        let Some(comment) = ["#", "//", "--", ";", "::"].into_iter().find_map(|mark| comment.strip_prefix(mark)) else {
            continue;
        };
        let comment = comment.trim_start();
        if let Some(said) = after(comment, "MISE") {
            if let Ok(Tree::Map(said)) = Tree::toml(said.trim()) {
                pairs.extend(said);
            }
        } else if let Some(said) = after(comment, "USAGE") {
            usage.push_str(said.trim());
            usage.push('\n');
        }
    }
    if !usage.is_empty() {
        pairs.push(("usage".to_owned(), Tree::Text(usage)));
    }
    Tree::Map(pairs)
}

/// What follows `MISE ` or `[MISE] `.
fn after<'a>(comment: &'a str, word: &str) -> Option<&'a str> {
    let plain = comment.strip_prefix(word);
    let framed = || comment.strip_prefix('[')?.strip_prefix(word)?.strip_prefix(']');
    plain.or_else(framed).filter(|rest| rest.starts_with([' ', '\t']))
}
