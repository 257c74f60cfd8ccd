//! Why an answer did not come to its regular end.

use pyo3::prelude::*;

/// What ended an exchange early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client has gone: nobody is left to tell.
    Gone,
    /// The application took the socket over: the connection is not ours any more.
    TakenOver,
    /// The request cannot be served as the worker is configured; this line says why.
    Misconfigured(String),
    /// Something was raised, by the application or by a rule of PEP 3333 that it broke.
    Raised(PyErr),
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}
