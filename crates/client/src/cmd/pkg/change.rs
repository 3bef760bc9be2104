//! What changes what is installed: install, upgrade, remove, rollback.

use std::cell::OnceCell;

use serde::Serialize;
use shellkeep_daemon::packages::{Changed, Fetched, Freshness, Held, Origin, PackageError, Packages, Spec, Wishes};

use super::bar::Bar;
use super::{Here, failed, status, told};
use crate::cli::{IndexPlace, PkgInstall, PkgNamed, PkgRemove, PkgUpgrade};
use crate::report::{self, Failure, Outcome, printable};
use crate::tools::found_in;

/// Commands that all shells have in themselves.
const OF_SHELLS: [&str; 20] = [
    "alias", "bg", "cd", "command", "echo", "eval", "exec", "exit", "export", "fg", "history", "jobs", "kill",
    "printf", "pwd", "read", "set", "source", "test", "type",
];

/// What became of one package. The names are a contract.
#[derive(Debug, Serialize)]
struct Became {
    name: String,
    result: &'static str,
    version: Option<String>,
    before: Option<String>,
    commands: Vec<String>,
    error: Option<String>,
    /// Than the one before, for people.
    #[serde(skip)]
    is_older: bool,
}

impl Became {
    fn changed(result: &'static str, changed: Changed) -> Self {
        told(&changed.notes);
        Self {
            is_older: changed.before.as_ref().is_some_and(|before| *before > changed.version),
            name: changed.name,
            result,
            version: Some(changed.version.to_string()),
            before: changed.before.map(|version| version.to_string()),
            commands: changed.commands,
            error: None,
        }
    }

    fn left(name: &str, result: &'static str, version: Option<String>, why: Option<String>) -> Self {
        let (before, commands) = (None, Vec::new());
        Self { name: name.to_owned(), result, version, before, commands, error: why, is_older: false }
    }

    /// For people: what happened, or nothing where an error was printed.
    fn line(&self) -> Option<String> {
        let version = self.version.as_deref().unwrap_or_default();
        let from = self.before.as_ref().map_or_else(String::new, |before| format!(" (before: {before})"));
        let commands = if self.commands.is_empty() { String::new() } else { format!(": {}", self.commands.join(", ")) };
        match self.result {
            "failed" => None,
            "skipped" => {
                Some(format!("skipped {} {version}: {}\n", self.name, self.error.as_deref().unwrap_or_default()))
            }
            "current" => Some(format!("{} {version} is installed, and there is nothing newer\n", self.name)),
            "removed" => Some(format!("removed {} {version}\n", self.name)),
            "upgraded" if self.is_older => Some(format!("downgraded {} {version}{from}{commands}\n", self.name)),
            done => Some(format!("{done} {} {version}{from}{commands}\n", self.name)),
        }
    }
}

/// Says what became of all of them, and ends with 1 if one failed.
fn ended(all: &[Became], as_json: bool) -> Outcome {
    if as_json {
        report::result(&report::json(&all)?)?;
    }
    Ok(status(all.iter().all(|one| one.result != "failed")))
}

/// Adds what became of one, and tells it at once if people are to read it. With one package its error is the command's own.
struct Told<'a> {
    all: Vec<Became>,
    as_json: bool,
    is_only_one: bool,
    here: &'a Here<'a>,
}

impl<'a> Told<'a> {
    fn new(here: &'a Here<'a>, count: usize, as_json: bool) -> Self {
        Self { all: Vec::new(), as_json, is_only_one: count == 1, here }
    }

    fn add(&mut self, became: Became) -> Result<(), Failure> {
        if let Some(line) = became.line().filter(|_| !self.as_json) {
            report::result(&printable_lines(&line))?;
        }
        self.all.push(became);
        Ok(())
    }

    fn took(&mut self, word: &str, result: &'static str, done: Result<Changed, Failure>) -> Result<(), Failure> {
        match done {
            Ok(changed) => self.add(Became::changed(result, changed)),
            Err(failure) if self.is_only_one && !self.as_json => Err(failure),
            Err(failure) => {
                // The status is told at the end, of all of them.
                let _status = report::failure(&failure);
                self.add(Became::left(word, "failed", None, Some(failure.message)))
            }
        }
    }

