//! Shells that say where their commands begin and end: marks (OSC 133, OSC 7) that bash, zsh and fish print by
//! themselves, made to by what the keeper puts into their environment. With them come a key for the palette, a word about
//! names that the shell does not find (`shellkeep hint`), `pkg`, and what packages bring to complete their commands.
//!
//! Promises that no file of the user's is changed, that the user's own start-up files run as always, and that a shell
//! starts all the same if anything here cannot be had. Marks carry a nonce, which printed text cannot know unless it is of the
//! record, and a number that goes up, by which those in the record are known again. The daemon reads them while it
//! indexes; nobody else does.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::places::{PlaceError, Places, prepare};

mod key;

pub use key::{KeyError, PaletteKey};

/// A shell that can be made to print marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// GNU bash; older ones than 4.4 print no marks.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// Options under which a shell is interactive and reads its start-up files as ever.
const PLAIN_OPTIONS: [&str; 6] = ["-i", "-l", "-il", "-li", "--login", "--interactive"];

/// Where fish looks for vendors' files when the environment does not say. Source: XDG Base Directory Specification.
const DATA_DIRS_DEFAULT: &str = "/usr/local/share:/usr/share";

impl Shell {
    /// The shell that this command is, if it is an interactive one with its usual start-up files.
    pub fn of_command(program: &OsStr, args: &[impl AsRef<[u8]>]) -> Option<Self> {
        let name = Path::new(program).file_name()?;
        let shell = match name.as_bytes() {
            b"bash" => Self::Bash,
            b"zsh" => Self::Zsh,
            b"fish" => Self::Fish,
            _ => return None,
        };
        let is_plain = |arg: &[u8]| PLAIN_OPTIONS.iter().any(|option| option.as_bytes() == arg);
        args.iter().all(|arg| is_plain(arg.as_ref())).then_some(shell)
    }

    /// What is put down for it, below the directory of all: first its script.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Bash => &[("bash.sh", include_str!("bash.sh"))],
            Self::Zsh => &[("zsh/.zshenv", include_str!("zsh.zsh"))],
            Self::Fish => &[
                ("fish/vendor_conf.d/shellkeep.fish", include_str!("fish.fish")),
                ("fish/vendor_completions.d/pkg.fish", include_str!("pkg.fish")),
            ],
        }
    }
}

/// What makes a shell print marks.
#[derive(Debug, Default)]
pub struct Injection {
    /// Come before all other arguments.
    pub arguments: Vec<&'static str>,
    /// Set on top of the caller's environment; the shell's script takes them out again.
    pub variables: Vec<(&'static str, OsString)>,
}

/// What the shell's script knows of the world around it.
#[derive(Debug)]
pub struct Around<'a> {
    /// In all its marks.
    pub nonce: &'a str,
    /// A file that it may use: what a builtin prints cannot be had otherwise without a fork.
    pub scratch: &'a Path,
    /// This program; without it there are marks and no more.
    pub program: Option<&'a Path>,
    /// Opens the palette.
    pub key: &'a PaletteKey,
    /// The directory of packages, which need not exist.
    pub packages: &'a Path,
}

