//! Peers that say exactly what a test wants: blocking, on plain streams, made of the crate's own frames.
//! Each runs on a thread of its own, so that a silent one stops nothing but itself.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;

use serde::Serialize;
use shellkeep_transport::frame::{FRAME_BYTES_MAX, FrameBuffer, append_frame, read_frame};
use shellkeep_transport::socket::{bind, connect, own_uid};
use shellkeep_transport::*;

use super::{Ask, Echo, PATIENCE};

pub struct Raw {
    pub stream: UnixStream,
    buffer: FrameBuffer,
}

impl Raw {
    pub fn new(stream: UnixStream) -> Self {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: FrameBuffer::new(FRAME_BYTES_MAX) }
    }

    /// A client that has connected and said nothing.
    pub fn dial(path: &Path) -> Self {
        Self::new(connect(path, own_uid()).unwrap())
    }

    /// A client whose Hello was accepted.
    pub fn greeted(path: &Path) -> Self {
        let mut raw = Self::dial(path);
        let hello = hello();
        raw.send(|out| hello.append_to(out).unwrap());
        let reply = Reply::parse(&raw.frame().unwrap(), &hello).unwrap();
        assert!(matches!(reply, Reply::Accepted(_)), "{reply:?}");
        raw
    }

    /// A server that has accepted one client and its Hello.
    pub fn accepted(listener: &UnixListener) -> Self {
        let mut raw = Self::new(accept(listener));
        raw.frame().unwrap();
        raw.accept_hello();
        raw
    }

    pub fn accept_hello(&mut self) {
        self.send(|out| out.extend(accepting()));
    }

    pub fn send(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        fill(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    pub fn say(&mut self, envelope: &Envelope<'_>) {
        self.send(|out| envelope.append_to(out, FRAME_BYTES_MAX).unwrap());
    }

    pub fn ask(&mut self, id: u64, ask: &Ask) {
        self.send(|out| out.extend(request(id, ask)));
    }

    /// The next frame's body; `None` at the end of the connection.
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        match read_frame(&mut self.stream, &mut self.buffer) {
            Ok(body) => body.map(<[u8]>::to_vec),
            Err(frame::ReadError::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no frame: {error}"),
        }
    }

    /// The id of the next request.
    pub fn request(&mut self) -> u64 {
        let body = self.frame().expect("a request");
        match Envelope::parse(&body).unwrap() {
            Envelope::Request { id, .. } => id,
            other => panic!("not a request: {other:?}"),
        }
    }

    pub fn answer(&mut self, id: u64, told: &super::Told) {
        let payload = &encoded(told);
        self.say(&Envelope::Response { id, payload });
    }

    /// Reads until the peer ends the connection; the bytes that it sent before, as raw frames.
    pub fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        rest
    }
}

pub fn hello() -> Hello {
    Hello {
        name: Echo::NAME,
        versions: Echo::VERSIONS,
        frame_bytes_max: FRAME_BYTES_MAX,
        heartbeat_ms: 1000,
        abilities: 0,
    }
}

/// The reply that accepts a Hello.
pub fn accepting() -> Vec<u8> {
    let terms = Terms { version: 3, frame_bytes_max: FRAME_BYTES_MAX, in_flight_max: 4096, connection: 1 };
    let mut bytes = Vec::new();
    Reply::Accepted(terms).append_to(Echo::NAME, &Echo::VERSIONS, &mut bytes).unwrap();
    bytes
}

pub fn encoded(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(message, &mut bytes, FRAME_BYTES_MAX as usize).unwrap();
    bytes
}

/// A whole request frame.
pub fn request(id: u64, ask: &Ask) -> Vec<u8> {
    let payload = &encoded(ask);
    let deadline_ms = 60_000;
    let mut bytes = Vec::new();
    let envelope = Envelope::Request { id, deadline_ms, payload };
    envelope.append_to(&mut bytes, FRAME_BYTES_MAX).unwrap();
    bytes
}

/// A frame with this body.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, u32::MAX, |out| {
        out.extend_from_slice(body);
        Ok::<(), frame::FrameError>(())
    })
    .unwrap();
    bytes
}

/// Blocks until a client connects.
pub fn accept(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(false).unwrap();
    listener.accept().unwrap().0
}

/// A server whose every step is the test's; joined for what it returns.
pub fn scripted<T: Send + 'static>(
    path: &Path,
    script: impl FnOnce(UnixListener) -> T + Send + 'static,
) -> JoinHandle<T> {
    let (file, listener) = bind(path).unwrap().into_parts();
    std::thread::spawn(move || {
        let outcome = script(listener);
        drop(file);
        outcome
    })
}
