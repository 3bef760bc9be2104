//! What the command gets beyond what its caller has: the session's id, packages' commands, a stable link to the agent, marks.
//!
//! Promises that a command starts all the same if some of it cannot be had, and names what must be removed at the end.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use shellkeep_protocol::attach::Launch;
use shellkeep_protocol::ids::MarksNonce;

use super::agent;
use crate::config::Settings;
use crate::places::Places;
use crate::shell_integration::{Around, Injection, Shell, inject};

/// What most terminals that attach later understand.
const TERM_DEFAULT: &str = "xterm-256color";

/// What the command gets.
#[derive(Debug, Default)]
pub struct Environment {
    /// Variables on top of the caller's.
    pub variables: Vec<(&'static str, OsString)>,
    /// Arguments before its own.
    pub arguments: Vec<&'static str>,
    /// What its marks carry.
    pub marks: Option<MarksNonce>,
    /// Files that live as long as the session.
    pub files: Files,
}

/// Files that live as long as the session.
#[derive(Debug, Default, Clone)]
pub struct Files {
    /// Stable link to the agent of the terminal attached last, if the command was told of one.
    pub agent_link: Option<PathBuf>,
    /// Where its shell puts its last command line, to read it back.
    scratch: Option<PathBuf>,
}

impl Files {
    /// Removes them.
    pub fn remove(&self) {
        for file in self.agent_link.iter().chain(&self.scratch) {
            let _gone = std::fs::remove_file(file);
        }
    }
}

impl Environment {
    /// For the command of `launch`.
    pub fn of(launch: &Launch, places: &Places) -> Self {
        let mut this = Self::default();
        this.variables.push(("SHELLKEEP_SESSION", launch.session.to_string().into()));
        if let Some(home) = places.home() {
            // Absolute: the command may go elsewhere, and must find the same one from there.
            this.variables.push(("SHELLKEEP_HOME", home.as_os_str().to_owned()));
        }
        if std::env::var_os("TERM").is_none_or(|term| term.is_empty()) {
            this.variables.push(("TERM", TERM_DEFAULT.into()));
        }
        let path = with_packages(std::env::var_os("PATH"), &places.packages().join("bin"));
        this.variables.extend(path.map(|path| ("PATH", path)));
        if let Ok(directory) = places.prepare_keeper_directory() {
            this.link_agent(launch, &directory);
            this.mark(launch, places, &directory);
        }
        this
    }

    fn link_agent(&mut self, launch: &Launch, directory: &Path) {
        let Some(agent) = std::env::var_os("SSH_AUTH_SOCK").filter(|agent| !agent.is_empty()) else { return };
        let link = directory.join(format!("{}.agent", launch.session));
        agent::point(&link, agent.as_bytes());
        self.variables.push(("SSH_AUTH_SOCK", link.clone().into_os_string()));
        self.files.agent_link = Some(link);
    }

    /// Makes a shell mark its commands. Without marks everything but the list of commands still works.
    fn mark(&mut self, launch: &Launch, places: &Places, directory: &Path) {
        let program = OsString::from_vec(launch.program.to_vec());
        let Some(shell) = Shell::of_command(&program, &launch.args).filter(|_| launch.marks) else { return };
        let Ok(nonce) = MarksNonce::random() else { return };
        let scratch = directory.join(format!("{}.line", launch.session));
        // A file that cannot be understood was told by `start`; the shell has what there is without it.
        let key = Settings::load(places).map(|settings| settings.palette.key).unwrap_or_default();
        let program = crate::launch::installed_program().ok();
        let nonce_text = nonce.to_string();
        let packages = places.packages();
        let around = Around {
            nonce: &nonce_text,
            scratch: &scratch,
            program: program.as_deref(),
            key: &key,
            packages: &packages,
        };
        let injected = inject(shell, &around, places, &|name| std::env::var_os(name));
        let Ok(Injection { arguments, variables }) = injected else { return };
        self.arguments = arguments;
        self.variables.extend(variables);
        self.marks = Some(nonce);
        self.files.scratch = Some(scratch);
    }
}

/// `PATH` with the programs of packages behind all others, there or not yet: what is installed later is found by every shell at once.
/// `None` if it stays as it is.
fn with_packages(path: Option<OsString>, bin: &Path) -> Option<OsString> {
    let path = path.filter(|path| !path.is_empty())?;
    if std::env::split_paths(&path).any(|there| there == bin) {
        return None;
    }
    std::env::join_paths(std::env::split_paths(&path).chain([bin.to_owned()])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4.4.3.
    #[test]
    fn packages_are_the_last_place_where_programs_are_looked_for() {
        let with = |path: &str, bin: &str| with_packages(Some(path.into()), Path::new(bin));
        assert_eq!(with("/usr/bin:/bin", "/d/bin"), Some("/usr/bin:/bin:/d/bin".into()));
        assert_eq!(with("/d/bin:/bin", "/d/bin"), None, "the user has it first");
        assert_eq!(with("", "/d/bin"), None);
        assert_eq!(with_packages(None, Path::new("/d/bin")), None, "the shell has a path of its own");
        assert_eq!(with("/bin", "/a:b/bin"), None, "no such directory can be named there");
        assert_eq!(with("/bin::", "/d"), Some("/bin:::/d".into()));
    }
}
