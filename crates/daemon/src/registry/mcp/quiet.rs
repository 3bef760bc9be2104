//! What a server prints, on its way to the protocol: lines that can be messages, and no more of them than is sane.
//!
//! Promise: a line that is no message is left out and counted, a line longer than [`LINE_BYTES_MAX`] or too many that are no messages
//! end the stream with a reason; more than [`LINES_PER_SECOND_MAX`] are read only as fast as that, so that the server waits, not the daemon.
//! Holds one buffer of [`READ_BYTES`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Longest message.
pub(super) const LINE_BYTES_MAX: usize = 4 << 20;

/// Lines that are no messages, within [`NOISE_WINDOW`]; one more is the end.
const NOISE_LINES_MAX: u32 = 100;
const NOISE_WINDOW: Duration = Duration::from_secs(10);

/// Messages that are taken in a second.
const LINES_PER_SECOND_MAX: u32 = 1_000;

/// What is read at once.
const READ_BYTES: usize = 8 << 10;

/// Why a stream was ended, for who asks afterwards.
pub(super) type Reason = Arc<Mutex<Option<String>>>;

/// A reader that gives only what can be messages.
pub(super) struct Quiet<R> {
    inner: R,
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    line: Line,
    noise: Window,
    lines: Window,
    rest: Option<Pin<Box<Sleep>>>,
    reason: Reason,
}

/// Where in a line we are.
enum Line {
    /// Nothing but so many bytes of space so far.
    Begins(usize),
    /// A message, of so many bytes so far.
    Message(usize),
    /// Something else, the same.
    Noise(usize),
}

/// Counts within a time.
struct Window {
    began: Instant,
    count: u32,
}

impl Window {
    fn new() -> Self {
        Self { began: Instant::now(), count: 0 }
    }

    /// Counts one; how many there were within `length`.
    fn count(&mut self, length: Duration) -> u32 {
        if self.began.elapsed() > length {
            *self = Self::new();
        }
        self.count += 1;
        self.count
    }
}

impl<R> Quiet<R> {
    pub(super) fn new(inner: R, reason: Reason) -> Self {
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        let (noise, lines) = (Window::new(), Window::new());
        Self { inner, buffer, from: 0, to: 0, line: Line::Begins(0), noise, lines, rest: None, reason }
    }

