//! Latin-1 text: what PEP 3333 calls a native string holding bytes.

use std::borrow::Cow;
use std::ffi::c_char;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A `str` with one character for each octet (PEP 3333, "Unicode Issues").
pub(crate) fn latin1<'py>(py: Python<'py>, octets: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // A slice is never longer than isize::MAX, which is what Py_ssize_t holds.
    let length = octets.len() as ffi::Py_ssize_t;
    // SAFETY: pointer and length are those of a live slice, a null `errors` is allowed, and the
    // call gives a new reference to a `str`, or null with an exception set.
    let text = unsafe {
        let text =
            ffi::PyUnicode_DecodeLatin1(octets.as_ptr().cast::<c_char>(), length, std::ptr::null());
        Bound::from_owned_ptr_or_err(py, text)?
    };
    Ok(text.cast_into::<PyString>()?)
}

/// The octets of such a `str`.
///
/// # Errors
///
/// `ValueError` for a character that no octet stands for.
pub(crate) fn octets<'a>(text: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, [u8]>> {
    let utf8 = text.to_str()?;
    if utf8.is_ascii() {
        return Ok(Cow::Borrowed(utf8.as_bytes()));
    }
    let octet = |character| {
        u8::try_from(u32::from(character)).map_err(|_| {
            PyValueError::new_err(format!("{utf8:?} is not Latin-1 text, as PEP 3333 asks"))
        })
    };
    utf8.chars()
        .map(octet)
        .collect::<PyResult<Vec<u8>>>()
        .map(Cow::Owned)
}
