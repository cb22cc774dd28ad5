//! Gives memory back to the system that the allocator of glibc keeps for the next load.
//!
//! A crate of its own, so that the server itself can go on forbidding `unsafe`: there is no safe way to ask the
//! C library for this.

/// Gives back what is free. Takes some milliseconds for a heap of 100 MiB, in which other threads may wait for
/// memory: call it when there is little to do. Does nothing where the C library is not glibc.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a function of C")]
    // SAFETY: malloc_trim(3) may be called at any time and from any thread; it takes no pointer, and frees
    // nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
