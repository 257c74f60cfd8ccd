//! What applications give of an answer, checked: statuses and fields are `str`, blocks are `bytes`.

use meinheld_protocol::encode::{ResponseError, ResponseHead};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use crate::ffi::text;

pub(crate) fn refused(error: ResponseError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub(crate) fn add_field(head: &mut ResponseHead, field: &Bound<'_, PyAny>) -> PyResult<()> {
    let Ok(pair) = field.cast::<PyTuple>() else {
        let (name, value) = field.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        return add_pair(head, &name, &value);
    };
    if pair.len() != 2 {
        return Err(PyTypeError::new_err(format!(
            "{field:?} is not a (name, value) pair"
        )));
    }
    let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
    add_pair(head, &name, &value)
}

fn add_pair(
    head: &mut ResponseHead,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let name = native(name, "a header name")?;
    let value = native(value, "a header value")?;
    head.field(text::octets(name)?, text::octets(value)?)
        .map_err(refused)
}

/// PEP 3333 wants `str` for statuses and headers, on Python 3 too.
pub(crate) fn native<'a, 'py>(
    value: &'a Bound<'py, PyAny>,
    what: &str,
) -> PyResult<&'a Bound<'py, PyString>> {
    value.cast::<PyString>().map_err(|_| {
        let kind = value.get_type();
        PyTypeError::new_err(format!(
            "{what} must be str, not {kind}: decode it as latin-1"
        ))
    })
}

/// Early hints may be given as bytes too, as gunicorn allows.
pub(crate) fn hint_octets(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    Ok(text::octets(native(value, "an early hint")?)?.to_vec())
}

/// A block of a body, which PEP 3333 wants to be bytes. Of a subclass a copy is made: freeing one
/// may run Python code, which must not happen while the reactor is locked.
pub(crate) fn bytes_block<'py>(block: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(exact) = block.cast_exact::<PyBytes>() {
        return Ok(exact.clone());
    }
    match block.cast::<PyBytes>() {
        Ok(derived) => Ok(PyBytes::new(block.py(), derived.as_bytes())),
        Err(_) => {
            let kind = block.get_type();
            Err(PyTypeError::new_err(format!(
                "a block of the body must be bytes, not {kind}: encode it"
            )))
        }
    }
}
