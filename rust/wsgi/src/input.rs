//! `wsgi.input`: a body that is all there or, with `threads`, one that arrives as it is read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meinheld_reactor::Body;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList};

use crate::arriving::Arriving;
use crate::exchange::Exchange;

/// Octets read from a spooled body at once, in search of a line's end.
const BLOCK: usize = 64 * 1024;

/// Octets that a long read is given at first, before they have come.
const FIRST_ROOM: u64 = 256 * 1024;

/// A body, and how far it was read.
enum Source {
    Memory {
        octets: Vec<u8>,
        at: usize,
    },
    File {
        file: File,
        length: u64,
        at: u64,
        block: Vec<u8>,
        block_at: u64,
    },
    Arriving(Arriving),
}

impl Source {
    const EMPTY: Self = Self::Memory {
        octets: Vec::new(),
        at: 0,
    };

    /// What lies ahead, some of it at least, unless the end is reached.
    fn ahead(&mut self) -> std::io::Result<&[u8]> {
        match self {
            Self::Memory { octets, at } => Ok(octets.get(*at..).unwrap_or_default()),
            Self::File {
                file,
                length,
                at,
                block,
                block_at,
            } => {
                let end = *block_at + block.len() as u64;
                if *at < *block_at || *at >= end {
                    let wanted = (*length - *at).min(BLOCK as u64) as usize;
                    block.resize(wanted, 0);
                    *block_at = *at;
                    file.read_exact_at(block, *at)?;
                }
                Ok(&block[(*at - *block_at) as usize..])
            }
            Self::Arriving(arriving) => arriving.ahead(),
        }
    }

    /// Moves on by `octets` of what lies ahead.
    fn skip(&mut self, octets: usize) {
        match self {
            Self::Memory { at, .. } => *at += octets,
            Self::File { at, .. } => *at += octets as u64,
            Self::Arriving(arriving) => arriving.skip(octets),
        }
    }

    /// The next `size` octets, or as many as are left.
    fn read(&mut self, size: u64) -> std::io::Result<Vec<u8>> {
        if let Self::File {
            file, length, at, ..
        } = self
        {
            let count = size.min(*length - *at);
            let mut out = vec![0; count as usize];
            file.read_exact_at(&mut out, *at)?;
            *at += count;
            return Ok(out);
        }
        let mut out = Vec::with_capacity(size.min(FIRST_ROOM) as usize);
        while (out.len() as u64) < size {
            let ahead = self.ahead()?;
            let taken = ahead
                .len()
                .min(usize::try_from(size - out.len() as u64).unwrap_or(usize::MAX));
            if taken == 0 {
                break;
            }
            out.extend_from_slice(&ahead[..taken]);
            self.skip(taken);
        }
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
            self.skip(taken);
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
    exchange: Arc<Exchange>,
    source: Mutex<Source>,
    /// Whether a read can take long, so that the interpreter is released meanwhile.
    waits: AtomicBool,
    /// Whether there has been anything to be read.
    had_body: AtomicBool,
}

impl Input {
    /// The input of a request without a body.
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self {
            exchange,
            source: Mutex::new(Source::EMPTY),
            waits: AtomicBool::new(false),
            had_body: AtomicBool::new(false),
        }
    }

    /// Takes the body of the next request, of which nobody has seen anything yet.
    pub(crate) fn renew(&self, body: Body) {
        let has_body = !matches!(body, Body::Empty);
        // Most requests have none, and nor had the one before.
        if !self.had_body.load(Relaxed) && !has_body {
            return;
        }
        self.had_body.store(has_body, Relaxed);
        let source = match body {
            Body::Empty => Source::EMPTY,
            Body::Memory(octets) => Source::Memory { octets, at: 0 },
            Body::File { file, length } => Source::File {
                file,
                length,
                at: 0,
                block: Vec::new(),
                block_at: 0,
            },
            Body::Arriving => {
                let id = self.exchange.id();
                let whole = self.exchange.gateway.reactor().take_whole_body(id);
                whole.map_or_else(
                    || Source::Arriving(Arriving::new(Arc::clone(&self.exchange))),
                    |octets| Source::Memory { octets, at: 0 },
                )
            }
        };
        let waits = !matches!(source, Source::Memory { .. });
        self.waits.store(waits, SeqCst);
        *self.source() = source;
    }

    fn waits(&self) -> bool {
        self.waits.load(SeqCst)
    }

    /// Never held attached where a read can wait: whoever holds it may need the interpreter.
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next<'py>(
        &self,
        py: Python<'py>,
        take: impl FnOnce(&mut Source) -> std::io::Result<Vec<u8>> + Send,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.exchange.gateway.end_forked_child(py, None)?;
        let taken = if self.waits() {
            py.detach(|| take(&mut self.source()))
        } else {
            take(&mut self.source())
        };
        Ok(PyBytes::new(py, &taken?))
    }

    fn next_line<'py>(&self, py: Python<'py>, size: u64) -> PyResult<Bound<'py, PyBytes>> {
        self.next(py, |source| source.line(size))
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
        if !self.waits()
            && let Source::Memory { octets, at } = &mut *self.source()
        {
            // The common case goes into the `bytes` object without a copy between.
            let ahead = octets.get(*at..).unwrap_or_default();
            let count = ahead.len().min(usize::try_from(size).unwrap_or(usize::MAX));
            *at += count;
            return Ok(PyBytes::new(py, &ahead[..count]));
        }
        self.next(py, |source| source.read(size))
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
