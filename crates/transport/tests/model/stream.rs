//! A socket in memory with a server behind it that doubles numbers the moment it has read them.

use std::io;
use std::task::{Context, Poll, Waker};

use crate::codec::{decode, encode_into};
use crate::envelope::Envelope;
use crate::frame::{FRAME_BYTES_MAX, FrameBuffer};
use crate::sync::Mutex;

pub(crate) struct Stream {
    pipe: Mutex<Pipe>,
}

struct Pipe {
    /// Bytes for us to read.
    inbound: Vec<u8>,
    /// What the server has read and not taken apart.
    read: FrameBuffer,
    /// Bytes that the server still takes.
    room: usize,
    /// The server sends no more.
    ended: bool,
    /// We have shut both directions.
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Kinds of the frames that the server has read.
    kinds: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            pipe: Mutex::new(Pipe {
                inbound: Vec::new(),
                read: FrameBuffer::new(FRAME_BYTES_MAX),
                room,
                ended: false,
                shut: false,
                reader: None,
                writer: None,
                kinds: Vec::new(),
            }),
        }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe.lock();
        if !pipe.inbound.is_empty() || pipe.ended || pipe.shut {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe.lock();
        if pipe.room > 0 || pipe.shut {
            return Poll::Ready(Ok(()));
        }
        pipe.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let (count, waker) = {
            let mut pipe = self.pipe.lock();
            if pipe.shut {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let count = bytes.len().min(pipe.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            pipe.room -= count;
            pipe.serve(&bytes[..count]);
            let waker = if pipe.inbound.is_empty() && !pipe.ended { None } else { pipe.reader.take() };
            (count, waker)
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(count)
    }

    pub(crate) fn read(&self, buffer: &mut FrameBuffer) -> io::Result<Option<usize>> {
        let mut pipe = self.pipe.lock();
        if pipe.inbound.is_empty() {
            return Ok((pipe.ended || pipe.shut).then_some(0));
        }
        let spare = buffer.spare();
        let count = spare.len().min(pipe.inbound.len());
        spare[..count].copy_from_slice(&pipe.inbound[..count]);
        pipe.inbound.drain(..count);
        buffer.filled(count);
        Ok(Some(count))
    }

    pub(crate) fn read_now(&self, buffer: &mut FrameBuffer) -> Option<usize> {
        self.read(buffer).ok().flatten().filter(|count| *count > 0)
    }

    pub(crate) fn shutdown(&self) {
        self.change(|pipe| pipe.shut = true);
    }

    /// The server takes so many more bytes.
    pub(crate) fn make_room(&self, bytes: usize) {
        let writer = {
            let mut pipe = self.pipe.lock();
            pipe.room += bytes;
            pipe.writer.take() // and not the reader, who would write as well and hide that nobody was told
        };
        writer.into_iter().for_each(Waker::wake);
    }

    /// The server goes.
    pub(crate) fn end(&self) {
        self.change(|pipe| pipe.ended = true);
    }

    /// How many requests the server has read.
    pub(crate) fn requests(&self) -> usize {
        self.sent().into_iter().filter(|kind| *kind == 1).count()
    }

    /// The kinds of the frames that were sent.
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.pipe.lock().kinds.clone()
    }

    fn change(&self, how: impl FnOnce(&mut Pipe)) {
        let wakers = {
            let mut pipe = self.pipe.lock();
            how(&mut pipe);
            [pipe.reader.take(), pipe.writer.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Pipe {
    fn serve(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let spare = self.read.spare();
            let count = spare.len().min(bytes.len());
            spare[..count].copy_from_slice(&bytes[..count]);
            self.read.filled(count);
            bytes = &bytes[count..];
            while let Some(body) = self.read.next_frame().expect("whole frames, in order") {
                let envelope = Envelope::parse(body).expect("frames that mean something");
                self.kinds.push(envelope.kind());
                match envelope {
                    Envelope::Request { id, payload, .. } if !self.ended => {
                        let number: u64 = decode(payload).unwrap();
                        let mut answer = Vec::new();
                        encode_into(&(2 * number), &mut answer, 8).unwrap();
                        let answer = Envelope::Response { id, payload: &answer };
                        answer.append_to(&mut self.inbound, FRAME_BYTES_MAX).unwrap();
                    }
                    Envelope::Goodbye { .. } => self.ended = true,
                    _ => {}
                }
            }
        }
    }
}
