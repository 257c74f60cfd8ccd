//! `dict.setdefault` that says which of the two values is in the dictionary.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// Puts `value` under `key` unless something is there already; gives what was there.
pub(crate) fn insert_new<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
    value: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = dict.py();
    let mut present = ptr::null_mut();
    // SAFETY: all three are live objects of the right types, and `present` is a place for one
    // reference. Where there is one, it is a new one: no other thread can free what it names.
    let (found, present) = unsafe {
        let found = ffi::compat::PyDict_SetDefaultRef(
            dict.as_ptr(),
            key.as_ptr(),
            value.as_ptr(),
            &raw mut present,
        );
        (found, Bound::from_owned_ptr_or_opt(py, present))
    };
    match found {
        0 => Ok(None),
        1 => Ok(present),
        _ => Err(PyErr::fetch(py)),
    }
}
