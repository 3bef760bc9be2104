//! Which package has a command: for the word about a name that a shell does not find, which must be there at once.
//!
//! Promise: what lies here alone is asked, never a network; an index of 100,000 releases is no wait that a person notices. The names are a
//! file of their own beside each index that was seen, since reading a whole index takes too long.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Packages;
use super::index::{self, Index, Source};
use super::names::{is_command_name, is_package_name};

/// How the file is called, beside the index as it was last seen.
pub(super) const EXTENSION: &str = "commands";

/// Largest file of names that is read.
const BYTES_MAX: u64 = 16 << 20;

/// Largest index that is read itself: of a directory, where it may be newer than what was seen of it.
const INDEX_BYTES_MAX: u64 = 2 << 20;

/// Commands that are nearly called so.
const NEAR_MAX: usize = 2;

/// Shortest name of which near ones are said.
const NEAR_BYTES_MIN: usize = 3;

/// What is known of a name that is no command here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provides {
    /// A package that has a command of this name and is not installed.
    pub package: Option<String>,
    /// Commands that are nearly called so, the nearest first.
    pub near: Vec<Near>,
}

/// A command that may have been meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Near {
    /// Its name.
    pub command: String,
    /// The package that has it; `None` if it is installed.
    pub package: Option<String>,
}

/// Slips with which `name` may be typed and still be known: more make another word of it.
pub fn slips_max(name: &str) -> usize {
    if name.len() > 4 { 2 } else { 1 }
}

impl Packages {
    /// What is known of the command `name` by what is installed and by the index at `source`, as it was last seen. Takes no lock and
    /// changes nothing.
    pub fn provides(&self, source: Option<&Source>, name: &str) -> Provides {
        if !is_command_name(name) {
            return Provides::default();
        }
        let names = source.map(|source| names(&self.layout.cache, source)).unwrap_or_default();
        let all = names.lines().filter_map(|line| line.split_once('\t'));
        let mut of_it: Vec<&str> =
            all.clone().filter(|(command, _)| *command == name).map(|(_, package)| package).collect();
        // One that is called as its command is most likely meant.
        of_it.sort_by_key(|package| (*package != name, *package));
        let installed = if of_it.is_empty() { BTreeMap::new() } else { self.installed() };
        let package = of_it.into_iter().find(|package| is_package_name(package) && !installed.contains_key(*package));
        let near = if package.is_some() { Vec::new() } else { self.near(name, all) };
        Provides { package: package.map(str::to_owned), near }
    }

    /// Packages of the index at `source`, as it was last seen, whose names begin with `beginning`, each with its commands; one that has
    /// none is not among them. Takes no lock and changes nothing.
    pub fn listed(&self, source: &Source, beginning: &str) -> BTreeMap<String, Vec<String>> {
        let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (command, package) in names(&self.layout.cache, source).lines().filter_map(|line| line.split_once('\t')) {
            if package.starts_with(beginning) && is_package_name(package) && is_command_name(command) {
                listed.entry(package.to_owned()).or_default().push(command.to_owned());
            }
        }
        listed
    }

    fn near<'a>(&self, name: &str, listed: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Near> {
        if name.len() < NEAR_BYTES_MIN {
            return Vec::new();
        }
        let here = std::fs::read_dir(&self.layout.bin).into_iter().flatten().flatten();
        let here: BTreeSet<String> = here.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let far = slips_max(name);
        let slips = |command: &str| {
            let may_be = command.len().abs_diff(name.len()) <= far && command != name && is_command_name(command);
            let slips = may_be.then(|| strsim::damerau_levenshtein(command, name));
            slips.filter(|slips| *slips <= far)
        };
        let installed = here.iter().map(|command| (command.as_str(), None));
        let listed =
            listed.filter(|(command, _)| !here.contains(*command)).map(|(command, package)| (command, Some(package)));
        let near = installed.chain(listed).filter_map(|(command, package)| Some((slips(command)?, command, package)));
        // Of one command what is installed goes first, then packages in order; of the rest the nearest.
        let mut near: Vec<_> = near.filter(|(.., package)| package.is_none_or(is_package_name)).collect();
        near.sort_unstable();
        near.dedup_by_key(|(_, command, _)| *command);
        let owned = |(_, command, package): (usize, &str, Option<&str>)| Near {
            command: command.to_owned(),
            package: package.map(str::to_owned),
        };
        near.into_iter().take(NEAR_MAX).map(owned).collect()
    }
}

/// A line for each command of an index: its name, a tab, the package.
pub(super) fn lines(index: &Index) -> String {
    let newest = index.packages.keys().filter_map(|name| index.newest(name));
    let pairs: BTreeSet<(&str, &str)> =
        newest.flat_map(|one| one.commands.iter().map(|command| (command.as_str(), one.name.as_str()))).collect();
    pairs.into_iter().fold(String::new(), |text, (command, package)| text + command + "\t" + package + "\n")
}

/// Those lines for `source`; nothing if it was never seen.
fn names(cache: &Path, source: &Source) -> String {
    let of_directory = match source {
        Source::Directory(directory) => small_index(directory),
        Source::Http(_) => None,
    };
    of_directory
        .or_else(|| read(&path(cache, source), BYTES_MAX))
        .or_else(|| index::seen(cache, source).map(|index| lines(&index)))
        .unwrap_or_default()
}

