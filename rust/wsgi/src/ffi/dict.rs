//! `dict.setdefault` that says which of the two values is in the dictionary.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// Puts `value` under `key` unless something is there already; gives what was there.
pub(crate) fn insert_new<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
    value: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let before = dict.len();
    // SAFETY: all three are live objects of the right types; the result is a borrowed reference
    // into the dictionary (or null with an exception set), which is made an owned one at once,
    // before anything can change the dictionary.
    let present = unsafe {
        let found = ffi::PyDict_SetDefault(dict.as_ptr(), key.as_ptr(), value.as_ptr());
        Bound::from_borrowed_ptr_or_err(dict.py(), found)?
    };
    // Not by identity: the interpreter has one object for all equal strings of up to one octet.
    Ok((dict.len() == before).then_some(present))
}
