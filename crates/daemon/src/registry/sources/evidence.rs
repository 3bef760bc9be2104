//! What decides what a command does, beside its own words: files as they are, files that are not there, files that could not be read.
//!
//! Promise: evidence is complete or it says that it is not. What is there and was not read is evidence of its own kind, and nobody can
//! agree to it for longer than once. Knows neither where files lie nor who reads them.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// One thing that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// A path as the source has it, relative to its base, or a name for a part of a file (`package.json scripts`).
    pub what: Arc<str>,
    /// What was there when the source was read.
    pub content: Content,
}

/// What was found in the place that an [`Evidence`] names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file, all of it.
    Bytes(Arc<Held>),
    /// Nothing. It would be read if it were there.
    Absent,
    /// Something that was not read, and why: agreement to what depends on it must not be remembered.
    Unread(Arc<str>),
}

impl Evidence {
    /// Nothing is there.
    pub(super) fn absent(what: &str) -> Self {
        Self { what: what.into(), content: Content::Absent }
    }

    /// What is there was not read.
    pub(super) fn unread(what: &str, why: &str) -> Self {
        Self { what: what.into(), content: Content::Unread(why.into()) }
    }
}

/// Bytes with their digest, which is made once however many items depend on them: of a file with thousands of tasks all do.
#[derive(Debug)]
pub struct Held {
    bytes: Box<[u8]>,
    digest: [u8; 32],
}

impl Held {
    /// These bytes.
    pub(super) fn new(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self { bytes: bytes.into(), digest: Sha256::digest(bytes).into() })
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Held {}

/// Evidence that many items have in common, in order, with one digest.
#[derive(Debug, PartialEq, Eq)]
pub struct Common {
    all: Vec<Evidence>,
    digest: [u8; 32],
}

impl Common {
    /// These.
    pub(super) fn new(all: Vec<Evidence>) -> Arc<Self> {
        let mut parts = Parts(Vec::new());
        parts.evidence(&all);
        let digest = Sha256::digest(&parts.0).into();
        Arc::new(Self { all, digest })
    }

    /// All of it.
    pub fn all(&self) -> &[Evidence] {
        &self.all
    }

    /// Of all that is in it.
    pub(super) fn digest(&self) -> &[u8] {
        &self.digest
    }
}

/// Parts with their lengths, so that no two lists of parts give the same bytes.
pub(super) struct Parts(pub Vec<u8>);

impl Parts {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn evidence(&mut self, all: &[Evidence]) {
        for evidence in all {
            self.text(&evidence.what);
            match &evidence.content {
                Content::Bytes(held) => {
                    self.text("bytes");
                    self.bytes(&held.digest);
                }
                Content::Absent => self.text("absent"),
                Content::Unread(why) => {
                    self.text("unread");
                    self.text(why);
                }
            }
        }
    }
}
