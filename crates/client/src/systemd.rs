//! Where systemd runs the daemon: its units, and control that goes through it, so that the two never fight.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cmd::daemon::succeeds;
use crate::launch::installed_program;
use crate::places::Places;
use crate::report::{Failure, Outcome};

const SOCKET_UNIT: &str = "shellkeep.socket";
const SERVICE_UNIT: &str = "shellkeep.service";

/// The listener that systemd passed to this process, if it did.
pub fn inherited_listener() -> Option<UnixListener> {
    listenfd::ListenFd::from_env().take_unix_listener(0).ok().flatten()
}

/// Whether the daemon of these places is systemd's to start and stop: its units are installed and in use.
pub fn is_managed(places: &Places) -> bool {
    // Under SHELLKEEP_HOME everything is private, units are not.
    places.home().is_none()
        && unit_directory().is_some_and(|units| units.join(SOCKET_UNIT).exists())
        && (succeeds("systemctl", &["--user", "is-active", SOCKET_UNIT])
            || succeeds("systemctl", &["--user", "is-active", SERVICE_UNIT]))
}

/// `systemctl --user VERB` for both units: stopping only the service would let the socket start it again.
///
/// # Errors
/// If systemctl says no.
pub fn control(verb: &str) -> Outcome {
    let units: &[&str] = if verb == "stop" { &[SOCKET_UNIT, SERVICE_UNIT] } else { &[SERVICE_UNIT] };
    let args: Vec<&str> = ["--user", verb].iter().chain(units).copied().collect();
    if succeeds("systemctl", &args) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::refused(format_args!("\"systemctl {}\" failed", args.join(" ")))
        .with_hint(format_args!("\"systemctl --user status {SERVICE_UNIT}\" says why")))
}

/// Writes the units and returns their paths.
///
/// # Errors
/// If there is nowhere to write them, or no program to name in them.
pub fn install(places: &Places) -> Result<Vec<PathBuf>, Failure> {
    let units = unit_directory().ok_or_else(|| Failure::refused("neither XDG_CONFIG_HOME nor HOME is set"))?;
    let failed = |path: &PathBuf, error: std::io::Error| {
        Failure::refused(format_args!("cannot write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(&units).map_err(|error| failed(&units, error))?;
    let program =
        installed_program().map_err(|error| Failure::refused(format_args!("where is this program? {error}")))?;
    let socket = format!(
        "[Unit]\nDescription=shellkeep: records kept shells\n\n[Socket]\nListenStream={}\nSocketMode=0600\nDirectoryMode=0700\n\n[Install]\nWantedBy=sockets.target\n",
        places.run.join("daemon.sock").display().to_string().replace('%', "%%")
    );
    let service = format!(
        "[Unit]\nDescription=shellkeep: records kept shells\nRequires={SOCKET_UNIT}\n\n[Service]\nExecStart={} daemon run\n{}Restart=on-failure\nNoNewPrivileges=yes\nMemoryMax=512M\nKillMode=process\n",
        quoted(&program.display().to_string(), Expansion::Command),
        // Else the daemon would record elsewhere than where its socket is looked for.
        places.home().map_or_else(String::new, |home| {
            let variable = format!("SHELLKEEP_HOME={}", home.display());
            format!("Environment={}\n", quoted(&variable, Expansion::Text))
        }),
    );
    let mut written = Vec::new();
    for (name, text) in [(SOCKET_UNIT, socket), (SERVICE_UNIT, service)] {
        let path = units.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
        written.push(path);
    }
    Ok(written)
}

/// What systemd would put into a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expansion {
    /// Its own `%` only.
    Text,
    /// Variables too.
    Command,
}

/// A text as one word of a unit file. Source: systemd.syntax(7), "Quoting"; systemd.service(5), "Command lines".
fn quoted(text: &str, expansion: Expansion) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let text = if expansion == Expansion::Command { text.replace('$', "$$") } else { text };
    format!("\"{text}\"")
}

fn unit_directory() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(config.join("systemd/user"))
}
