//! Who is at the other end of a socket, as the kernel says.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The process that connected, or that listens, as it was at that moment. Source: unix(7), `SO_PEERCRED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Its process id; `None` if it lives in a pid namespace that cannot be seen from here.
    pub pid: Option<u32>,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

#[allow(clippy::cast_possible_truncation)] // 12
const UCRED_BYTES: libc::socklen_t = size_of::<libc::ucred>() as libc::socklen_t;

/// Asks the kernel who is at the other end of a connected Unix socket.
///
/// # Errors
/// Of getsockopt: the descriptor is no Unix socket, or not connected.
pub fn peer_credentials(socket: &impl AsFd) -> io::Result<PeerCredentials> {
    // Not rustix's: its type holds the pid as a non-zero number, and a peer of another pid namespace has pid 0.
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut bytes = UCRED_BYTES;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `found` is a live ucred of `bytes` bytes, every bit pattern of which is valid, and the borrowed
    // descriptor is open for the time of the call. The kernel writes at most `bytes` bytes.
    #[allow(unsafe_code)]
    let outcome =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut found).cast(), &raw mut bytes) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PeerCredentials { pid: u32::try_from(found.pid).ok().filter(|pid| *pid != 0), uid: found.uid, gid: found.gid })
}

/// The user that this process acts as, and whose sockets it trusts.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
