//! `wsgi.input`: a body that is all there, so that no read ever blocks on the network.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meinheld_reactor::Body;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList};

/// Octets read from a spooled body at once, in search of a line's end.
const BLOCK: usize = 64 * 1024;

/// A body and how far it was read.
struct Cursor {
    source: Source,
    at: u64,
}

enum Source {
    Memory(Vec<u8>),
    File {
        file: File,
        length: u64,
        block: Vec<u8>,
        block_at: u64,
    },
}

impl Cursor {
    fn new(body: Body) -> Self {
        let source = match body {
            Body::Empty | Body::Arriving => Source::Memory(Vec::new()),
            Body::Memory(octets) => Source::Memory(octets),
            Body::File { file, length } => Source::File {
                file,
                length,
                block: Vec::new(),
                block_at: 0,
            },
        };
        Self { source, at: 0 }
    }

    fn left(&self) -> u64 {
        match &self.source {
            Source::Memory(octets) => octets.len() as u64 - self.at,
            Source::File { length, .. } => length - self.at,
        }
    }

    /// What lies ahead, some of it at least, unless the end is reached.
    fn ahead(&mut self) -> std::io::Result<&[u8]> {
        match &mut self.source {
            Source::Memory(octets) => Ok(octets.get(self.at as usize..).unwrap_or_default()),
            Source::File {
                file,
                length,
                block,
                block_at,
            } => {
                let end = *block_at + block.len() as u64;
                if self.at < *block_at || self.at >= end {
                    let wanted = (*length - self.at).min(BLOCK as u64) as usize;
                    block.resize(wanted, 0);
                    *block_at = self.at;
                    file.read_exact_at(block, self.at)?;
                }
                Ok(&block[(self.at - *block_at) as usize..])
            }
        }
    }

    /// The next `size` octets, or as many as are left.
    fn read(&mut self, size: u64) -> std::io::Result<Vec<u8>> {
        let count = size.min(self.left());
        let mut out = vec![0; count as usize];
        match &self.source {
            Source::Memory(octets) => {
                let from = self.at as usize;
                out.copy_from_slice(&octets[from..from + count as usize]);
            }
            Source::File { file, .. } => file.read_exact_at(&mut out, self.at)?,
        }
        self.at += count;
        Ok(out)
    }

    /// The next line with its line feed, or its first `size` octets.
    fn line(&mut self, size: u64) -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while (line.len() as u64) < size {
            let room = (size - line.len() as u64).min(usize::MAX as u64) as usize;
            let ahead = self.ahead()?;
            let ahead = &ahead[..ahead.len().min(room)];
            if ahead.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', ahead);
            let taken = end.map_or(ahead.len(), |at| at + 1);
            line.extend_from_slice(&ahead[..taken]);
            self.at += taken as u64;
            if end.is_some() {
                break;
            }
        }
        Ok(line)
    }
}

/// The file-like object of PEP 3333 for a request body. It ends where the body ends
/// (`wsgi.input_terminated`).
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Input {
    cursor: Mutex<Cursor>,
}

impl Input {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            cursor: Mutex::new(Cursor::new(body)),
        }
    }

    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_line<'py>(&self, py: Python<'py>, size: u64) -> PyResult<Bound<'py, PyBytes>> {
        let line = self.cursor().line(size)?;
        Ok(PyBytes::new(py, &line))
    }
}

/// A size argument: none and negative mean all.
fn octets(size: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    let Some(size) = size.filter(|size| !size.is_none()) else {
        return Ok(u64::MAX);
    };
    let size = size
        .cast::<PyInt>()
        .map_err(|_| PyTypeError::new_err("size must be an integer"))?;
    if size.lt(0)? {
        return Ok(u64::MAX);
    }
    Ok(size.extract().unwrap_or(u64::MAX))
}

#[pymethods]
impl Input {
    /// Up to `size` octets; all that is left without it. Empty at the end.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        size: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let size = octets(size)?;
        let mut cursor = self.cursor();
        if let Source::Memory(body) = &cursor.source {
            // The common case goes into the `bytes` object without a copy between.
            let from = cursor.at as usize;
            let count = size.min(cursor.left());
            let bytes = PyBytes::new(py, &body[from..from + count as usize]);
            cursor.at += count;
            return Ok(bytes);
        }
        drop(cursor);
        let read = py.detach(|| self.cursor().read(size))?;
        Ok(PyBytes::new(py, &read))
    }

    /// The next line, with its line feed, cut to `size` octets.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(
        &self,
        py: Python<'py>,
        size: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let size = octets(size)?;
        self.next_line(py, size)
    }

    /// The lines that are left; with `hint`, no more than reach that many octets.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(
        &self,
        py: Python<'py>,
        hint: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let enough = match octets(hint)? {
            0 => u64::MAX,
            hint => hint,
        };
        let lines = PyList::empty(py);
        let mut total = 0;
        while total < enough {
            let line = self.next_line(py, u64::MAX)?;
            if line.as_bytes().is_empty() {
                break;
            }
            total += line.as_bytes().len() as u64;
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.next_line(py, u64::MAX)?;
        Ok(if line.as_bytes().is_empty() {
            None
        } else {
            Some(line)
        })
    }
}
