//! One request, step by step, for a greenlet: no step waits, and none calls the application. What the
//! hub does between two steps may last for as long as it likes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meinheld_reactor::{Body, Request};
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::body;
use crate::exchange::Sent;
use crate::face::Told;
use crate::failure::Failure;
use crate::objects::Objects;
use crate::serve::{Outcome, Service};
use crate::telling::Records;

/// Sets of objects that are kept for later requests.
const KEPT_OBJECTS: usize = 64;

/// What all requests of one loop share.
pub(crate) struct Desk {
    service: Arc<Service>,
    /// Those whose applications have let go of them.
    objects: Mutex<Vec<Objects>>,
    /// The places of requests in flight that nobody has.
    places: Mutex<Vec<usize>>,
}

impl Desk {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        let places = (0..service.gateway.in_flight.places()).rev().collect();
        Self {
            service,
            objects: Mutex::default(),
            places: Mutex::new(places),
        }
    }

    /// Locked for a push or a pop.
    fn objects(&self) -> MutexGuard<'_, Vec<Objects>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, Vec<usize>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what it keeps.
    pub(crate) fn clear(&self) {
        let kept = std::mem::take(&mut *self.objects());
        drop(kept);
    }

    /// Begins to serve `request`, of which the application knows nothing yet.
    pub(crate) fn open(self: &Arc<Self>, py: Python<'_>, mut request: Request) -> PyResult<Served> {
        let gateway = &self.service.gateway;
        let kept = self.objects().pop();
        let objects = match kept {
            Some(objects) => objects,
            None => Objects::new(py, gateway)?,
        };
        // Of a request without a place nobody takes note.
        let place = self.places().pop().unwrap_or(usize::MAX);
        gateway.in_flight.enter(place, &request);
        if let Some(green) = gateway.way.green() {
            green.begin_request();
        }
        let body = std::mem::replace(&mut request.body, Body::Empty);
        objects.renew(&request, body);
        Ok(Served(Mutex::new(Some(Box::new(Progress {
            desk: Arc::clone(self),
            request,
            objects,
            place,
            records: None,
            told: None,
            ended: Ok(Sent::Part),
            outcome: Ok(Outcome::Nothing),
        })))))
    }
}

/// A request that the application has, or is about to have.
#[pyclass(frozen, module = "meinheld_worker._core", name = "Request")]
pub struct Served(Mutex<Option<Box<Progress>>>);

struct Progress {
    desk: Arc<Desk>,
    request: Request,
    objects: Objects,
    place: usize,
    records: Option<Records>,
    /// For the `post_request` hook: the request, its `environ` and the response.
    told: Option<[Py<PyAny>; 3]>,
    /// How far the application has brought the answer.
    ended: Result<Sent, Failure>,
    outcome: PyResult<Outcome>,
}

impl Served {
    /// Takes a step. Nothing is locked meanwhile, so that what comes back here out of Python code,
    /// where nothing should, finds an error and no deadlock.
    fn step<T>(&self, step: impl FnOnce(&mut Progress) -> PyResult<T>) -> PyResult<T> {
        let mut progress = self.take()?;
        let done = step(&mut progress);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        done
    }

    fn take(&self) -> PyResult<Box<Progress>> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| PyRuntimeError::new_err("the request is over, or in another step"))
    }
}

#[pymethods]
impl Served {
    /// Has the `pre_request` hook called; gives `environ` and `start_response`, or, where the request
    /// cannot be served, `None`.
    fn begin<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<(Bound<'py, PyDict>, Bound<'py, PyAny>)>> {
        self.step(|progress| {
            let service = &*progress.desk.service;
            let (request, objects) = (&progress.request, &progress.objects);
            let input = objects.input.bind(py);
            let records = service.records(py, progress.place, request, input)?;
            let record = records.as_ref().and_then(|all| all.request.as_ref());
            if let Some(record) = record {
                service.gateway.face.pre_request(record.bind(py))?;
            }
            progress.records = records;
            match service.environs.build(py, request, objects) {
                Ok(environ) => {
                    let start_response = objects.start_response.bind(py).clone().into_any();
                    Ok(Some((environ, start_response)))
                }
                Err(failure) => {
                    progress.ended = Err(failure);
                    Ok(None)
                }
            }
        })
    }

    /// `write(block)` of PEP 3333, as `start_response` returns it.
    #[getter]
    fn write(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.step(|progress| {
            let start_response = progress.objects.start_response.get();
            Ok(start_response.write().clone_ref(py))
        })
    }

    /// Sends what the application returned, if that can be sent at once; `false` where it is to be
    /// iterated.
    fn send(&self, iterable: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = iterable.py();
        self.step(|progress| {
            let service = &*progress.desk.service;
            service.gateway.end_forked_child(py, None)?;
            let sent = body::send_at_once(
                &service.gateway,
                &progress.objects.exchange,
                iterable,
                service.file_wrapper.bind(py),
            );
            progress.ended = match sent {
                Ok(None) => return Ok(false),
                Ok(Some(sent)) => Ok(sent),
                Err(failure) => Err(failure),
            };
            Ok(true)
        })
    }

