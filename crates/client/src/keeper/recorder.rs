//! Turns what happens in a session into records: numbered and spooled before a terminal sees a byte of it.
//!
//! Promises that order, that no typed secret is recorded (input is left out while a secret is
//! asked for), and that nothing is recorded during a pause but the marks around it. Knows the payloads of the records, and
//! nothing of where they go.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use shellkeep_journal::{RecordKind, Seq};
use shellkeep_protocol::annotation::ANNOTATION_BYTES_MAX;
use shellkeep_protocol::attach::{MASKED_INPUT_PAYLOAD, Recording, Size, exit_payload};
use shellkeep_protocol::resume::Retained as _;
use shellkeep_protocol::session::ExitStatus;

use super::asking::Asking;
use super::output::History;
use super::spool::Spool;

/// Records one session.
#[derive(Debug)]
pub struct Recorder {
    spool: Arc<Spool>,
    /// Looks for who asks, if typed bytes are recorded.
    asking: Option<Asking>,
    /// The last input record says that input was left out; one says it for all until something is recorded again.
    masked: AtomicBool,
    /// Held while output is recorded, so that none gets behind the mark of a pause. A full spool that blocks may hold
    /// it for long: whoever only wants to know looks at `paused`.
    recording: Mutex<Recording>,
    paused: AtomicBool,
    /// The end is recorded: nothing comes behind it.
    is_over: AtomicBool,
    /// Bytes of output left out so far: terminals count bytes as shown, the record counts them as recorded.
    unrecorded: AtomicU64,
    /// Offset, as shown, behind the last byte left out.
    left_out_end: AtomicU64,
}

impl Recorder {
    /// Records into `spool`; typed bytes only with `asking`.
    pub fn new(spool: Arc<Spool>, asking: Option<Asking>) -> Self {
        Self {
            spool,
            asking,
            masked: AtomicBool::new(false),
            recording: Mutex::default(),
            paused: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            unrecorded: AtomicU64::new(0),
            left_out_end: AtomicU64::new(0),
        }
    }

    /// Whether typed bytes must come through here.
    pub fn records_input(&self) -> bool {
        self.asking.is_some()
    }

    /// Records what the PTY gave. Returns the offset of its first byte among all that is shown. The shipper is woken by
    /// the caller, when the bytes are shown: waking it first would cost an echo its time on the processor.
    pub fn output(&self, bytes: &[u8]) -> u64 {
        if let Some(asking) = &self.asking {
            asking.output(bytes);
        }
        let recording = self.recording.lock();
        let unrecorded = self.unrecorded.load(Ordering::SeqCst);
        if *recording == Recording::On {
            return self.spool.append_quietly(RecordKind::Output, bytes).output_offset + unrecorded;
        }
        let offset = self.spool.end().output_offset + unrecorded;
        let count = bytes.len() as u64;
        self.left_out_end.store(offset + count, Ordering::SeqCst);
        self.unrecorded.store(unrecorded + count, Ordering::SeqCst);
        offset
    }

    /// Offset behind the last byte of output that [`Self::output`] has seen.
    pub fn shown_end(&self) -> u64 {
        self.spool.end().output_offset + self.unrecorded.load(Ordering::SeqCst)
    }

    /// Bytes of output in the record; `None` during a pause, when they are not what is shown.
    pub fn recorded_end(&self) -> Option<u64> {
        (self.recording() == Recording::On).then(|| self.spool.end().output_offset)
    }

    /// Where a byte of the record is among all that is shown, and whether everything before it was recorded; `None`
    /// if it lies before the end of a pause.
    pub fn shown_at(&self, recorded: u64) -> Option<(u64, bool)> {
        let unrecorded = self.unrecorded.load(Ordering::SeqCst);
        let shown = recorded.checked_add(unrecorded)?;
        (shown >= self.left_out_end.load(Ordering::SeqCst)).then_some((shown, unrecorded == 0))
    }

    /// Pauses the recording or goes on with it; a change is marked.
    pub fn set_recording(&self, recording: Recording) {
        let mut now = self.recording.lock();
        if *now != recording {
            *now = recording;
            self.paused.store(recording == Recording::Paused, Ordering::SeqCst);
            self.spool.append(RecordKind::Mark, &recording.to_payload());
        }
    }

    /// Whether it is paused.
    pub fn recording(&self) -> Recording {
        if self.paused.load(Ordering::SeqCst) { Recording::Paused } else { Recording::On }
    }

    /// Records what was typed, unless the program behind `master` asked for something secret.
    pub fn input(&self, master: &File, bytes: &[u8]) {
        let Some(asking) = self.asking.as_ref().filter(|_| self.recording() == Recording::On) else { return };
        if bytes.is_empty() {
            return;
        }
        if asking.is_for_a_secret(master) {
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

    /// Records what somebody notes; its number, or nothing during a pause, behind the end, and for what is too long.
    pub fn note(&self, payload: &[u8]) -> Option<Seq> {
        let recording = self.recording.lock();
        let is_taken = *recording == Recording::On
            && !self.is_over.load(Ordering::SeqCst)
            && payload.len() <= ANNOTATION_BYTES_MAX;
        is_taken.then(|| self.spool.append(RecordKind::Annotation, payload).next_seq)
    }

    /// Records the end.
    pub fn exit(&self, exit: ExitStatus) {
        let _behind_notes = self.recording.lock();
        self.is_over.store(true, Ordering::SeqCst);
        self.spool.append(RecordKind::Exit, &exit_payload(exit));
    }
}

impl History for Recorder {
    fn output_from(&self, offset: u64, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        // Behind the last pause all offsets differ by the same; before it something is missing in any case.
        let is_behind = offset >= self.left_out_end.load(Ordering::SeqCst);
        let recorded = offset.checked_sub(self.unrecorded.load(Ordering::SeqCst)).filter(|_| is_behind);
        recorded.is_some_and(|recorded| self.spool.output_from(recorded, bytes_max, out))
    }
}
