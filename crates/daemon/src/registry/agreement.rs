//! Asking the user, and taking the answer: what of the conversation is about trust.
//!
//! Promise: agreement is to what was shown; taking it back ends what runs because of it.

use std::path::Path;

use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{Digest, Kind, RegistryError, Scope, Told, Trust, TrustQuestion, TrustRecord};

use super::conversation::{Conversation, blocking, info};
use super::entry::Entry;
use super::run::Stop;
use super::trust;
use super::view::{Resolved, View};

impl Conversation {
    /// What the user is asked about a project's command.
    pub(super) fn question(&self, view: &View, session: Option<SessionId>, entry: &Entry) -> TrustQuestion {
        let root = session.and_then(|session| self.registry.project_of(session)).unwrap_or_default();
        let before = self.trust.lock().before(&root, &entry.id).map(|record| record.runs.clone());
        TrustQuestion {
            entry: info(view, entry),
            root: root.to_string_lossy().into_owned(),
            line: trust::line(entry),
            runs: trust::runs(entry),
            before,
        }
    }

    /// Whether an entry may run, by what is on the disk and was agreed to.
    ///
    /// # Errors
    /// [`RegistryError::NotTrusted`] with what to ask.
    pub(super) fn check_trust(
        &self,
        view: &View,
        session: Option<SessionId>,
        entry: &Entry,
    ) -> Result<(), RegistryError> {
        let root = session.and_then(|session| self.registry.project_of(session));
        let trust = match (entry.scope, &root) {
            (Scope::Builtin | Scope::User, _) => Trust::Trusted,
            (Scope::Project, Some(root)) => {
                let mut trust = self.trust.lock();
                if trust.take_once(root, entry) { Trust::Trusted } else { trust.of(root, entry) }
            }
            (Scope::Project, None) => Trust::Pending,
            (Scope::Session, _) => entry.trust,
        };
        if trust == Trust::Trusted {
            return Ok(());
        }
        Err(RegistryError::NotTrusted(Box::new(self.question(view, session, entry))))
    }

    pub(super) async fn agree(
        &self,
        session: Option<SessionId>,
        id: &str,
        digest: Digest,
    ) -> Result<Told, RegistryError> {
        let (own, id) = (self.clone(), id.to_owned());
        blocking(move || own.agree_now(session, &id, digest)).await?
    }

    fn agree_now(&self, session: Option<SessionId>, id: &str, digest: Digest) -> Result<Told, RegistryError> {
        let root =
            session.and_then(|session| self.registry.project_of(session)).ok_or(RegistryError::UnknownSession)?;
        let view = self.registry.get_for_session(session);
        let Resolved::Found(entry) = view.resolve(id) else {
            return Err(RegistryError::UnknownCommand { name: id.to_owned(), near: Vec::new(), is_service: false });
        };
        if entry.digest != digest {
            return Err(RegistryError::StaleEntry { entry: id.to_owned() });
        }
        let mut trust = self.trust.lock();
        if let Some(why) = trust::unread(entry) {
            if entry.kind == Kind::McpServer {
                let why = format!("a server runs for as long as it is agreed to, and that cannot be remembered: {why}");
                return Err(RegistryError::Unavailable { entry: entry.qualified_name.to_string(), why });
            }
            trust.agree_once(&root, entry);
            return Ok(Told::Done);
        }
        trust.agree(&root, entry, crate::now_us()).map_err(|error| unwritable(&error))?;
        self.registry.retrust(&root, |entry| trust.of(&root, entry));
        drop(trust);
        self.servers.reconcile();
        Ok(Told::Done)
    }

    pub(super) async fn revoke(&self, root: Option<String>, entry: Option<String>) -> Result<Told, RegistryError> {
        let own = self.clone();
        blocking(move || own.revoke_now(root.as_deref(), entry.as_deref())).await?
    }

    fn revoke_now(&self, root: Option<&str>, entry: Option<&str>) -> Result<Told, RegistryError> {
        let is_meant = |record: &TrustRecord| {
            root.is_none_or(|root| record.root == root) && entry.is_none_or(|entry| is_called(&record.entry, entry))
        };
        let mut trust = self.trust.lock();
        let all: Vec<TrustRecord> = trust.records().cloned().collect();
        let revoked = trust.revoke(is_meant);
        // If it cannot be saved, all is taken back.
        let before: Vec<TrustRecord> = all.into_iter().filter(|record| revoked.is_err() || is_meant(record)).collect();
        let roots: std::collections::BTreeSet<&str> = before.iter().map(|record| record.root.as_str()).collect();
        for root in roots.into_iter().map(Path::new) {
            self.registry.retrust(root, |entry| trust.of(root, entry));
        }
        drop(trust);
        self.servers.reconcile();
        self.invocations.stop_where(&Stop::TrustWithdrawn, |invocation| {
            let root = invocation.root().map(|root| root.to_string_lossy());
            let (id, _) = invocation.entry().agreed_as();
            before.iter().any(|record| Some(&*record.root) == root.as_deref() && record.entry == id)
        });
        revoked.map_err(|error| unwritable(&error))?;
        Ok(Told::Revoked { count: before.len() as u64 })
    }
}

/// By its id, `owner:name`, or its bare name: if several have it all are meant, for who takes back means it.
fn is_called(id: &str, name: &str) -> bool {
    let qualified = name.split_once(':').map(|(owner, name)| format!("/{owner}/{name}"));
    id == name || id.ends_with(&format!("/{name}")) || qualified.is_some_and(|qualified| id.ends_with(&qualified))
}

fn unwritable(error: &std::io::Error) -> RegistryError {
    RegistryError::System { what: "cannot remember what was agreed to".to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_is_called_as_it_is_run() {
        for name in ["deploy", "make:deploy", "project/make/deploy"] {
            assert!(is_called("project/make/deploy", name), "{name}");
        }
        for other in ["eploy", "ploy", "npm:deploy", "make", "make:", "", "ake:deploy", "make:deplo"] {
            assert!(!is_called("project/make/deploy", other), "{other}");
        }
        assert!(is_called("project/npm/test:unit", "test:unit"));
    }
}