    fn packages(&self) -> &Packages {
        &self.here.packages
    }
}

fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(line) + "\n").collect()
}

/// The index, read when the first package is asked for by name.
struct Index<'a> {
    here: &'a Here<'a>,
    place: &'a IndexPlace,
    held: OnceCell<Held>,
}

impl<'a> Index<'a> {
    fn new(here: &'a Here<'a>, place: &'a IndexPlace) -> Self {
        Self { here, place, held: OnceCell::new() }
    }

    fn get(&self) -> Result<&Held, Failure> {
        if let Some(held) = self.held.get() {
            return Ok(held);
        }
        let held = self.here.index(self.place, Freshness::NowIfPossible)?;
        Ok(self.held.get_or_init(|| held))
    }
}

/// Gets what a word asks for.
fn fetch(here: &Here<'_>, index: &Index<'_>, word: &str, spec: &Spec) -> Result<Fetched, Failure> {
    let bar = Bar::bytes(&format!("getting {word}"));
    let on_fetch = |done, total| bar.at(done, total);
    let fetched = match spec {
        Spec::Path(path) => here.packages.fetch_path(path, &on_fetch),
        Spec::Url(url) => here.packages.fetch_url(url.as_str(), &on_fetch),
        Spec::Named { name, version } => {
            let held = index.get()?;
            Packages::choose(held, name, version.as_ref())
                .and_then(|listed| here.packages.fetch_listed(held, listed, &on_fetch))
        }
        Spec::All => Err(PackageError::NoSpec(word.to_owned())),
    };
    fetched.map_err(|error| failed(&error))
}

fn unpacking(word: &str) -> impl Fn(u64) {
    let bar = Bar::bytes(&format!("unpacking {word}"));
    move |done| bar.at(done, None)
}

pub(super) fn install(here: &Here<'_>, args: &PkgInstall) -> Outcome {
    let index = Index::new(here, &args.index);
    let mut specs = Vec::new();
    for word in &args.packages {
        match Spec::parse(word) {
            None => return Err(failed(&PackageError::NoSpec(word.clone()))),
            Some(Spec::All) => {
                let named = |name: &String| (name.clone(), Spec::Named { name: name.clone(), version: None }, true);
                specs.extend(index.get()?.index.packages.keys().map(named));
            }
            Some(spec) => specs.push((word.clone(), spec, false)),
        }
    }
    if args.packages.len() > 1 && (!args.rename.is_empty() || args.sha256.is_some()) {
        return Err(Failure::usage("--as and --sha256 are of one package"));
    }
    let wishes = Wishes { rename: args.rename.clone(), no_bin: args.no_bin };
    let mut told = Told::new(here, args.packages.len(), args.json);
    told.is_only_one &= !specs.iter().any(|(_, _, of_all)| *of_all);
    for (word, spec, of_all) in &specs {
        let there = look_for(here, spec)?;
        if let (true, Some(version)) = (of_all, there) {
            told.add(Became::left(word, "skipped", Some(version), Some("it is installed already".to_owned())))?;
            continue;
        }
        let done = fetch(here, &index, word, spec).and_then(|fetched| {
            let fetched = match &args.sha256 {
                Some(sha256) => fetched.promised(sha256),
                None => fetched,
            };
            let installed = told.packages().install(fetched, &wishes, &unpacking(word));
            installed.map(|changed| with_hidden(changed, &told, args.no_bin)).map_err(|error| failed(&error))
        });
        told.took(word, "installed", done)?;
    }
    ended(&told.all, args.json)
}

/// Tells of commands that the shell will not find, since something of the same name goes first.
fn with_hidden(mut changed: Changed, told: &Told<'_>, no_bin: bool) -> Changed {
    let bin = &told.packages().layout().bin;
    let path = std::env::var_os("PATH").unwrap_or_default();
    if no_bin {
        changed
            .notes
            .push(format!("{} is not in PATH, as you wish; \"shellkeep run NAME\" runs its commands", changed.name));
    }
    for name in changed.commands.iter().filter(|_| !no_bin) {
        let first = match found_in(&path, name) {
            _ if OF_SHELLS.contains(&name.as_str()) => "the shell's own".to_owned(),
            Some(program) if !program.starts_with(bin) => program.display().to_string(),
            _ => continue,
        };
        let run = format!("\"shellkeep run {}:{name}\" runs this one", changed.name);
        changed.notes.push(format!("{name} in a shell stays {first}; {run}, \"--as NEW\" would give it another name"));
    }
    changed
}

