//! What is typed, what must come of it, and an SSH server to talk to.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::world::eventually;

/// A shell of the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Marks that no shell of ours has printed, with every trick that printed text has.
pub(super) const FORGED: &str = "\x1b]133;D;0\x07\x1b]133;C;sk=0;cmdline_url=forged\x07\x1b]133;A;sk=\x07\
    \x1b]7;file://h/forged\x07\x1b]133;D;5;sk=00000000000000000000000000000000\x07text\n";

impl Shell {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }

    /// The user's own start-up file.
    pub(super) fn start_up(self) -> (&'static str, &'static str) {
        match self {
            Self::Bash => (
                ".bashrc",
                "PS1='READY>'; PS2='MORE>'; HISTCONTROL=ignoreboth; alias greet='echo hi'\n\
                 hello() { echo \"hello $1\"; return \"$2\"; }\n",
            ),
            Self::Zsh => (
                ".zshrc",
                "PS1='READY>'; PS2='MORE>'; setopt hist_ignore_space interactive_comments; alias greet='echo hi'\n\
                 HISTSIZE=1000; hello() { echo \"hello $1\"; return $2 }\n",
            ),
            Self::Fish => (
                ".config/fish/config.fish",
                "function fish_prompt; echo -n 'READY>'; end; function fish_greeting; end; alias greet='echo hi'\n\
                 function hello; echo \"hello $argv[1]\"; return $argv[2]; end\n",
            ),
        }
    }
}

/// One thing that a person does.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Type(String),
    See(String),
    /// The window gets so many columns.
    Size(u16),
    /// Ctrl-C at the prompt.
    Interrupt,
}

/// What a command printed, as the terminal got it.
#[derive(Debug, Clone)]
pub(super) enum Out {
    Is(String),
    Has(String),
    Any,
}

impl Out {
    pub(super) fn is(&self, output: &[u8]) -> bool {
        match self {
            Self::Is(text) => output == text.as_bytes(),
            Self::Has(text) => String::from_utf8_lossy(output).contains(text.as_str()),
            Self::Any => true,
        }
    }
}

/// A command as it must be listed.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) line: String,
    pub(super) cwd: String,
    /// Its status, where the test knows it.
    pub(super) exit: Option<u64>,
    pub(super) out: Out,
    /// Worth a look of its own.
    pub(super) is_odd: bool,
}

/// What is done at one prompt, until the next.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) acts: Vec<Act>,
    pub(super) commands: Vec<Expected>,
    /// Whether the prompt that follows is marked as one.
    pub(super) marks_prompt: bool,
}

/// An SSH server on loopback, for this user alone.
pub(crate) struct Sshd {
    child: Child,
    /// The beginning of a command line that reaches it.
    pub(super) ssh: String,
}

impl Sshd {
    /// Nothing, if there is no server on this machine.
    pub(crate) fn start(directory: &Path) -> Option<Self> {
        let sshd = Path::new("/usr/sbin/sshd");
        if !sshd.exists() || !super::is_there("ssh") {
            return None;
        }
        let file = |name: &str| directory.join(name);
        for key in ["host", "mine"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file(key)).status();
            made.ok().filter(std::process::ExitStatus::success)?;
        }
        std::fs::copy(file("mine.pub"), file("keys")).ok()?;
        std::fs::create_dir_all("/run/sshd").ok()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let path = |name: &str| file(name).display().to_string();
        let config: PathBuf = file("sshd_config");
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\nPasswordAuthentication yes\nPrintMotd no\nPrintLastLog no\n",
            path("host"),
            path("keys")
        );
        std::fs::write(&config, text).ok()?;
        let child = Command::new(sshd).args(["-D", "-f"]).arg(&config).stderr(Stdio::null()).spawn().ok()?;
        let server = Self {
            child,
            ssh: format!(
                "ssh -p {port} -i {} -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR localhost",
                path("mine")
            ),
        };
        let answers = || Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
        eventually("the SSH server listens", answers).ok()?;
        Some(server)
    }

    /// A command line that reaches it and asks for a password.
    pub(crate) fn with_password(&self) -> String {
        self.ssh.replace(" localhost", " -o PreferredAuthentications=password -o NumberOfPasswordPrompts=1 localhost")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
