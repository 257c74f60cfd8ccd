//! The objects of one request that its application is given. They are made once, and used again by
//! the next request of the same thread wherever the application has let go of all of them.

use std::sync::Arc;

use meinheld_reactor::{Body, Request};
use pyo3::prelude::*;

use crate::callables::{EarlyHints, StartResponse};
use crate::disconnected::Disconnected;
use crate::exchange::Exchange;
use crate::ffi::sharing::is_sole;
use crate::gateway::Gateway;
use crate::input::Input;
use crate::socket::ClientSocket;

/// What shares the exchange with [`Objects`] while nobody else does: the four callables, the input
/// and the socket.
const SHARING: usize = 6;

pub(crate) struct Objects {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) start_response: Py<StartResponse>,
    pub(crate) early_hints: Py<EarlyHints>,
    pub(crate) input: Py<Input>,
    pub(crate) socket: Py<ClientSocket>,
    pub(crate) disconnected: Py<Disconnected>,
}

impl Objects {
    /// Objects without a request.
    pub(crate) fn new(py: Python<'_>, gateway: &Arc<Gateway>) -> PyResult<Self> {
        let exchange = Arc::new(Exchange::new(Arc::clone(gateway)));
        Ok(Self {
            start_response: Py::new(py, StartResponse::new(py, &exchange)?)?,
            early_hints: Py::new(py, EarlyHints::new(&exchange))?,
            input: Py::new(py, Input::new(Arc::clone(&exchange)))?,
            socket: Py::new(py, ClientSocket::new(Arc::clone(&exchange)))?,
            disconnected: Py::new(py, Disconnected::new(Arc::clone(&exchange)))?,
            exchange,
        })
    }

    /// Makes them those of `request`.
    #[inline(always)] // Greenlets are its second caller, and must not cost the first one a call.
    pub(crate) fn renew(&self, request: &Request, body: Body) {
        self.exchange.renew(request);
        self.input.get().renew(body);
    }

    /// Whether nobody else can ever use them: the request is over, and its application has kept
    /// none of them.
    pub(crate) fn are_free(&self, py: Python<'_>) -> bool {
        let free = is_sole(&self.start_response, py)
            && is_sole(self.start_response.get().write(), py)
            && is_sole(&self.early_hints, py)
            && is_sole(&self.input, py)
            && is_sole(&self.socket, py)
            && Disconnected::is_sole(&self.disconnected, py)
            && Arc::strong_count(&self.exchange) == 1 + SHARING
            && !self.socket.get().is_taken(py);
        if free {
            self.input.get().renew(Body::Empty);
        }
        free
    }
}
