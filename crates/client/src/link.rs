//! One attach connection: whole messages, and the descriptors beside them, over a blocking Unix socket.
//!
//! Promises that no message or descriptor is lost or split, that a peer can make us hold neither more bytes than a
//! frame nor more descriptors than `DESCRIPTORS_MAX`, and that sending can be bounded in time. Used by both ends.
//! Knows the messages' types and nothing of what they do.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use shellkeep_protocol::attach::{ATTACH_FRAME_BYTES_MAX, FromKeeper, FromTerminal, Hello};

use shellkeep_transport::frame::{FrameBuffer, FrameError, append_frame};

/// Descriptors that may wait for the message that they came with. More than any message has: more end the connection.
const DESCRIPTORS_MAX: usize = 4;

/// Why a connection cannot be used any further.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end has gone.
    #[error("the other end has closed the connection")]
    Closed,
    /// The other end took or sent nothing for the time allowed.
    #[error("the other end does not answer")]
    TimedOut,
    /// What came is not this conversation.
    #[error("the other end speaks something else: {0}")]
    Foreign(String),
    /// No version is known to both ends.
    #[error("the other end speaks versions {} to {} of the attach conversation", .0.oldest, .0.newest)]
    Version(Hello),
    /// The system refused.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<rustix::io::Errno> for LinkError {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        Self::Foreign(error.to_string())
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<UnixStream>,
    frames: FrameBuffer,
    descriptors: VecDeque<OwnedFd>,
}

/// The sending half; may be shared between threads, a message is sent whole.
#[derive(Debug, Clone)]
pub struct Sender {
    socket: Arc<UnixStream>,
    /// Reused for encoding; holding it is the right to send.
    scratch: Arc<Mutex<Vec<u8>>>,
}

/// Splits a connected socket into its halves.
pub fn split(socket: UnixStream) -> (Sender, Receiver) {
    let socket = Arc::new(socket);
    let sender = Sender { socket: Arc::clone(&socket), scratch: Arc::default() };
    let frames = FrameBuffer::new(ATTACH_FRAME_BYTES_MAX);
    (sender, Receiver { socket, frames, descriptors: VecDeque::new() })
}

impl Receiver {
    /// The socket, to wait for.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Bounds every wait for bytes; `None` waits for ever.
    ///
    /// # Errors
    /// [`LinkError::Io`] if the system refuses.
    pub fn set_wait(&self, wait: Option<Duration>) -> Result<(), LinkError> {
        Ok(self.socket.set_read_timeout(wait)?)
    }

    /// Takes the Hello of the other end, which must come first.
    ///
    /// # Errors
    /// [`LinkError::Version`] or [`LinkError::Foreign`] if no conversation is possible.
    pub fn hello(&mut self) -> Result<u16, LinkError> {
        let hello: Hello = decode(self.receive()?)?;
        hello.common().ok_or(LinkError::Version(hello))
    }

    /// Waits for a message of a keeper.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn from_keeper(&mut self) -> Result<FromKeeper<'_>, LinkError> {
        decode(self.receive()?)
    }

    /// Waits for a message of a terminal.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn from_terminal(&mut self) -> Result<FromTerminal<'_>, LinkError> {
        decode(self.receive()?)
    }

    /// Whether a whole message waits already, so that taking it does not block.
    ///
    /// # Errors
    /// [`LinkError::Foreign`] if what waits is no frame.
    pub fn has_message(&self) -> Result<bool, LinkError> {
        Ok(self.frames.has_frame()?)
    }

    /// Reads once what the socket holds; after this, [`Self::has_message`] may be true.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn fill(&mut self) -> Result<(), LinkError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(self.frames.spare())];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match rustix::net::recvmsg(&*self.socket, &mut parts, &mut ancillary, flags) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result?,
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if self.descriptors.len() > DESCRIPTORS_MAX {
            return Err(LinkError::Foreign("too many descriptors".to_owned()));
        }
        if received.bytes == 0 {
            return Err(LinkError::Closed);
        }
        self.frames.filled(received.bytes);
        Ok(())
    }

    /// The oldest descriptor that came and was not taken.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn receive(&mut self) -> Result<&[u8], LinkError> {
        while !self.frames.has_frame()? {
            self.fill()?;
        }
        self.frames.next_frame()?.ok_or(LinkError::Closed)
    }
}