    fn refuse(&self, why: &str) -> std::io::Error {
        self.reason.lock().get_or_insert_with(|| why.to_owned());
        std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned())
    }

    /// A line may have so many bytes, be it a message or not: one without an end would be read for ever.
    fn check(&self, length: usize) -> std::io::Result<()> {
        if length > LINE_BYTES_MAX { Err(self.refuse("it sent a line of more than 4 MiB")) } else { Ok(()) }
    }

    /// A line was taken; the next one perhaps later.
    fn taken(&mut self) {
        if self.lines.count(Duration::from_secs(1)) >= LINES_PER_SECOND_MAX {
            self.rest = Some(Box::pin(tokio::time::sleep_until(self.lines.began + Duration::from_secs(1))));
        }
    }

    /// Moves on to `out` what is there of messages.
    fn pass(&mut self, out: &mut ReadBuf<'_>) -> std::io::Result<()> {
        while self.from < self.to && out.remaining() > 0 && self.rest.is_none() {
            let there = &self.buffer[self.from..self.to];
            let end = there.iter().position(|byte| *byte == b'\n');
            let part = &there[..end.map_or(there.len(), |end| end + 1)];
            match self.line {
                Line::Begins(length) => match part.iter().position(|byte| !byte.is_ascii_whitespace()) {
                    None => {
                        let count = part.len();
                        self.check(length + count)?;
                        self.from += count;
                        self.line = Line::Begins(if end.is_some() { 0 } else { length + count });
                        if end.is_some() {
                            self.taken(); // nothing, but not for nothing
                        }
                    }
                    Some(first) => {
                        self.line = if part[first] == b'{' { Line::Message(0) } else { Line::Noise(0) };
                        self.from += first;
                    }
                },
                Line::Message(length) => {
                    let count = part.len().min(out.remaining());
                    self.check(length + count)?;
                    out.put_slice(&part[..count]);
                    self.from += count;
                    let is_end = end.is_some() && count == part.len();
                    self.line = if is_end { Line::Begins(0) } else { Line::Message(length + count) };
                    if is_end {
                        self.taken();
                    }
                }
                Line::Noise(length) => {
                    let count = part.len();
                    self.check(length + count)?;
                    self.from += count;
                    self.line = Line::Noise(length + count);
                    if end.is_some() {
                        self.line = Line::Begins(0);
                        if self.noise.count(NOISE_WINDOW) > NOISE_LINES_MAX {
                            return Err(self.refuse("it prints what is no message on its standard output"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Quiet<R> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let own = self.get_mut();
        let before = out.filled().len();
        loop {
            if let Some(rest) = &mut own.rest {
                ready!(rest.as_mut().poll(context));
                own.rest = None;
            }
            own.pass(out)?;
            if out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            if own.rest.is_some() {
                continue;
            }
            let mut read = ReadBuf::new(&mut own.buffer);
            ready!(Pin::new(&mut own.inner).poll_read(context, &mut read))?;
            (own.from, own.to) = (0, read.filled().len());
            if own.to == 0 {
                return Poll::Ready(Ok(())); // the end
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn read(text: &[u8]) -> (Result<String, String>, Option<String>) {
        let reason = Reason::default();
        let mut all = Vec::new();
        let mut quiet = Quiet::new(text, Arc::clone(&reason));
        let done = quiet.read_to_end(&mut all).await;
        let reason = reason.lock().clone();
        (done.map(|_| String::from_utf8_lossy(&all).into_owned()).map_err(|error| error.to_string()), reason)
    }

    #[tokio::test]
    async fn lines_that_are_no_messages_are_left_out() {
        let (passed, reason) = read(b"hello\n\n  {\"a\":1}\nwarning: {\"x\"}\r\n[1]\n{\"b\":\n{half").await;
        assert_eq!((passed.as_deref(), reason), (Ok("{\"a\":1}\n{\"b\":\n{half"), None));
        let long = format!("{{\"a\":\"{}\"}}\n{{}}\n", "x".repeat(100_000));
        assert_eq!(read(long.as_bytes()).await.0.as_ref(), Ok(&long));
    }

    #[tokio::test]
    async fn noise_and_endless_lines_end_the_stream_with_a_reason() {
        let quiet = "x\n".repeat(NOISE_LINES_MAX as usize);
        assert_eq!(read(quiet.as_bytes()).await.0.as_deref(), Ok(""));
        let (passed, reason) = read(format!("{quiet}x\n").as_bytes()).await;
        assert!(passed.is_err() && reason.is_some_and(|reason| reason.contains("no message")));
        // A message, something else, and nothing at all.
        for (first, endless) in [("{", "x"), ("x", "x"), (" ", " ")] {
            let (passed, reason) = read(format!("{first}{}", endless.repeat(LINE_BYTES_MAX)).as_bytes()).await;
            assert!(passed.is_err() && reason.is_some_and(|reason| reason.contains("4 MiB")), "{first:?}");
        }
    }

    #[tokio::test]
    async fn a_flood_of_messages_is_read_only_so_fast() {
        for (line, passed) in [("{}\n", "{}\n"), (" \n", "")] {
            let began = Instant::now();
            let count = LINES_PER_SECOND_MAX as usize + 1;
            assert_eq!(read(line.repeat(count).as_bytes()).await.0, Ok(passed.repeat(count)));
            assert!(began.elapsed() >= Duration::from_millis(990), "{line:?}: {:?}", began.elapsed());
        }
    }
}
