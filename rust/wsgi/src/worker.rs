//! The loop.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use meinheld_reactor::{Event, Reactor, Request};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::environ::{Builder, Template};
use crate::face::Face;
use crate::ffi::descriptor;
use crate::gateway::{Gateway, Share, Turn};
use crate::options::{Options, seconds};
use crate::pool::{Help, Overflow, Pool};
use crate::seat::Seat;
use crate::serve::{Service, Slot};
use crate::watchdog::{Bounds, NAMED, Watchdog};
use crate::way::Way;

/// The event loop of one worker process.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Loop {
    pub(crate) service: Arc<Service>,
    served: AtomicU64,
    max_requests: Option<u64>,
}

#[pymethods]
impl Loop {
    /// Makes a loop that listens at once and accepts when it runs.
    ///
    /// `listeners` are tuples of a listening descriptor, the `environ` of its requests, and the
    /// path where it is a unix socket. `signals` is the descriptor that signals make readable. With
    /// `counts` the worker's figures are kept where its siblings read them.
    #[new]
    #[pyo3(signature = (
        application, face, *, seat, listeners, signals, file_wrapper, options, counts
    ))]
    #[allow(clippy::too_many_arguments)] // Named one by one in Python.
    fn new(
        application: Py<PyAny>,
        face: &Bound<'_, PyAny>,
        seat: &Bound<'_, Seat>,
        listeners: Vec<(i32, Bound<'_, PyDict>, Option<String>)>,
        signals: i32,
        file_wrapper: Py<PyAny>,
        options: &Bound<'_, Options>,
        counts: bool,
    ) -> PyResult<Self> {
        let py = face.py();
        let options = options.get();
        teach_allocator();
        let mut reactor = Reactor::new(options.reactor.clone())?;
        let mut templates = Vec::new();
        for (descriptor, environ, unix_path) in listeners {
            reactor.listen(descriptor::own(descriptor)?)?;
            templates.push(Template::new(&environ, unix_path, &options.script_name)?);
        }
        let signals = reactor.watch(descriptor::own(signals)?, true, false)?;
        let (face, seat) = (Face::new(face)?, seat.get().0);
        if options.shares_listeners {
            reactor.sit(seat);
        }
        let tally = counts.then(|| seat.tally(options.threads));
        if let Some(tally) = tally {
            reactor.count(tally);
        }
        let gateway = Gateway::new(reactor, face, seat, tally, signals, options);
        let service = Arc::new(Service {
            gateway: Arc::new(gateway),
            application,
            environs: Builder::new(templates, options.script_name.clone()),
            file_wrapper,
            reuses: has_gil(py)?,
        });
        Ok(Self {
            service,
            served: AtomicU64::new(0),
            max_requests: options.max_requests,
        })
    }

    /// Serves until the face says to leave and all that was begun is answered, or
    /// `graceful_timeout` has passed.
    ///
    /// Raises what ends the worker at once: `SystemExit` of a signal handler; and `RuntimeError` where
    /// a hub of greenlets takes its turns.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let ran = match &self.service.gateway.way {
            Way::Inline => self.turns_inline(py),
            Way::Threads(pool) => self.turns_beside_threads(py, pool),
            Way::Green(_) => return Err(PyRuntimeError::new_err("this loop is a hub's")),
        };
        self.close(py, ran)
    }

    /// Serves requests on the calling thread, as number `slot` of `threads`, until the loop has
    /// ended, or another thread has been started because this one was stuck.
    ///
    /// Raises `RuntimeError` where the application is called by the loop itself.
    fn work(&self, py: Python<'_>, slot: usize) -> PyResult<()> {
        let gateway = &self.service.gateway;
        let Way::Threads(pool) = &gateway.way else {
            return Err(PyRuntimeError::new_err("this loop has one thread, its own"));
        };
        // As `top -H` and debuggers show it; Python's own name is not told to the system before 3.14.
        if let Ok(name) = CString::new(format!("meinheld-{}", slot + 1)) {
            let _ = rustix::thread::set_name(&name);
        }
        let mut place = Slot::new(slot);
        while py.detach(|| pool.await_requests()) {
            let turn = Instant::now();
            let mut next = pool.first();
            while let Some(request) = next {
                let taken = self.take_waited(py, &mut place, request);
                let goes_on = if std::mem::take(&mut place.lost) {
                    pool.found()
                } else {
                    pool.finished(|| gateway.is_draining());
                    true
                };
                match taken {
                    Ok(()) => {}
                    Err(error) if gateway.face.ends_worker(py, &error) => return Ok(()),
                    // Thrown into this thread from another one.
                    Err(error) => error.write_unraisable(py, None),
                }
                if !goes_on {
                    // Another thread has its place.
                    return Ok(());
                }
                next = pool.following(turn);
            }
        }
        Ok(())
    }

    /// Leaves gracefully. A signal handler may call this while the application runs: its answer
    /// then says `Connection: close` already. With `within`, in so many seconds at most, instead of
    /// `graceful_timeout`.
    #[pyo3(signature = (within = None))]
    fn leave(&self, within: Option<f64>) -> PyResult<()> {
        let within = within.map(|value| seconds("within", value)).transpose()?;
        self.service.gateway.leave(within);
        Ok(())
    }

    /// Requests that reached the application.
    #[getter]
    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Connections on which a request arrived after a drain had closed them.
    #[getter]
    fn late_arrivals(&self) -> u64 {
        self.service.gateway.reactor().late_arrivals()
    }

    /// Requests that were answered with 503 because they had waited for too long.
    #[getter]
    fn shed(&self) -> u64 {
        self.service.gateway.reactor().shed_requests()
    }

    /// Requests whose clients had gone before the application was called for them.
    #[getter]
    fn gone(&self) -> u64 {
        self.service.gateway.reactor().gone_requests()
    }

    /// Whether a callback of `meinheld.disconnected` is running.
    #[getter]
    fn calls_back(&self) -> bool {
        self.service.gateway.watcher.calls()
    }

    /// Waits until none is, for so many seconds at most. When the loop has ended, none begins.
    fn await_callbacks(&self, py: Python<'_>, patience: f64) -> PyResult<()> {
        let patience = seconds("patience", patience)?;
        py.detach(|| self.service.gateway.watcher.settle(patience));
        Ok(())
    }

    /// Has the loop and the application watched from now on.
    ///
    /// `timeout` is gunicorn's and `request_timeout` a request's, in seconds. `log` is a descriptor
    /// for what is reported; `stacks` is the reading end of a pipe that does not block, and the
    /// signal whose handler writes stacks into it. All are duplicated.
    #[pyo3(signature = (*, timeout, request_timeout, log, stacks))]
    fn watch(
        &self,
        timeout: Option<f64>,
        request_timeout: Option<f64>,
        log: i32,
        stacks: Option<(i32, i32)>,
    ) -> PyResult<()> {
        let time = |name, value: Option<f64>| value.map(|value| seconds(name, value)).transpose();
        let bounds = Bounds {
            timeout: time("timeout", timeout)?,
            request: time("MEINHELD_REQUEST_TIMEOUT", request_timeout)?,
        };
        let log = descriptor::own(log)?;
        let stacks = match stacks {
            Some((pipe, signal)) => Some((descriptor::own(pipe)?, signal)),
            None => None,
        };
        let watchdog = Watchdog::new(&bounds, log, stacks);
        Ok(watchdog.start(&self.service.gateway)?)
    }

    /// Has what is reported written to the descriptor `log`, which is duplicated.
    fn report_to(&self, log: i32) -> PyResult<()> {
        if let Some(watchdog) = self.service.gateway.watchdog.get() {
            watchdog.report_to(descriptor::own(log)?);
        }
        Ok(())
    }

    /// A line for each request that is with the application now, of the oldest hundred.
    fn in_flight(&self) -> Vec<String> {
        self.service
            .gateway
            .in_flight
            .snapshot()
            .iter()
            .take(NAMED)
            .map(ToString::to_string)
            .collect()
    }
}

