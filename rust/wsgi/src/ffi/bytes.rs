//! A `bytes` object that the reactor can send without the interpreter.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The first octets of a `bytes` object, kept alive until they are sent.
pub(crate) struct PinnedBytes {
    start: *const u8,
    length: usize,
    // Dropped only by a thread that is attached: the loop sends in its own turns. Freeing exact
    // `bytes` runs no Python code, so it is harmless under the reactor's lock.
    _owner: Py<PyBytes>,
}

impl PinnedBytes {
    /// The first `length` octets of `bytes`, or all where it has fewer. It must be exactly
    /// `bytes`: a subclass may have a `__del__`.
    pub(crate) fn new(bytes: &Bound<'_, PyBytes>, length: usize) -> Self {
        let octets = bytes.as_bytes();
        Self {
            start: octets.as_ptr(),
            length: length.min(octets.len()),
            _owner: bytes.clone().unbind(),
        }
    }
}

impl AsRef<[u8]> for PinnedBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` and `length` lie within the storage of a `bytes` object, which never
        // moves or changes, and which `_owner` keeps alive for as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

// SAFETY: the octets are immutable, and `Py` may be sent to any thread.
unsafe impl Send for PinnedBytes {}
