//! Gives memory back to the system that a burst of output had needed.
//!
//! Promise: a daemon that has nothing to do holds little, whatever it did before. Knows the allocator and nothing else.

/// Bytes of records after which it is worth looking for memory to give back.
pub(crate) const BURST_BYTES: u64 = 8 << 20;

/// Gives back what is free. The allocator keeps it for the next burst otherwise; source: `malloc_trim(3)`.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)] // no safe interface to the allocator of the C library
    // SAFETY: malloc_trim takes the allocator's own locks, may be called from any thread at any time, and touches no
    // memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
