//! Whether an object is known to others.

use pyo3::ffi;
use pyo3::prelude::*;

/// Whether `object` is the only reference there is. Only meaningful with the GIL, and for a class
/// without weak references: then nobody can come by another one.
pub(crate) fn is_sole<T>(object: &Py<T>, _py: Python<'_>) -> bool {
    // SAFETY: it is alive, as `object` is a reference to it.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) == 1 }
}
