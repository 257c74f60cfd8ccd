//! Whether an object is known to others.

use pyo3::ffi;
use pyo3::prelude::*;

/// How many references to `object` there are. Only meaningful as for [`is_sole`].
pub(crate) fn count_references<T>(object: &Py<T>, _py: Python<'_>) -> usize {
    // SAFETY: it is alive, as `object` is a reference to it.
    let count = unsafe { ffi::Py_REFCNT(object.as_ptr()) };
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Whether `object` is the only reference there is. Only meaningful with the GIL, and for a class
/// without weak references: then nobody can come by another one.
pub(crate) fn is_sole<T>(object: &Py<T>, py: Python<'_>) -> bool {
    count_references(object, py) == 1
}