/// Where they are kept.
pub(super) fn path(cache: &Path, source: &Source) -> PathBuf {
    index::cached_path(cache, source).with_extension(EXTENSION)
}

fn small_index(directory: &Path) -> Option<String> {
    let text = read(&directory.join(index::FILE), INDEX_BYTES_MAX)?;
    Some(lines(&Index::parse("the index", text.as_bytes()).ok()?))
}

/// All of it, if it is no more than that.
fn read(path: &Path, bytes_max: u64) -> Option<String> {
    let mut text = String::new();
    super::disk::open(path).ok()?.take(bytes_max + 1).read_to_string(&mut text).ok()?;
    (text.len() as u64 <= bytes_max).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::index::{Listed, remember};
    use super::*;

    fn listed(name: &str, commands: &[&str]) -> Listed {
        Listed {
            name: name.to_owned(),
            version: semver::Version::new(1, 0, 0),
            description: String::new(),
            commands: commands.iter().map(|command| (*command).to_owned()).collect(),
            path: format!("{name}.tar.gz"),
            sha256: "0".repeat(64),
            size: 1,
            requires: None,
            platforms: Vec::new(),
            license: None,
            homepage: None,
        }
    }

    fn near(command: &str, package: Option<&str>) -> Near {
        Near { command: command.to_owned(), package: package.map(str::to_owned) }
    }

    fn seen(home: &Path, all: Vec<Listed>) -> (Packages, Source) {
        let packages = Packages::new(&home.join("pkgs"));
        std::fs::create_dir_all(&packages.layout().cache).unwrap();
        let source = Source::parse("https://nobody.invalid/").unwrap();
        remember(&packages.layout().cache, &source, None, &Index::of(all).to_bytes().unwrap());
        (packages, source)
    }

    /// P-31, P-6's lookup.
    #[test]
    fn p31_a_command_is_found_by_what_was_seen_and_its_package_may_be_called_otherwise() {
        let home = tempfile::tempdir().unwrap();
        let all = vec![listed("coreutils", &["ls", "cat"]), listed("ls", &["ls"]), listed("dotenv", &["dotenv"])];
        let (packages, source) = seen(home.path(), all);
        let of = |name: &str| packages.provides(Some(&source), name);
        assert_eq!(of("cat").package.as_deref(), Some("coreutils"));
        assert_eq!(of("ls").package.as_deref(), Some("ls"), "it is called as its command is");
        assert_eq!(of("dotnev"), Provides { package: None, near: vec![near("dotenv", Some("dotenv"))] });
        assert_eq!(of("dotxyz"), Provides::default());
        assert_eq!(
            (of("lss"), of("l")),
            (Provides { package: None, near: vec![near("ls", Some("coreutils"))] }, Provides::default())
        );
        assert_eq!(of("../ls"), Provides::default());
        assert_eq!(packages.provides(None, "ls"), Provides::default());
        // What is installed goes first.
        std::fs::create_dir_all(&packages.layout().bin).unwrap();
        std::fs::write(packages.layout().bin.join("dotenv"), "").unwrap();
        assert_eq!(of("dotnev").near, [near("dotenv", None)]);
        // Also without the file beside it.
        std::fs::remove_file(path(&packages.layout().cache, &source)).unwrap();
        assert_eq!(of("cat").package.as_deref(), Some("coreutils"));
    }

    #[test]
    fn the_index_of_a_directory_is_as_it_is_now() {
        let home = tempfile::tempdir().unwrap();
        let packages = Packages::new(&home.path().join("pkgs"));
        let source = Source::Directory(home.path().to_owned());
        assert_eq!(packages.provides(Some(&source), "say"), Provides::default());
        std::fs::write(home.path().join(index::FILE), Index::of(vec![listed("p", &["say"])]).to_bytes().unwrap())
            .unwrap();
        assert_eq!(packages.provides(Some(&source), "say").package.as_deref(), Some("p"));
    }

    fn on_processor() -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
    }

    /// P-31: the largest index that may be. Time of this thread on a processor counts: a loaded machine is no failure.
    #[test]
    fn p31_the_largest_index_is_no_wait() {
        let home = tempfile::tempdir().unwrap();
        let all = (0..60_000).map(|n| {
            let name = format!("package-number-{n}");
            listed(&name, &[&name])
        });
        let (packages, source) = seen(home.path(), all.collect());
        let took = |name: &str| {
            let tries = (0..3).map(|_| {
                let began = on_processor();
                let found = packages.provides(Some(&source), name);
                (on_processor().saturating_sub(began), found)
            });
            tries.min_by_key(|(took, _)| *took).unwrap()
        };
        let (exact, found) = took("package-number-4711");
        assert!(found.package.is_some());
        let (misses, found) = took("pakcage-number-4711");
        assert_eq!(found.near.first().map(|near| near.command.as_str()), Some("package-number-4711"));
        // Without optimisation; a tenth of it with.
        assert!(exact.max(misses) < Duration::from_millis(1_500), "{exact:?}, {misses:?}");
    }
}
