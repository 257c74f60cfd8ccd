//! What is logged of a request that the application does not get, because it has waited too long.

use meinheld_reactor::Request;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::face::Told;
use crate::facts;
use crate::serve::{Service, Slot};
use crate::telling::UNAVAILABLE;

impl Service {
    /// Logs a request that the application does not get: a 503 was the answer.
    pub(crate) fn shed(&self, py: Python<'_>, slot: &mut Slot, request: Request) -> PyResult<()> {
        let face = &self.gateway.face;
        let logged = match face.logs_access() {
            true => self
                .shed_facts(py, &request)
                .map(|told| face.log_access(&told)),
            false => Ok(Ok(())),
        };
        slot.spent = Some(request.head);
        match logged {
            Ok(logged) => logged,
            Err(error) => face.survive::<()>(py, Err(error)),
        }
    }

    fn shed_facts<'py>(&self, py: Python<'py>, request: &Request) -> PyResult<Told<'py>> {
        let face = &self.gateway.face;
        let waited = self.gateway.reactor().waited(request) as f64 / 1000.0;
        let record = face.record(py, facts::of_request(py, request, None)?)?;
        let status = PyString::new(py, UNAVAILABLE);
        let facts = (status, PyList::empty(py), 0, true, waited);
        Ok(Told {
            response: face.response(py, &record, facts)?,
            request: record,
            environ: PyDict::new(py).into_any(),
        })
    }
}