impl Sender {
    /// The socket, to wait for or to shut down.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Bounds every wait for room; `None` waits for ever. After a time-out the connection is of no more use.
    ///
    /// # Errors
    /// [`LinkError::Io`] if the system refuses.
    pub fn set_wait(&self, wait: Option<Duration>) -> Result<(), LinkError> {
        Ok(self.socket.set_write_timeout(wait)?)
    }

    /// Sends our Hello, which comes first.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn hello(&self) -> Result<(), LinkError> {
        self.send(&Hello::OURS, &[])
    }

    /// Says something as a keeper, with descriptors beside it.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn to_terminal(&self, message: &FromKeeper<'_>, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        self.send(message, descriptors)
    }

    /// Says something as a terminal, with descriptors beside it.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn to_keeper(&self, message: &FromTerminal<'_>, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        self.send(message, descriptors)
    }

    fn send<M: serde::Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        let mut scratch = self.scratch.lock();
        scratch.clear();
        frame(message, &mut scratch)?;
        send_all(self.socket.as_fd(), &scratch, descriptors)
    }
}

/// Appends `message` to `out` as one frame.
///
/// # Errors
/// [`LinkError::Foreign`] if it is too long for one.
pub fn frame<M: serde::Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), LinkError> {
    append_frame(out, ATTACH_FRAME_BYTES_MAX, |body| {
        shellkeep_transport::encode_into(message, body, ATTACH_FRAME_BYTES_MAX as usize)
            .map_err(|error| LinkError::Foreign(error.to_string()))
    })
}

fn decode<'a, M: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<M, LinkError> {
    shellkeep_transport::decode(body).map_err(|error| LinkError::Foreign(error.to_string()))
}

/// Sends all of `bytes`; the descriptors go with the first of them.
fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8], mut descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
    while !bytes.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(LinkError::Foreign("too many descriptors".to_owned()));
        }
        let parts = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                bytes = &bytes[sent..];
                descriptors = &[];
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shellkeep_protocol::attach::ATTACH_VERSIONS;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_message_and_closes_on_exec() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let (sender, _) = split(ours);
        let (_, mut receiver) = split(theirs);
        sender.hello().expect("hello is sent");
        let file = std::fs::File::open("/dev/null").expect("/dev/null opens");
        sender.to_keeper(&FromTerminal::Info, &[file.as_fd()]).expect("info is sent");
        assert_eq!(receiver.hello().expect("hello arrives"), *ATTACH_VERSIONS.end());
        assert!(matches!(receiver.from_terminal(), Ok(FromTerminal::Info)));
        let passed = receiver.take_descriptor().expect("the descriptor came");
        let flags = rustix::io::fcntl_getfd(&passed).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        assert!(receiver.take_descriptor().is_none());
    }

    #[test]
    fn a_flood_of_descriptors_ends_the_connection() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let (sender, _) = split(ours);
        let (_, mut receiver) = split(theirs);
        let file = std::fs::File::open("/dev/null").expect("/dev/null opens");
        let two = [file.as_fd(), file.as_fd()];
        let sent = (0..3).all(|_| sender.to_keeper(&FromTerminal::Poke, &two).is_ok());
        assert!(sent);
        let end = (0..3).find_map(|_| receiver.from_terminal().err());
        assert!(matches!(end, Some(LinkError::Foreign(_))), "{end:?}");
    }

    #[test]
    fn bytes_that_are_no_hello_are_refused() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let (sender, _) = split(ours);
        let (_, mut receiver) = split(theirs);
        let newer = Hello { magic: *b"SKat", oldest: 7, newest: 9 };
        sender.send(&newer, &[]).expect("sent");
        assert!(matches!(receiver.hello(), Err(LinkError::Version(hello)) if hello == newer));
    }
}
