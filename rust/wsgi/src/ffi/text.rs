//! Latin-1 text: what PEP 3333 calls a native string holding bytes.

use std::ffi::c_char;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::types::string::PyStringData;

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
pub(crate) fn octets<'a>(text: &'a Bound<'_, PyString>) -> PyResult<&'a [u8]> {
    // SAFETY: the representation of a `str` never changes once it is made, and the slice does not
    // outlive it; PyO3 reads the bit field of CPython's header, which tests/ checks on every
    // version that is supported.
    match unsafe { text.data()? } {
        PyStringData::Ucs1(octets) => Ok(octets),
        PyStringData::Ucs2(_) | PyStringData::Ucs4(_) => {
            let text = text.to_string_lossy();
            Err(PyValueError::new_err(format!(
                "{text:?} is not Latin-1 text, as PEP 3333 asks"
            )))
        }
    }
}

/// Whether `text` stands for just these octets.
pub(crate) fn is_latin1(text: &Bound<'_, PyString>, given: &[u8]) -> bool {
    octets(text).is_ok_and(|known| known == given)
}