    /// The application, or what serves it, has raised this.
    fn fail(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = error.py();
        let error = PyErr::from_value(error.clone());
        self.step(|progress| {
            let gateway = &progress.desk.service.gateway;
            gateway.end_forked_child(py, Some(&error))?;
            progress.ended = Err(Failure::Raised(error));
            Ok(())
        })
    }

    /// Ends the answer, answers for an application that has failed, or was `cancelled` for the reason
    /// given, and has the access log told.
    ///
    /// Raises what ends the worker.
    #[pyo3(signature = (environ, cancelled))]
    fn settle(
        &self,
        py: Python<'_>,
        environ: Option<Bound<'_, PyDict>>,
        cancelled: Option<&str>,
    ) -> PyResult<()> {
        self.step(|progress| {
            let service = &*progress.desk.service;
            let (request, objects) = (&progress.request, &progress.objects);
            service.gateway.end_forked_child(py, None)?;
            let ended = std::mem::replace(&mut progress.ended, Ok(Sent::Whole));
            progress.outcome = match cancelled {
                Some(reason) => Ok(service.cancel(request, &objects.exchange, reason)),
                None => service.settle(py, request, &objects.exchange, ended),
            };
            if let Ok(Outcome::Finished { .. }) = progress.outcome {
                service.gateway.in_flight.answered(progress.place);
            }
            let Some(mut records) = progress.records.take() else {
                return Ok(());
            };
            records.denied =
                cancelled.is_some() && matches!(progress.outcome, Ok(Outcome::Finished { .. }));
            let (logged, told) = service.log(py, records, objects, environ, request);
            progress.told = told.map(|told| {
                let Told {
                    request,
                    environ,
                    response,
                } = told;
                [request, environ, response].map(Bound::unbind)
            });
            logged
        })
    }

    /// What `close()` raised is logged.
    ///
    /// Raises what ends the worker.
    fn failed_to_close(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = error.py();
        let error = PyErr::from_value(error.clone());
        self.step(|progress| {
            let service = &progress.desk.service;
            service.gateway.end_forked_child(py, Some(&error))?;
            service.failed(py, error, &progress.request)
        })
    }

    /// Has the `post_request` hook called.
    fn report(&self, py: Python<'_>) -> PyResult<()> {
        self.step(|progress| {
            let Some(told) = progress.told.take() else {
                return Ok(());
            };
            let [request, environ, response] = told.map(|one| one.into_bound(py));
            progress.desk.service.gateway.face.post_request(&Told {
                request,
                environ,
                response,
            })
        })
    }

    /// `party` comes out of the loop's turns when the client goes before the request is over.
    ///
    /// Raises `ConnectionResetError` where it has.
    fn await_end(&self, party: Py<PyAny>) -> PyResult<()> {
        self.step(|progress| {
            let gateway = &progress.desk.service.gateway;
            let id = progress.request.id;
            let is_taken = progress.objects.exchange.is_taken_over();
            let Some(green) = gateway.way.green().filter(|_| !is_taken) else {
                return Ok(());
            };
            if !gateway.reactor().is_connected(id) {
                return Err(PyConnectionResetError::new_err("the client has gone"));
            }
            green.await_end(id, party);
            Ok(())
        })
    }

    /// Nobody comes when the client goes.
    fn forget_end(&self) -> PyResult<()> {
        self.step(|progress| {
            if let Some(green) = progress.desk.service.gateway.way.green() {
                green.forget_end(progress.request.id);
            }
            Ok(())
        })
    }

    /// Whether the application has taken the connection over.
    #[getter]
    fn is_taken_over(&self) -> PyResult<bool> {
        self.step(|progress| Ok(progress.objects.exchange.is_taken_over()))
    }

    /// The request is over: its connection goes on, or is closed.
    ///
    /// Raises what ends the worker.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let progress = *self.take()?;
        let Progress {
            desk,
            request,
            objects,
            place,
            outcome,
            ..
        } = progress;
        let service = &*desk.service;
        let gateway = &service.gateway;
        gateway.end_forked_child(py, outcome.as_ref().err())?;
        let id = request.id;
        let kept = service.retire(py, objects, id, &outcome);
        if let Some(kept) = kept {
            let mut all = desk.objects();
            if all.len() < KEPT_OBJECTS {
                all.push(kept);
            }
        }
        gateway.in_flight.leave(place);
        if place != usize::MAX {
            desk.places().push(place);
        }
        if let Some(green) = gateway.way.green() {
            green.end_request();
            green.is_over(id);
        }
        gateway.reactor().recycle(request.head);
        service.conclude(id, outcome)
    }

    /// Its line in a log: method, target and client.
    fn __str__(&self) -> PyResult<String> {
        self.step(|progress| {
            let head = &progress.request.head;
            let (method, target) = (head.method().escape_ascii(), head.target().escape_ascii());
            Ok(format!("{method} {target} from {}", progress.request.who()))
        })
    }
}