/// The version that is installed of a package asked for by name.
fn look_for(here: &Here<'_>, spec: &Spec) -> Result<Option<String>, Failure> {
    let Spec::Named { name, .. } = spec else { return Ok(None) };
    let look = here.packages.look().map_err(|error| failed(&error))?;
    told(&look.notes);
    Ok(look.db.packages.get(name).map(|package| package.current.version.to_string()))
}

pub(super) fn upgrade(here: &Here<'_>, args: &PkgUpgrade) -> Outcome {
    let look = here.packages.look().map_err(|error| failed(&error))?;
    super::told(&look.notes);
    let index = Index::new(here, &args.index);
    let mut told = Told::new(here, args.packages.len(), args.json);
    let words: Vec<String> =
        if args.packages.is_empty() { look.db.packages.keys().cloned().collect() } else { args.packages.clone() };
    for word in &words {
        let spec = match Spec::parse(word) {
            Some(Spec::All) | None => return Err(failed(&PackageError::NoSpec(word.clone()))),
            Some(spec) => spec,
        };
        if let Spec::Named { name, version } = &spec {
            let installed = look.db.packages.get(name);
            let current = installed.map(|package| package.current.version.to_string());
            let is_from_index = installed.is_none_or(|package| matches!(package.current.origin, Origin::Index { .. }));
            if !is_from_index && version.is_none() {
                // A package of another's index with the same name is not the one that the user built.
                let from = installed.map(|package| package.current.origin.to_string()).unwrap_or_default();
                let why = format!(
                    "it came from {from}; \"pkg upgrade {from}\" takes it anew, \"pkg upgrade {name}@VERSION\" one of the index"
                );
                told.add(Became::left(name, "skipped", current, Some(why)))?;
                continue;
            }
            if let (Some(package), None) = (installed, version)
                && let Some(newest) = index.get()?.index.newest(name)
                && newest.version <= package.current.version
            {
                told.add(Became::left(name, "current", current, None))?;
                continue;
            }
            if installed.is_none() {
                let error = PackageError::NotInstalled { name: name.clone(), near: None };
                told.took(word, "upgraded", Err(failed(&error)))?;
                continue;
            }
        }
        let done =
            match fetch(here, &index, word, &spec).map(|fetched| here.packages.upgrade(fetched, &unpacking(word))) {
                Ok(Err(PackageError::AlreadyInstalled { name, version, .. })) => {
                    told.add(Became::left(&name, "current", Some(version.to_string()), None))?;
                    continue;
                }
                done => done.and_then(|done| done.map_err(|error| failed(&error))),
            };
        told.took(word, "upgraded", done)?;
    }
    ended(&told.all, args.json)
}

pub(super) fn remove(here: &Here<'_>, args: &PkgRemove) -> Outcome {
    let mut told = Told::new(here, args.names.len(), args.json);
    for name in &args.names {
        let done = existing(here, name)
            .and_then(|()| told.packages().remove(name, args.force).map_err(|error| failed(&error)))
            .map(|changed| Changed { before: None, ..changed });
        told.took(name, "removed", done)?;
    }
    ended(&told.all, args.json)
}

pub(super) fn rollback(here: &Here<'_>, args: &PkgNamed) -> Outcome {
    let mut told = Told::new(here, 1, args.json);
    let done =
        existing(here, &args.name).and_then(|()| told.packages().rollback(&args.name).map_err(|error| failed(&error)));
    told.took(&args.name, "rolled back", done)?;
    ended(&told.all, args.json)
}

/// Where nothing was ever installed, asking makes no directories.
fn existing(here: &Here<'_>, name: &str) -> Result<(), Failure> {
    if here.packages.layout().root.exists() {
        return Ok(());
    }
    Err(failed(&PackageError::NotInstalled { name: name.to_owned(), near: None }))
}
