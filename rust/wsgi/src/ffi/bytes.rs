//! A `bytes` object that the reactor can send without the interpreter.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The first octets of a `bytes` object, kept alive until they are sent.
pub(crate) struct PinnedBytes {
    start: *const u8,
    length: usize,
    // Freeing exact `bytes` runs no Python code, so it is harmless under the reactor's lock. Where
    // the loop is not attached when it has sent them, PyO3 frees them with the next thread that is.
    _owner: Py<PyBytes>,
}

/// A block up to this length is copied behind the head: one buffer is cheaper to send than two.
const COPIED: usize = 4096;

impl PinnedBytes {
    /// `bytes`, if they are long enough not to be copied.
    pub(crate) fn worthwhile(bytes: &Bound<'_, PyBytes>) -> Option<Self> {
        (bytes.as_bytes().len() > COPIED).then(|| Self::new(bytes))
    }

    /// Cuts it to its first `length` octets.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// All of `bytes`, which must be exactly that: a subclass may have a `__del__`.
    fn new(bytes: &Bound<'_, PyBytes>) -> Self {
        let octets = bytes.as_bytes();
        Self {
            start: octets.as_ptr(),
            length: octets.len(),
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
