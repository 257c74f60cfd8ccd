//! `environ["meinheld.disconnected"]`: whether the client is still there, which costs nothing until
//! it is asked.
//!
//! It is put into the [templates](crate::recent) of connections, since a copied entry is much cheaper
//! than one that is set. So references of ours are counted: any other one is the application's. Freeing
//! it runs no Python code.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::ffi::sharing::count_references;

// Without weak references, for the reason of `callables.rs`.

/// Says whether the client has closed its side of the connection or gone, and calls back when it
/// does.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Disconnected {
    exchange: Arc<Exchange>,
    /// How many templates have it.
    placed: Arc<AtomicUsize>,
}

/// A template's claim to have one. To be dropped behind the template: while it is too late the object
/// only looks as if the application had kept it.
pub(crate) struct Placed(Arc<AtomicUsize>);

impl Drop for Placed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Disconnected {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self {
            exchange,
            placed: Arc::default(),
        }
    }

    /// Sets the key of `environ`.
    pub(crate) fn set(this: &Py<Self>, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        environ.set_item(intern!(environ.py(), "meinheld.disconnected"), this)
    }

    /// Sets the key of `template`, which has what `placed` says.
    pub(crate) fn place(
        this: &Py<Self>,
        template: &Bound<'_, PyDict>,
        placed: &mut Option<Placed>,
    ) -> PyResult<()> {
        let ours = &this.get().placed;
        if !matches!(placed, Some(Placed(theirs)) if Arc::ptr_eq(ours, theirs)) {
            Self::set(this, template)?;
            ours.fetch_add(1, SeqCst);
            *placed = Some(Placed(Arc::clone(ours)));
        }
        Ok(())
    }

    /// Whether the only reference beside those of templates is `this`.
    pub(crate) fn is_sole(this: &Py<Self>, py: Python<'_>) -> bool {
        count_references(this, py) == 1 + this.get().placed.load(SeqCst)
    }
}

#[pymethods]
impl Disconnected {
    /// True once the client has sent a FIN or a reset, and when the request is over: nobody listens
    /// any more. Nothing is read.
    ///
    /// Raises `RuntimeError` where the application has taken the socket over.
    fn __call__(&self, py: Python<'_>) -> PyResult<bool> {
        self.exchange.gateway.end_forked_child(py, None)?;
        self.exchange.has_disconnected().map_err(refused)
    }

    /// Has `callback()` called once, on a thread of the worker's, when the client disconnects; at
    /// once if it has, and not after the request is over.
    ///
    /// Raises `RuntimeError` where the application has taken the socket over, `OSError` where no
    /// descriptor or thread can be had.
    #[pyo3(signature = (callback, /))]
    fn register(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        if !callback.bind(py).is_callable() {
            return Err(PyTypeError::new_err("the callback is not callable"));
        }
        self.exchange.gateway.end_forked_child(py, None)?;
        self.exchange.on_disconnect(callback).map_err(refused)
    }
}

fn refused(failure: Failure) -> PyErr {
    match failure {
        Failure::Raised(error) => error,
        _ => PyRuntimeError::new_err("the application has taken the socket over"),
    }
}
