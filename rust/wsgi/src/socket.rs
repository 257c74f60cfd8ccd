//! `environ["gunicorn.socket"]`: the connection's socket, which costs nothing until it is used.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use meinheld_reactor::Detached;
use pyo3::exceptions::{PyAttributeError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::ffi::descriptor;

/// `MSG_PEEK` of recv(2).
const PEEK: i64 = 0x2;
/// `EBADF` of errno(3), as closed sockets answer.
const EBADF: i32 = 9;

/// Attributes of `socket.socket` that only look.
const VALUES: [&str; 4] = ["family", "type", "proto", "timeout"];
/// Methods of `socket.socket` that only look.
const OBSERVERS: [&str; 5] = [
    "getpeername",
    "getsockname",
    "getsockopt",
    "gettimeout",
    "getblocking",
];
/// Methods that only look when told to peek, and where their flags stand.
const PEEKERS: [(&str, usize); 4] = [
    ("recv", 1),
    ("recvfrom", 1),
    ("recv_into", 2),
    ("recvfrom_into", 2),
];

/// Stands for the client's socket. Looking (at its addresses, options and values, or with
/// `MSG_PEEK`) changes nothing. The call of any other method takes the connection over for good:
/// the worker forgets it, writes no answer, and this object is the socket from then on.
#[pyclass(frozen, module = "meinheld_worker._core", name = "ClientSocket")]
pub struct ClientSocket {
    exchange: Arc<Exchange>,
    taken: PyOnceLock<Py<PyAny>>,
    /// Held while the connection is taken over, so that a second thread that calls a method at the
    /// same time gets the socket, too. Whoever waits for it lets others run Python meanwhile.
    taking: Mutex<()>,
}

impl ClientSocket {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self {
            exchange,
            taken: PyOnceLock::new(),
            taking: Mutex::new(()),
        }
    }

    /// The socket, taken over now if it was not before.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(taken) = self.taken.get(py) {
            return Ok(taken.bind(py).clone());
        }
        // Before the lock: in a child it may have been another thread's when the process forked.
        self.exchange.gateway.end_forked_child(py, None)?;
        if self.exchange.is_over() {
            return Err(closed());
        }
        // Before any lock: it may have to wait for the client.
        match self.exchange.wait_until_sent(py) {
            Ok(()) => {}
            Err(Failure::Raised(error)) => return Err(error),
            // By another thread, which shares it.
            Err(_) if self.exchange.is_taken_over() => {}
            Err(_) => return Err(closed()),
        }
        self.exchange.forget_callbacks(py);
        // `get_or_try_init` alone would let a second thread try, and fail, meanwhile.
        let _taking = self
            .taking
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner);
        let taken = self.taken.get_or_try_init(py, || {
            let Detached { socket, leftover } = self.exchange.take_over().ok_or_else(closed)?;
            // Another thread may have registered one until then.
            self.exchange.forget_callbacks(py);
            let face = &self.exchange.gateway.face;
            // The object has a descriptor of its own: whatever is raised, none is left open.
            let taken = face.take_over(py, socket.as_raw_fd(), leftover);
            if taken.is_err() {
                self.exchange.gateway.reactor().end_detached(socket);
            }
            taken.map(Bound::unbind)
        })?;
        Ok(taken.bind(py).clone())
    }

    /// The request is over: a connection that was taken over ends with it, as under gunicorn's own
    /// workers, unless the application has closed its socket or detached the descriptor.
    pub(crate) fn over(&self, py: Python<'_>) {
        // It may be being taken over by another thread this moment.
        let _taking = self
            .taking
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner);
        let Some(taken) = self.taken.get(py).map(|taken| taken.bind(py)) else {
            return;
        };
        if let Some(socket) = descriptor::duplicate(taken) {
            self.exchange.gateway.reactor().end_detached(socket.into());
        }
        if let Err(error) = taken.call_method0(intern!(py, "request_over")) {
            error.write_unraisable(py, Some(taken));
        }
    }

    /// Whether the application has taken the connection over through this object.
    pub(crate) fn is_taken(&self, py: Python<'_>) -> bool {
        self.taken.get(py).is_some()
    }

    /// Looks at a duplicate of the socket or, after the take-over, at the socket.
    fn look<'py>(
        &self,
        py: Python<'py>,
        at: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(taken) = self.taken.get(py) {
            return at(taken.bind(py));
        }
        self.exchange.gateway.end_forked_child(py, None)?;
        let exchange = &self.exchange;
        if exchange.is_over() {
            return Err(closed());
        }
        let duplicate = self.exchange.gateway.reactor().duplicate(exchange.id())?;
        let socket = self
            .exchange
            .gateway
            .face
            .observe(py, duplicate.as_raw_fd())?;
        let seen = at(&socket);
        socket.call_method0(intern!(py, "close"))?;
        seen
    }

    /// Calls a method of the socket's: here it is decided whether that takes the connection over.
    fn call<'py>(
        &self,
        name: &str,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        if OBSERVERS.contains(&name) || peeks(name, args, kwargs)? {
            return self.look(py, |socket| socket.call_method(name, args.clone(), kwargs));
        }
        self.take(py)?.call_method(name, args.clone(), kwargs)
    }
}

fn closed() -> PyErr {
    PyOSError::new_err((EBADF, "the connection is closed"))
}

fn peeks(
    name: &str,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<bool> {
    let Some((_, position)) = PEEKERS.iter().find(|(peeker, _)| *peeker == name) else {
        return Ok(false);
    };
    let named = kwargs
        .map(|kwargs| kwargs.get_item("flags"))
        .transpose()?
        .flatten();
    let flags = named.or_else(|| args.get_item(*position).ok());
    let flags = flags.and_then(|flags| flags.extract::<i64>().ok());
    Ok(flags.is_some_and(|flags| flags & PEEK != 0))
}

#[pymethods]
impl ClientSocket {
    /// The descriptor's number; it stays the worker's unless the socket is taken over.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        if let Some(taken) = self.taken.get(py) {
            return taken.call_method0(py, "fileno")?.extract(py);
        }
        self.exchange.gateway.end_forked_child(py, None)?;
        let exchange = &self.exchange;
        let descriptor = || self.exchange.gateway.reactor().descriptor(exchange.id());
        Ok(if exchange.is_over() {
            None
        } else {
            descriptor()
        }
        .unwrap_or(-1))
    }

    /// What `socket.socket` has under this name: a value, or a method to call.
    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if let Some(taken) = this.taken.get(py) {
            return taken.bind(py).getattr(name);
        }
        if VALUES.contains(&name) {
            return this.look(py, |socket| socket.getattr(name));
        }
        let class = py.import("socket")?.getattr("socket")?;
        if name.starts_with('_') || !class.hasattr(name)? {
            return Err(PyAttributeError::new_err(name.to_owned()));
        }
        let (socket, method) = (slf.clone().unbind(), name.to_owned());
        let call = move |args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>| {
            let called = socket.get().call(&method, args, kwargs);
            called.map(Bound::unbind)
        };
        Ok(PyCFunction::new_closure(py, None, None, call)?.into_any())
    }
}
