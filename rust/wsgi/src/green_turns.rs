//! The loop's turns, for a hub of greenlets that takes them itself.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meinheld_reactor::{Event, ForeignId, TimerId, Waker};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

use crate::ffi::descriptor;
use crate::gateway::{Gateway, Share, Turn};
use crate::green::Green;
use crate::green_request::Desk;
use crate::options::seconds;
use crate::serve::Slot;
use crate::worker::Loop;

/// The turns of a [`Loop`], which the hub takes one by one.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Turns {
    the_loop: Py<Loop>,
    desk: Arc<Desk>,
    present: Mutex<Present>,
    waker: Waker,
}

/// The turn that is being taken.
#[derive(Default)]
struct Present {
    share: Share,
    /// Beats until it began.
    beats: u64,
}

impl Turns {
    fn gateway(&self) -> &Gateway {
        &self.the_loop.get().service.gateway
    }

    /// What greenlets wait for.
    fn green(&self) -> PyResult<&Green> {
        let green = self.gateway().way.green();
        green.ok_or_else(|| PyRuntimeError::new_err("this loop has no greenlets"))
    }

    /// Locked to copy something in or out.
    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an event is to the hub: a new request, or who waited for it; `None` where it is the
    /// loop's own.
    fn hand_over(&self, py: Python<'_>, event: Event) -> PyResult<Option<Py<PyAny>>> {
        let (green, the_loop) = (self.green()?, self.the_loop.get());
        match event {
            Event::Request(request) => {
                the_loop.count(py)?;
                let served = self.desk.open(py, request)?;
                return Ok(Some(Py::new(py, served)?.into_any()));
            }
            Event::Room(id) => green.has_room(id),
            Event::Gone(id) => green.has_gone(id),
            Event::Timer(id) => return Ok(green.timer(id)),
            Event::Foreign(id, _) if !self.gateway().is_signals(id) => {
                return Ok(green.descriptor(id));
            }
            event => {
                let mut slot = Slot::new(0);
                the_loop.handle(py, &mut slot, event)?;
                if let Some(head) = slot.spent {
                    self.gateway().reactor().recycle(head);
                }
            }
        }
        Ok(None)
    }
}

#[pymethods]
impl Turns {
    /// Raises `RuntimeError` where the loop has no greenlets.
    #[new]
    fn new(the_loop: Py<Loop>) -> PyResult<Self> {
        let service = &the_loop.get().service;
        let waker = service.gateway.reactor().waker();
        let turns = Self {
            desk: Arc::new(Desk::new(Arc::clone(service))),
            present: Mutex::default(),
            waker,
            the_loop,
        };
        turns.green()?;
        Ok(turns)
    }

    /// Waits for events, for a beat at most, and not where the hub is `busy`, because it has something
    /// to do; whether the loop goes on. Signal handlers run. A hub that `stays` has not finished when
    /// all requests have.
    ///
    /// Raises what ends the worker: `SystemExit` of a signal handler.
    #[pyo3(signature = (*, busy, stays))]
    fn turn(&self, py: Python<'_>, busy: bool, stays: bool) -> PyResult<bool> {
        let gateway = self.gateway();
        if gateway.grace_is_over() || (gateway.is_finished() && !stays) {
            return Ok(false);
        }
        let mut beats = self.present().beats;
        self.the_loop.get().forget_silent(py, &mut beats);
        let busy = busy || self.green()?.has_arrived();
        gateway.turn(py, if busy { Turn::NoWait } else { Turn::Events })?;
        gateway.heed_signals(py)?;
        let share = Share::default();
        *self.present() = Present { share, beats };
        Ok(true)
    }

    /// The next that has come in this turn: a [`Served`](crate::green_request::Served), or an object
    /// that was given to wait for something; `None` when it is time for another turn.
    ///
    /// Raises as `turn` does.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let green = self.green()?;
        loop {
            if let Some(party) = green.arrived() {
                return Ok(Some(party));
            }
            let mut share = std::mem::take(&mut self.present().share);
            let event = self.gateway().next(py, &mut share, None);
            self.present().share = share;
            let Some(event) = event? else {
                return Ok(None);
            };
            if let Some(party) = self.hand_over(py, event)? {
                return Ok(Some(party));
            }
        }
    }

    /// Ends the present wait, or the next one at once. Any thread may call this.
    fn wake(&self) {
        self.waker.wake();
    }

    /// `party` comes out of `next` when so many seconds have passed, unless the timer is cancelled.
    fn set_timer(&self, delay: f64, party: Py<PyAny>) -> PyResult<u64> {
        let green = self.green()?;
        // Longer is for ever, and more than the clock can name.
        const LONGEST: f64 = 1e9;
        let delay = seconds("delay", delay.clamp(0.0, LONGEST))?;
        let id = self.gateway().reactor().set_timer(delay);
        green.await_timer(id, party);
        Ok(id.number())
    }

    /// Takes a timer back.
    fn cancel_timer(&self, timer: u64) -> PyResult<()> {
        let green = self.green()?;
        let id = TimerId::of(timer);
        self.gateway().reactor().cancel_timer(id);
        drop(green.timer(id));
        Ok(())
    }

    /// `party` comes out of `next` when the descriptor is ready, or has an error; once, and then it
    /// has to be unwatched. The descriptor is duplicated.
    #[pyo3(signature = (fd, *, read, write, party))]
    fn watch_descriptor(
        &self,
        fd: i32,
        read: bool,
        write: bool,
        party: Py<PyAny>,
    ) -> PyResult<u32> {
        let green = self.green()?;
        let watch = |fd: BorrowedFd<'_>| self.gateway().reactor().watch(fd, read, write);
        let id = descriptor::with(fd, watch).map_err(|error| os_error(&error))?;
        green.await_descriptor(id, party);
        Ok(id.number())
    }

    /// Ends a watch.
    fn unwatch_descriptor(&self, watch: u32) -> PyResult<()> {
        let green = self.green()?;
        let id = ForeignId::of(watch);
        self.gateway().reactor().unwatch(id);
        drop(green.descriptor(id));
        Ok(())
    }

    /// Seconds until the worker has to be gone, once it leaves.
    #[getter]
    fn grace_left(&self) -> Option<f64> {
        let left = self.gateway().grace_left();
        (left != Duration::MAX).then_some(left.as_secs_f64())
    }

    /// Whether the worker has begun to leave: it accepts no more.
    #[getter]
    fn is_draining(&self) -> bool {
        self.gateway().is_draining()
    }

    /// Closes what is left, when the hub has ended.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.desk.clear();
        self.the_loop.get().close(py, Ok(()))
    }
}

/// As Python's own calls raise it, with its number: cooperative sockets raise it on.
fn os_error(error: &io::Error) -> PyErr {
    let Some(code) = error.raw_os_error() else {
        return PyOSError::new_err(error.to_string());
    };
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    PyOSError::new_err((code, text.to_owned()))
}
