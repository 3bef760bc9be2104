//! The raw contestants' conversation: a `u32` length and a payload there, 64 bytes back for each.
//!
//! One piece of code for both raw servers, so that they differ in nothing but how they read and write.

/// Bytes of the length before a payload.
const PREFIX_BYTES: usize = 4;
/// Bytes of an answer: as long as the small payload, and what an acknowledgement of the large one would be.
pub(super) const ANSWER_BYTES: usize = 64;
/// What a raw end reads at a time.
pub(super) const READ_BYTES: usize = 256 << 10;

/// `count` requests as they travel.
pub(super) fn requests(payload_bytes: usize, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * (PREFIX_BYTES + payload_bytes));
    for _ in 0..count {
        bytes.extend_from_slice(&u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_le_bytes());
        bytes.resize(bytes.len() + payload_bytes, 0x5a);
    }
    bytes
}

/// Finds requests in a stream of bytes and answers them. Payloads are skipped, not collected: this is the floor.
#[derive(Debug, Default)]
pub(super) struct Echo {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Of the current payload, still to come.
    payload_bytes: usize,
}

impl Echo {
    /// Takes the next bytes and appends the answers of the requests that end in them.
    pub(super) fn feed(&mut self, mut bytes: &[u8], answers: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.payload_bytes > 0 {
                let taken = bytes.len().min(self.payload_bytes);
                self.payload_bytes -= taken;
                bytes = &bytes[taken..];
                if self.payload_bytes == 0 {
                    answers.resize(answers.len() + ANSWER_BYTES, 0x5a);
                }
                continue;
            }
            let (head, rest) = bytes.split_at(bytes.len().min(PREFIX_BYTES - self.prefix_bytes));
            self.prefix[self.prefix_bytes..][..head.len()].copy_from_slice(head);
            self.prefix_bytes += head.len();
            bytes = rest;
            if self.prefix_bytes == PREFIX_BYTES {
                self.payload_bytes = u32::from_le_bytes(self.prefix) as usize;
                self.prefix_bytes = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered_once_wherever_the_stream_is_cut() {
        let stream = requests(100, 3);
        for cut in 0..=stream.len() {
            let (mut echo, mut answers) = (Echo::default(), Vec::new());
            echo.feed(&stream[..cut], &mut answers);
            assert_eq!(answers.len(), cut / (PREFIX_BYTES + 100) * ANSWER_BYTES, "only whole requests, cut at {cut}");
            echo.feed(&stream[cut..], &mut answers);
            assert_eq!(answers.len(), 3 * ANSWER_BYTES, "cut at {cut}");
        }
    }
}
