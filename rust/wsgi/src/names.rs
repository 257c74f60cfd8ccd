//! Strings that come again: made once, and bounded, whatever clients send.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::ffi::text;

/// Names kept: far more than applications and browsers use, and a bound on what a client that
/// invents names can make a worker keep.
const KEPT: usize = 1024;
/// Longer names are made anew each time.
const LONGEST: usize = 64;

/// `str` objects by the octets they were made from.
#[derive(Default)]
pub(crate) struct Names {
    known: HashMap<Box<[u8]>, Py<PyString>, RandomState>,
}

impl Names {
    /// The `str` for `octets`, through `make` the first time.
    pub(crate) fn get<'py>(
        &mut self,
        py: Python<'py>,
        octets: &[u8],
        make: impl FnOnce() -> PyResult<Bound<'py, PyString>>,
    ) -> PyResult<Bound<'py, PyString>> {
        if let Some(known) = self.known.get(octets) {
            return Ok(known.bind(py).clone());
        }
        let made = make()?;
        if self.known.len() < KEPT && octets.len() <= LONGEST {
            self.known.insert(octets.into(), made.clone().unbind());
        }
        Ok(made)
    }
}

/// The `environ` key of a header field: `HTTP_` and the name in capitals, `-` as `_` (RFC 3875
/// 4.1.18).
pub(crate) fn environ_key<'py>(py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
    let mut key = Vec::with_capacity(5 + name.len());
    key.extend_from_slice(b"HTTP_");
    key.extend(name.iter().map(|octet| match octet {
        b'-' => b'_',
        other => other.to_ascii_uppercase(),
    }));
    text::latin1(py, &key)
}