/// Makes `shell` print marks. `lookup` is the caller's environment.
///
/// # Errors
/// If the script cannot be written; the shell is started without it then.
pub fn inject(
    shell: Shell,
    around: &Around<'_>,
    places: &Places,
    lookup: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Injection, PlaceError> {
    let all = places.shell_scripts();
    let path = install(&all, shell)?;
    let mut variables: Vec<(&'static str, OsString)> =
        vec![("SHELLKEEP_MARKS", around.nonce.into()), ("SHELLKEEP_MARKS_FILE", around.scratch.as_os_str().to_owned())];
    // Never what an outer shell was told: these are set even if to nothing.
    let program = around.program.map(|program| program.as_os_str().to_owned());
    let key = around.key.of(shell).filter(|_| program.is_some());
    variables.push(("SHELLKEEP_PROGRAM", program.unwrap_or_default()));
    variables.push(("SHELLKEEP_PALETTE_KEY", key.unwrap_or_default().into()));
    variables.push(("SHELLKEEP_REVISION_FILE", places.commands_revision().into_os_string()));
    variables.push(("SHELLKEEP_PACKAGES", around.packages.as_os_str().to_owned()));
    let mut replace = |name: &'static str, kept_as: &'static str, value: OsString| {
        variables.extend(lookup(name).map(|before| (kept_as, before)));
        variables.push((name, value));
    };
    match shell {
        Shell::Bash => {
            replace("ENV", "SHELLKEEP_ENV", path.into_os_string());
            return Ok(Injection { arguments: vec!["--posix"], variables });
        }
        Shell::Zsh => replace("ZDOTDIR", "SHELLKEEP_ZDOTDIR", all.join("zsh").into_os_string()),
        Shell::Fish => {
            let mut dirs = all.into_os_string();
            dirs.push(":");
            dirs.push(lookup("XDG_DATA_DIRS").unwrap_or_else(|| DATA_DIRS_DEFAULT.into()));
            replace("XDG_DATA_DIRS", "SHELLKEEP_XDG_DATA_DIRS", dirs);
        }
    }
    Ok(Injection { arguments: Vec::new(), variables })
}

/// Makes sure that the shell's files lie below `all` as they are in this program; returns the path of its script. Read back each
/// time: a shell whose script was cut short by a power loss would not read its user's files.
fn install(all: &Path, shell: Shell) -> Result<PathBuf, PlaceError> {
    let mut paths = Vec::new();
    for (name, text) in shell.files() {
        let path = all.join(name);
        if !std::fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
            let directory = path.parent().unwrap_or(all);
            prepare(directory)?;
            let aside = directory.join(format!(".new-{}", std::process::id()));
            let written = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .and_then(|()| std::fs::rename(&aside, &path));
            written.map_err(|source| PlaceError::Io { path: path.clone(), source })?;
        }
        paths.push(path);
    }
    Ok(paths.swap_remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interactive_shells_with_their_usual_files_are_made_to_print_marks() {
        let none: [&str; 0] = [];
        for (program, shell) in
            [("bash", Some(Shell::Bash)), ("/usr/bin/zsh", Some(Shell::Zsh)), ("fish", Some(Shell::Fish)), ("sh", None)]
        {
            assert_eq!(Shell::of_command(OsStr::new(program), &none), shell, "{program}");
        }
        for (args, is_plain) in [
            (&["-l"][..], true),
            (&["--login", "-i"], true),
            (&["--norc"], false),
            (&["--rcfile", "x"], false),
            (&["-c", "true"], false),
            (&["script.sh"], false),
            (&["--posix"], false),
        ] {
            assert_eq!(Shell::of_command(OsStr::new("bash"), args).is_some(), is_plain, "{args:?}");
        }
    }

    #[test]
    fn a_script_that_was_cut_short_is_written_again() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::under(home.path());
        let key = PaletteKey::default();
        let around = Around {
            nonce: "n",
            scratch: Path::new("/s"),
            program: Some(Path::new("/p")),
            key: &key,
            packages: Path::new("/pkgs"),
        };
        let injected = inject(Shell::Bash, &around, &places, &|name| (name == "ENV").then(|| "e".into()));
        let injected = injected.unwrap();
        assert_eq!(injected.arguments, ["--posix"]);
        let script = places.shell_scripts().join("bash.sh");
        for (name, value) in [
            ("ENV", script.as_os_str()),
            ("SHELLKEEP_ENV", OsStr::new("e")),
            ("SHELLKEEP_PALETTE_KEY", OsStr::new("\\em")),
        ] {
            assert!(injected.variables.iter().any(|variable| *variable == (name, value.to_owned())), "{name}");
        }
        std::fs::write(&script, "").unwrap();
        install(&places.shell_scripts(), Shell::Bash).unwrap();
        assert_eq!(std::fs::read_to_string(&script).unwrap(), Shell::Bash.files()[0].1);
    }
}
