//! The keys that header fields have in `environ`: each is made once.

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

/// Keys by the octets in which names are sent.
#[derive(Default)]
pub(crate) struct Names {
    keys: HashMap<Box<[u8]>, Py<PyString>, RandomState>,
}

impl Names {
    /// The key of the field of this name.
    pub(crate) fn key<'py>(
        &mut self,
        py: Python<'py>,
        name: &[u8],
    ) -> PyResult<Bound<'py, PyString>> {
        if let Some(known) = self.keys.get(name) {
            return Ok(known.bind(py).clone());
        }
        let key = environ_key(py, name)?;
        if self.keys.len() < KEPT && name.len() <= LONGEST {
            self.keys.insert(name.into(), key.clone().unbind());
        }
        Ok(key)
    }
}

/// The name in capitals, `-` as `_`, behind `HTTP_` (RFC 3875 4.1.18) unless it has a key of its
/// own (4.1.2, 4.1.3).
fn environ_key<'py>(py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    let mut key = Vec::with_capacity(5 + name.len());
    if !is(b"content-type") && !is(b"content-length") {
        key.extend_from_slice(b"HTTP_");
    }
    key.extend(name.iter().map(|octet| match octet {
        b'-' => b'_',
        other => other.to_ascii_uppercase(),
    }));
    text::latin1(py, &key)
}