impl Loop {
    /// Closes what is left, with what `ran` has come to.
    pub(crate) fn close(&self, py: Python<'_>, ran: PyResult<()>) -> PyResult<()> {
        let gateway = &self.service.gateway;
        // Before anything is closed: in a child of the application's it is not its own.
        gateway.end_forked_child(py, ran.as_ref().err())?;
        gateway.watcher.close(py);
        let ran = ran.and_then(|()| gateway.tell_of_shed(py, true));
        // Not attached: blocks of other threads are freed, which may have to wait for them.
        py.detach(|| gateway.reactor().end());
        match &gateway.way {
            Way::Inline => {}
            Way::Threads(pool) => pool.close(),
            Way::Green(green) => {
                for party in green.forget() {
                    if let Err(error) = party.call_method0(py, "ready") {
                        error.write_unraisable(py, None);
                    }
                }
            }
        }
        ran
    }

    /// Turns that leave the application to the threads.
    fn turns_beside_threads(&self, py: Python<'_>, pool: &Pool) -> PyResult<()> {
        let gateway = &self.service.gateway;
        let mut overflow = Overflow::default();
        let mut beats = 0;
        gateway.tend(py)?;
        while !gateway.is_finished() {
            self.forget_silent(py, &mut beats);
            let news = py.detach(|| overflow.turn(gateway, pool))?;
            gateway.heed_signals(py)?;
            for event in news {
                self.handle(py, &mut Slot::new(0), event)?;
            }
            self.help(py, pool, pool.take_help())?;
            let denied = overflow.turn_away(gateway, pool);
            if !denied.is_empty() {
                let message = format!("Every thread is stuck: answered {} with 503", denied.len());
                gateway.face.warn(py, message)?;
            }
            for request in denied {
                self.service.shed(py, &mut Slot::new(0), request)?;
            }
            gateway.tend(py)?;
        }
        Ok(())
    }

