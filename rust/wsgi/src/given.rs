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
    let value = value.cast::<PyString>().map_err(|_| {
        let kind = kind_of(value);
        PyTypeError::new_err(format!(
            "the value of the header {name:?} is {kind}: write a str, as {}",
            match value.is_instance_of::<PyBytes>() {
                true => "value.decode('latin-1')",
                false => "str(value)",
            }
        ))
    })?;
    head.field(text::octets(name)?, text::octets(value)?)
        .map_err(refused)
}

/// PEP 3333 wants `str` for statuses and headers, on Python 3 too.
pub(crate) fn native<'a, 'py>(
    value: &'a Bound<'py, PyAny>,
    what: &str,
) -> PyResult<&'a Bound<'py, PyString>> {
    value.cast::<PyString>().map_err(|_| {
        let kind = kind_of(value);
        PyTypeError::new_err(match value.cast::<PyBytes>() {
            Ok(bytes) => {
                let meant: String = bytes.as_bytes().iter().copied().map(char::from).collect();
                let meant = PyString::new(value.py(), &meant);
                format!("{what} is {kind}: write {meant:?}, a str")
            }
            Err(_) => format!("{what} is {kind}: write a str"),
        })
    })
}

/// The name of its type.
fn kind_of(value: &Bound<'_, PyAny>) -> String {
    let name = value.get_type().name();
    name.map_or_else(|_| "of no type".to_owned(), |name| name.to_string())
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
            let kind = kind_of(block);
            Err(PyTypeError::new_err(format!(
                "a block of the body is {kind}: write bytes, as {}",
                match block.is_instance_of::<PyString>() {
                    true => "text.encode()",
                    false => "str(block).encode()",
                }
            )))
        }
    }
}

/// What an application may return: of a `str` each character would be a block, of `bytes` each
/// octet's number.
pub(crate) fn no_bare_text(returned: &Bound<'_, PyAny>) -> PyResult<()> {
    let fix = if returned.is_instance_of::<PyString>() {
        "[text.encode()]"
    } else if returned.is_instance_of::<PyBytes>() {
        "a list of it, [body]"
    } else {
        return Ok(());
    };
    if returned.is_empty()? {
        return Ok(());
    }
    let kind = kind_of(returned);
    Err(PyTypeError::new_err(format!(
        "the application returned {kind}: return {fix}"
    )))
}
