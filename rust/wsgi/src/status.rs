//! The status endpoint, for floor 4.

use std::sync::Arc;

use meinheld_reactor::Status as Endpoint;
use pyo3::prelude::*;

use crate::ffi::descriptor;
use crate::options::seconds;
use crate::seat::Seat;

/// A worker's part of the endpoint that tells how the fleet is.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Status(Arc<Endpoint>);

#[pymethods]
impl Status {
    /// Answers on the descriptor `socket`, which listens and does not block and is duplicated, until
    /// the process ends. `timeout` is gunicorn's, in seconds.
    #[new]
    #[pyo3(signature = (seat, socket, *, timeout))]
    fn new(seat: &Bound<'_, Seat>, socket: i32, timeout: Option<f64>) -> PyResult<Self> {
        let timeout = timeout
            .map(|timeout| seconds("timeout", timeout))
            .transpose()?;
        let socket = descriptor::own(socket)?;
        Ok(Self(Endpoint::start(seat.get().0, socket, timeout)?))
    }

    /// Shows the backlogs of these listeners: a name and a descriptor each, which is duplicated.
    fn watch(&self, listeners: Vec<(String, i32)>) -> PyResult<()> {
        let own = |(name, socket)| PyResult::Ok((name, descriptor::own(socket)?));
        let listeners = listeners.into_iter().map(own).collect::<PyResult<_>>()?;
        self.0.watch(listeners);
        Ok(())
    }

    /// Lets go of the listeners.
    fn let_go(&self) {
        self.0.let_go();
    }
}
