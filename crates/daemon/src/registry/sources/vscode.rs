//! Tasks of VS Code: `.vscode/tasks.json`, JSON with comments and trailing commas.
//!
//! `${workspaceFolder}` and its like are filled in; a task that needs what only the editor knows (`${file}`) is left
//! out, and said. Inputs become arguments.

use std::path::{Path, PathBuf};

use super::admit::slug;
use super::item::{Argument, Exec, Item, Kind, Passing, Program};
use super::just::hint;
use super::programs::Text;
use super::scan::{Scan, SourceFile, tidy};
use super::template::{Line, Places};
use super::tree::Tree;

/// `.vscode/tasks.json` of the base.
pub(super) fn read(scan: &mut Scan<'_>) {
    let Some(file) = scan.file(".vscode/tasks.json") else { return };
    let Some(tree) = scan.tree(&file, Tree::jsonc) else { return };
    let inputs = tree.get("inputs").map(Tree::list).unwrap_or_default();
    for task in tree.get("tasks").map(Tree::list).unwrap_or_default() {
        let label = task.text_of("label").or_else(|| task.text_of("taskName")).unwrap_or_default();
        match item(scan, &file, &tree, task, label, inputs) {
            Ok(item) => scan.push(item),
            Err(why) => scan.note(&file.relative, None, format!("the task \"{label}\" is left out: {why}")),
        }
    }
}

fn item(
    scan: &mut Scan<'_>,
    file: &SourceFile,
    whole: &Tree,
    task: &Tree,
    label: &str,
    inputs: &[Tree],
) -> Result<Item, String> {
    let options = |key: &str| {
        let own = task.get("linux").and_then(|linux| linux.get("options")?.get(key));
        own.or_else(|| task.get("options")?.get(key)).or_else(|| whole.get("options")?.get(key))
    };
    let known = Fill { root: scan.base(), inputs };
    let dir = Some(match options("cwd").and_then(Tree::text) {
        Some(dir) => inside(scan.base(), &known.text(dir, false)?)?,
        None => scan.base().to_owned(),
    });
    let mut env = Vec::new();
    for (name, value) in options("env").map(Tree::pairs).unwrap_or_default() {
        env.push((name, known.text(&value, false)?));
    }
    let (mut place, set) = (dir.clone().unwrap_or_default(), env.clone());
    let mut beside = Vec::new();
    let kind = task.text_of("type").unwrap_or("process");
    let (exec, arguments, run) = match kind {
        "npm" => {
            let script = task.text_of("script").ok_or("it names no script")?;
            let dir = inside(scan.base(), task.text_of("path").unwrap_or_default())?;
            place.clone_from(&dir);
            beside = super::npm::decides(scan, &dir);
            let mut program = Program::new(&["npm", "run", script], Some(dir), Passing::BehindDashes);
            program.env = env;
            (Exec::Program(program), Vec::new(), format!("npm run {script}"))
        }
        "cargo" => {
            let mut argv = vec!["cargo".to_owned()];
            argv.extend(task.get("command").map(Tree::texts).unwrap_or_default());
            argv.extend(task.get("args").map(Tree::texts).unwrap_or_default());
            let run = argv.join(" ");
            (Exec::Program(Program { argv, dir, env, passing: Passing::Behind }), Vec::new(), run)
        }
        "shell" | "process" => command(task, &known, dir, env, kind == "shell")?,
        other => return Err(format!("only the editor knows the type \"{other}\"")),
    };
    let names = match &exec {
        Exec::Program(program) => {
            shlex::try_join(program.argv.iter().map(String::as_str)).unwrap_or_else(|_| run.clone())
        }
        _ => run.clone(),
    };
    let label = if label.is_empty() { run.as_str() } else { label };
    let mut item = Item::new("vscode", slug(label), Kind::Task, exec, file.path.clone());
    item.display_name = (item.name != label).then(|| label.to_owned());
    task.text_of("detail").unwrap_or(&run).clone_into(&mut item.description);
    item.group = task.get("group").and_then(|group| group.text().or_else(|| group.text_of("kind"))).map(str::to_owned);
    item.listed = !task.truth_of("hide").unwrap_or(false);
    item.arguments.hint = hint(&arguments);
    item.arguments.names = arguments;
    item.evidence = vec![scan.part("its entry in the file", task.plain().as_bytes())];
    item.evidence.append(&mut beside);
    if task.get("dependsOn").is_some() {
        scan.note(&file.relative, None, format!("the task \"{label}\" depends on others, which are not run with it"));
    }
    item.evidence.extend(scan.programs_in(&names, &[&place], &set, Text::Line));
    Ok(item)
}