    /// Does what has to be done where threads are stuck.
    fn help(&self, py: Python<'_>, pool: &Pool, help: Help) -> PyResult<()> {
        let gateway = &self.service.gateway;
        for _ in 0..help.threads {
            if !gateway.face.replace_thread(py)? {
                pool.do_without();
            }
        }
        if help.leave && gateway.face.overwhelmed(py)? {
            // The backlog is the replacement's.
            gateway.drain(py, false)?;
        }
        Ok(())
    }

    /// Turns that call the application.
    fn turns_inline(&self, py: Python<'_>) -> PyResult<()> {
        let gateway = &self.service.gateway;
        let mut slot = Slot::new(0);
        let mut beats = 0;
        gateway.tend(py)?;
        while !gateway.is_finished() {
            self.forget_silent(py, &mut beats);
            gateway.turn(py, Turn::Events)?;
            let mut share = Share::default();
            while let Some(event) = gateway.next(py, &mut share, slot.spent.take())? {
                self.handle(py, &mut slot, event)?;
            }
        }
        Ok(())
    }

    /// Once a beat: what idle connections have said is not kept.
    pub(crate) fn forget_silent(&self, py: Python<'_>, beats: &mut u64) {
        let now = self.service.gateway.beats();
        if std::mem::replace(beats, now) != now {
            self.service.environs.forget_silent(py);
        }
    }

    pub(crate) fn handle(&self, py: Python<'_>, slot: &mut Slot, event: Event) -> PyResult<()> {
        let gateway = &self.service.gateway;
        match event {
            Event::Request(request) => self.take(py, slot, request),
            Event::Shed(request) => self.service.shed(py, slot, request),
            Event::Rejected { peer, cause } => {
                let face = &gateway.face;
                face.rejected(py, peer.to_string(), cause.to_string())
            }
            Event::AcceptFailed(error) => {
                let message = format!("accepting connections paused: {error}");
                gateway.face.warn(py, message)
            }
            Event::FileShrank { peer } => {
                let message = format!("an answer to {peer} was aborted: its file became shorter");
                gateway.face.warn(py, message)
            }
            // The one descriptor that is watched: a signal has come.
            Event::Foreign(..) => gateway.beat(py),
            // Inline, whoever waits for these looks for itself.
            Event::Room(_) | Event::Gone(_) | Event::BodyReady(_) | Event::Timer(_) => Ok(()),
        }
    }

    /// Serves one request on a thread of the application's, unless its client has left while it
    /// waited for one, or it has waited for too long.
    fn take_waited(&self, py: Python<'_>, slot: &mut Slot, request: Request) -> PyResult<()> {
        let wanted = {
            let mut reactor = self.service.gateway.reactor();
            if let Some(head) = slot.spent.take() {
                reactor.recycle(head);
            }
            reactor.still_wanted(request)
        };
        match wanted {
            Some(event) => self.handle(py, slot, event),
            None => Ok(()),
        }
    }

    /// Serves one request.
    fn take(&self, py: Python<'_>, slot: &mut Slot, request: Request) -> PyResult<()> {
        self.count(py)?;
        self.service.serve(py, slot, request)
    }

    pub(crate) fn count(&self, py: Python<'_>) -> PyResult<()> {
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        if self.max_requests == Some(served) && self.service.gateway.face.spent(py)? {
            // The arbiter replaces this worker: the backlog is the replacement's.
            self.service.gateway.drain(py, false)?;
        }
        Ok(())
    }
}

/// Lets glibc keep as much memory as bodies of a usual size take: until it has seen a larger block
/// come and go it gives their memory back, and asks for it again, with each of them (mallopt(3),
/// `M_MMAP_THRESHOLD`).
fn teach_allocator() {
    const LARGEST_USUAL: usize = 1 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(
        LARGEST_USUAL,
    )));
}

/// Whether one thread at a time runs Python.
fn has_gil(py: Python<'_>) -> PyResult<bool> {
    // Since Python 3.13; before, there was no other way.
    match py.import("sys")?.getattr("_is_gil_enabled") {
        Ok(is_enabled) => is_enabled.call0()?.extract(),
        Err(_) => Ok(true),
    }
}
