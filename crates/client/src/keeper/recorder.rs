//! Turns what happens in a session into records: numbered and spooled before a terminal sees a byte of it.
//!
//! Promises that order, and that no typed secret is recorded: input is left out while the program reads a line with
//! echo off. Knows the payloads of the records, and nothing of where they go.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::LocalModes;
use shellkeep_journal::RecordKind;
use shellkeep_protocol::attach::{MASKED_INPUT_PAYLOAD, Size, exit_payload};
use shellkeep_protocol::session::ExitStatus;

use super::spool::Spool;

/// Records one session.
#[derive(Debug)]
pub struct Recorder {
    spool: Arc<Spool>,
    records_input: bool,
    /// The last input record says that input was left out; one says it for all until something is recorded again.
    masked: AtomicBool,
}

impl Recorder {
    /// Records into `spool`; typed bytes only if asked.
    pub fn new(spool: Arc<Spool>, records_input: bool) -> Self {
        Self { spool, records_input, masked: AtomicBool::new(false) }
    }

    /// Whether typed bytes must come through here.
    pub fn records_input(&self) -> bool {
        self.records_input
    }

    /// Records what the PTY gave. Returns the offset of its first byte among all output. The shipper is woken by the
    /// caller, when the bytes are shown: waking it first would cost an echo its time on the processor.
    pub fn output(&self, bytes: &[u8]) -> u64 {
        self.spool.append_quietly(RecordKind::Output, bytes).output_offset
    }

    /// Records what was typed, unless the program behind `master` asked for something secret.
    pub fn input(&self, master: &File, bytes: &[u8]) {
        if !self.records_input || bytes.is_empty() {
            return;
        }
        if asks_for_a_secret(master) {
            if !self.masked.swap(true, Ordering::Relaxed) {
                self.spool.append(RecordKind::Input, MASKED_INPUT_PAYLOAD);
            }
        } else {
            self.masked.store(false, Ordering::Relaxed);
            self.spool.append(RecordKind::Input, bytes);
        }
    }

    /// Records the window's new size.
    pub fn resize(&self, size: Size) {
        self.spool.append(RecordKind::Resize, &size.to_payload());
    }

    /// Records the end.
    pub fn exit(&self, exit: ExitStatus) {
        self.spool.append(RecordKind::Exit, &exit_payload(exit));
    }
}

/// Whether the program reads a line that it does not show: `read -s`, `sudo`, `ssh`, `getpass`. A full-screen program
/// has echo off too, but reads no lines. Source: termios(3).
fn asks_for_a_secret(master: &File) -> bool {
    let modes = rustix::termios::tcgetattr(master).map(|modes| modes.local_modes);
    // If the modes cannot be read, the safe side is to record nothing.
    modes.map_or(true, |modes| modes.contains(LocalModes::ICANON) && !modes.contains(LocalModes::ECHO))
}