type Command = (Exec, Vec<Argument>, String);

fn command(
    task: &Tree,
    known: &Fill<'_>,
    dir: Option<PathBuf>,
    env: Vec<(String, String)>,
    is_shell: bool,
) -> Result<Command, String> {
    let own = |key: &str| task.get("linux").and_then(|linux| linux.get(key)).or_else(|| task.get(key));
    let value = |tree: &Tree| tree.scalar().or_else(|| tree.text_of("value").map(str::to_owned));
    let program = own("command").and_then(value).filter(|program| !program.trim().is_empty());
    let program = program.ok_or("it has no command of its own")?;
    let words = own("args").map(Tree::list).unwrap_or_default();
    if !is_shell {
        let mut argv = vec![known.text(&program, false)?];
        for arg in words {
            argv.push(known.text(&value(arg).unwrap_or_default(), false)?);
        }
        let run = argv.join(" ");
        return Ok((Exec::Program(Program { argv, dir, env, passing: Passing::Behind }), Vec::new(), run));
    }
    let mut text = known.text(&program, true)?;
    for arg in words {
        let word = known.text(&value(arg).unwrap_or_default(), true)?;
        // The editor quotes what has a space, and what it is told to.
        let is_quoted = word.contains(char::is_whitespace) || arg.text_of("quoting").is_some();
        text.push(' ');
        text.push_str(&if is_quoted && !word.contains("{{") {
            shlex::try_quote(&word).map_err(|error| error.to_string())?.into_owned()
        } else {
            word
        });
    }
    if let Some(why) = super::template::refusal(&text, Places::Quoted) {
        return Err(why);
    }
    let arguments = known.arguments(&text);
    let places = if arguments.is_empty() { Places::None } else { Places::Quoted };
    let line = Line { text: text.clone(), places, shell: Vec::new(), dir, env };
    Ok((Exec::Line(line), arguments, text))
}

/// What the editor would fill in.
struct Fill<'a> {
    root: &'a Path,
    inputs: &'a [Tree],
}

impl Fill<'_> {
    /// Variables that are known without an editor; inputs as places, where there can be some.
    fn text(&self, text: &str, has_places: bool) -> Result<String, String> {
        if has_places && text.contains("{{") && text.contains("${input:") {
            return Err("its braces cannot be told from its inputs".to_owned());
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            filled.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else { break };
            let name = &rest[at + 2..at + end];
            match name.split_once(':') {
                None if matches!(name, "workspaceFolder" | "workspaceRoot" | "cwd") => {
                    filled.push_str(&self.root.to_string_lossy());
                }
                None if name == "workspaceFolderBasename" => {
                    filled.push_str(&self.root.file_name().unwrap_or_default().to_string_lossy());
                }
                None if matches!(name, "pathSeparator" | "/") => filled.push('/'),
                Some(("env", variable)) if has_places => filled.extend(["${", variable, "}"]),
                Some(("input", id)) if has_places && self.input(id).is_some() => {
                    filled.extend(["{{", id, "}}"]);
                }
                _ => return Err(format!("only the editor knows ${{{name}}}")),
            }
            rest = &rest[at + end + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn input(&self, id: &str) -> Option<&Tree> {
        let is_plain = id.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        self.inputs
            .iter()
            .find(|input| is_plain && input.text_of("id") == Some(id) && input.text_of("type") != Some("command"))
    }

    fn arguments(&self, text: &str) -> Vec<Argument> {
        let mut arguments: Vec<Argument> = Vec::new();
        for (_, name) in super::template::places(text, Places::Quoted) {
            let Some(input) = self.input(name) else { continue };
            if arguments.iter().any(|argument| argument.name == name) {
                continue;
            }
            let default = input.get("default").and_then(Tree::scalar);
            arguments.push(Argument {
                name: name.to_owned(),
                description: input.text_of("description").unwrap_or_default().to_owned(),
                required: default.is_none(),
                default,
                rest: false,
            });
        }
        arguments
    }
}

/// A directory of the project.
fn inside(root: &Path, dir: &str) -> Result<PathBuf, String> {
    let dir = tidy(&root.join(dir));
    if dir.starts_with(root) { Ok(dir) } else { Err("its directory is outside of the project".to_owned()) }
}
