//! A file that says which commands all sessions have, for shells: they remember where programs lie, and forget that when it says another
//! word (corner 10).
//!
//! Promise: it changes when a command that is everybody's comes or goes, or a package's is of another release, and never else, whichever daemon wrote it; a shell that reads it sees
//! the old word or the new one. What it says means nothing but "the same" or "another".

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use shellkeep_protocol::registry::{Digest, Kind};
use tokio_util::sync::CancellationToken;

use super::core::CommandRegistry;
use super::view::View;

/// Name of the file, in the registry's directory.
pub const FILE: &str = "revision";

/// Keeps the file in `directory` as the base is, until `stop`.
pub(super) async fn run(registry: Arc<CommandRegistry>, directory: PathBuf, stop: CancellationToken) {
    let mut changes = registry.subscribe();
    let mut told = (0, None);
    loop {
        let base = registry.get_all();
        // Before all of it was looked at it would say that everything has gone.
        if base.is_complete() && base.revision().n != told.0 {
            let before = told.1.take();
            let directory = directory.clone();
            let n = base.revision().n;
            let write = move || {
                let word = word(&base);
                if before.as_ref() != Some(&word)
                    && let Err(error) = tell(&directory, &word)
                {
                    tracing::debug!(%error, "shells cannot be told that commands have come or gone");
                }
                word
            };
            told = (n, tokio::task::spawn_blocking(write).await.ok());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            there = changes.changed() => if there.is_err() { return },
        }
    }
}

/// What the file says: a digest over the ids, and over what packages' commands run. What servers of tools offer comes and goes with them, and is no program.
fn word(base: &View) -> String {
    let mut hash = Sha256::new();
    for entry in base.entries().filter(|entry| !matches!(entry.kind, Kind::McpTool | Kind::McpPrompt)) {
        hash.update((entry.id.len() as u64).to_le_bytes());
        hash.update(entry.id.as_bytes());
        // Another release is another program by the same name, with other completions.
        if entry.kind == Kind::Package {
            hash.update(entry.digest.0);
        }
    }
    Digest(hash.finalize().into()).to_string()
}

/// Puts the word into the file unless it is there: one write, one rename.
fn tell(directory: &Path, word: &str) -> std::io::Result<()> {
    let file = directory.join(FILE);
    let line = format!("{word}\n");
    if std::fs::read_to_string(&file).is_ok_and(|there| there == line) {
        return Ok(());
    }
    replace(&file, line.as_bytes())
}

/// Puts a file of the daemon's own in place as a whole, for nobody else to read; its directory too if there is none.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(directory) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let beside = file.with_extension("new");
    let mut made = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    made.write_all(bytes)?;
    std::fs::rename(beside, file)
}

#[cfg(test)]
mod tests {
    use shellkeep_protocol::ids::SessionId;
    use shellkeep_protocol::registry::Scope;

    use super::super::entry::{Draft, Exec};
    use super::super::slice::Slice;
    use super::super::view::Preferences;
    use super::*;

    fn registry(names: &[&str]) -> Arc<CommandRegistry> {
        let registry = CommandRegistry::new(1, Preferences::default());
        found(&registry, names);
        Arc::new(registry)
    }

    fn found(registry: &CommandRegistry, names: &[&str]) {
        let draft = |name: &&str| Draft::new(name, "mine", Kind::UserCommand, Scope::User, Exec::Nothing);
        let slice = Slice::new("user:mine", names.iter().map(draft).collect(), Vec::new());
        registry.found_all(&registry.look_for_base("user"), "user:", vec![slice]);
    }

    /// Corner 10, the daemon's part.
    #[tokio::test]
    async fn the_word_changes_when_a_command_of_all_comes_or_goes_and_with_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let says = || std::fs::read_to_string(home.path().join(FILE)).ok();
        let until = async |before: Option<String>| {
            let said = async {
                while says() == before {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(20), said).await.unwrap();
            says()
        };
        let (one, stop) = (registry(&["a"]), CancellationToken::new());
        let task = tokio::spawn(run(Arc::clone(&one), home.path().to_owned(), stop.clone()));
        let first = until(None).await;
        let written = || std::fs::metadata(home.path().join(FILE)).unwrap().modified().unwrap();
        let when = written();
        // A session's own, and the same again, are no reason; then one that is.
        let session = SessionId::new();
        let tool = Draft::new("t", "s", Kind::McpTool, Scope::Session, Exec::Nothing);
        one.set_session_entries(session, vec![tool]).unwrap();
        found(&one, &["a"]);
        assert_eq!((says(), written()), (first.clone(), when));
        found(&one, &["a", "b"]);
        let second = until(first.clone()).await;
        found(&one, &["a"]);
        assert_eq!(until(second).await, first);
        stop.cancel();
        task.await.unwrap();
        // Another daemon that finds the same writes nothing.
        let when = written();
        tell(home.path(), &word(&registry(&["a"]).get_all())).unwrap();
        assert_eq!(written(), when);
    }
}
