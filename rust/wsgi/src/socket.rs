//! `environ["gunicorn.socket"]`: the connection's socket, which costs nothing until it is used.

use std::os::fd::IntoRawFd;
use std::sync::Arc;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::exchange::Exchange;
use crate::gateway::Gateway;

/// `MSG_PEEK` of recv(2).
const PEEK: i64 = 0x2;

/// `EBADF` of errno(3), as closed sockets answer.
const EBADF: i32 = 9;

fn closed() -> PyErr {
    PyOSError::new_err((EBADF, "the connection is closed"))
}

/// Stands for the client's socket. Looking (`fileno`, `getpeername`, `getsockname`, `getsockopt`,
/// `recv` with `MSG_PEEK`) changes nothing; any other use takes the connection over for good: the
/// worker forgets it, writes no answer, and this object is the socket from then on.
#[pyclass(frozen, module = "meinheld_worker._core", name = "ClientSocket")]
pub struct ClientSocket {
    gateway: Arc<Gateway>,
    exchange: Py<Exchange>,
    taken: PyOnceLock<Py<PyAny>>,
}

impl ClientSocket {
    pub(crate) fn new(gateway: Arc<Gateway>, exchange: Py<Exchange>) -> Self {
        Self {
            gateway,
            exchange,
            taken: PyOnceLock::new(),
        }
    }

    /// The socket, taken over now if it was not before.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(taken) = self.taken.get(py) {
            return Ok(taken.bind(py).clone());
        }
        self.gateway.end_forked_child(py, None)?;
        let exchange = self.exchange.get();
        let Some(detached) = exchange.take_over() else {
            return Err(closed());
        };
        let descriptor = detached.socket.into_raw_fd();
        let socket = self
            .gateway
            .face
            .take_over(py, descriptor, detached.leftover)?;
        // Nobody else set it: the reactor gives a connection away once.
        let _ = self.taken.set(py, socket.clone().unbind());
        Ok(socket)
    }

    /// Calls a method that only looks, on a duplicate or, after the take-over, on the socket.
    fn look<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(taken) = self.taken.get(py) {
            return taken.bind(py).call_method1(method, args.clone());
        }
        let duplicate = match self.exchange.get() {
            exchange if exchange.is_over() => return Err(closed()),
            exchange => self.gateway.reactor().duplicate(exchange.id)?,
        };
        let socket = self.gateway.face.observe(py, duplicate.into_raw_fd())?;
        let result = socket.call_method1(method, args.clone());
        socket.call_method0("close")?;
        result
    }
}

#[pymethods]
impl ClientSocket {
    /// The descriptor's number; it stays the worker's unless the socket is taken over.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        if let Some(taken) = self.taken.get(py) {
            return taken.call_method0(py, "fileno")?.extract(py);
        }
        let exchange = self.exchange.get();
        let descriptor = || self.gateway.reactor().descriptor(exchange.id);
        Ok(if exchange.is_over() {
            None
        } else {
            descriptor()
        }
        .unwrap_or(-1))
    }

    /// The client's address.
    fn getpeername<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.look(py, "getpeername", &PyTuple::empty(py))
    }

    /// The worker's own address.
    fn getsockname<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.look(py, "getsockname", &PyTuple::empty(py))
    }

    /// A socket option, as `socket.getsockopt` gives it.
    #[pyo3(signature = (*args))]
    fn getsockopt<'py>(&self, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.look(args.py(), "getsockopt", args)
    }

    /// Receives: with `MSG_PEEK` it only looks, without it takes the connection over.
    #[pyo3(signature = (*args, **kwargs))]
    fn recv<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        let flags = args
            .get_item(1)
            .ok()
            .and_then(|flags| flags.extract::<i64>().ok());
        if flags.is_some_and(|flags| flags & PEEK != 0) {
            return self.look(py, "recv", args);
        }
        self.take(py)?.call_method("recv", args.clone(), kwargs)
    }

    /// Everything else is the real socket's: the connection is taken over.
    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        // Asking what this is, as copy, pickle or a debugger do, is not a use.
        if name.starts_with("__") {
            return Err(pyo3::exceptions::PyAttributeError::new_err(name.to_owned()));
        }
        slf.get().take(py)?.getattr(name)
    }
}
