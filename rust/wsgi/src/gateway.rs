//! What all objects of one worker share: the reactor, the face, and how octets get out.

use std::fs::File;
use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use meinheld_reactor::{
    ConnId, ForeignId, InFlight, Lifecycle, Progress, Reactor, Segment, forked_child,
};
use pyo3::prelude::*;

use crate::exchange::Frame;
use crate::face::Face;
use crate::failure::Failure;
use crate::ffi::bytes::PinnedBytes;
use crate::options::Options;
use crate::way::Way;

/// The heart beats this often while the loop turns: gunicorn's contract asks for once a second.
const BEAT: Duration = Duration::from_millis(750);
/// What of `graceful_timeout` is left to a worker for leaving when its drain has taken too long: the
/// arbiter kills it at the end. A short one keeps three quarters for the drain.
const FAREWELL: Duration = Duration::from_millis(500);

/// Shared by the loop and by everything it hands to the application.
pub(crate) struct Gateway {
    reactor: Mutex<Reactor>,
    pub(crate) face: Face,
    pub(crate) way: Way,
    pub(crate) in_flight: InFlight,
    pub(crate) sendfile: bool,
    /// Whether connections may serve a second request at all (gunicorn `keepalive`).
    pub(crate) keep_alive: bool,
    signals: ForeignId,
    last_beat: Mutex<Option<Instant>>,
    /// The worker was told to leave, and the loop has not looked yet.
    leaving: AtomicBool,
    /// How long a drain may take.
    grace: Duration,
    /// When a drain will have taken too long, if ever; set when it begins.
    grace_ends: OnceLock<Option<Instant>>,
}

impl Gateway {
    pub(crate) fn new(reactor: Reactor, face: Face, signals: ForeignId, options: &Options) -> Self {
        Self {
            way: Way::new(options.threads, reactor.waker()),
            reactor: Mutex::new(reactor),
            face,
            in_flight: InFlight::new(options.threads),
            sendfile: options.sendfile,
            keep_alive: !options.reactor.timeouts.keep_alive.is_zero(),
            signals,
            // The first beat is due at once: until then the arbiter cannot tell a hung worker.
            last_beat: Mutex::new(None),
            leaving: AtomicBool::new(false),
            grace: options.graceful_timeout - FAREWELL.min(options.graceful_timeout / 4),
            grace_ends: OnceLock::new(),
        }
    }

    /// The reactor, for one operation. Never held while Python code may run: that could come back
    /// here.
    pub(crate) fn reactor(&self) -> MutexGuard<'_, Reactor> {
        self.reactor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a child that the application forked, where it comes back into the server: neither the
    /// loop nor any socket is its own. `error` is what it raised.
    pub(crate) fn end_forked_child(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        if forked_child() {
            self.face.forked(py, error)
        } else {
            Ok(())
        }
    }

    /// The head of an answer leaves; says whether its connection may stay.
    pub(crate) fn begin_answer(&self, id: ConnId) -> bool {
        let may_stay = self.reactor().begin_answer(id);
        may_stay && self.keep_alive && !self.leaving.load(Ordering::Relaxed)
    }

    /// Notes that the worker is to leave: from now on answers say `Connection: close`. The loop
    /// drains when it next looks.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// One wait of the loop's, of at most a beat; with `io_only`, pending requests stay pending.
    pub(crate) fn turn(&self, py: Python<'_>, io_only: bool) -> PyResult<()> {
        self.end_forked_child(py, None)?;
        let limit = self.patience();
        let mut wait = {
            let mut reactor = self.reactor();
            if io_only {
                reactor.prepare_io_wait(limit)
            } else {
                reactor.prepare_wait(limit)
            }
        };
        if wait.may_block() {
            py.detach(|| wait.run())?;
        } else {
            wait.run()?;
        }
        let mut reactor = self.reactor();
        reactor.absorb(wait);
        Ok(())
    }

    /// Runs the Python signal handlers, and beats if it is time to; what a handler raises comes
    /// out of here.
    pub(crate) fn tend(&self, py: Python<'_>) -> PyResult<()> {
        self.end_forked_child(py, None)?;
        py.check_signals()?;
        let signalled = self.reactor().take_foreign(self.signals);
        if signalled || self.until_beat().is_zero() {
            self.beat(py)?;
        }
        if self.leaving.load(Ordering::Relaxed) {
            // What waits in the backlog is taken along: on a stop nobody else would serve it.
            self.drain(py, true)?;
        }
        Ok(())
    }

    /// The longest wait that puts neither the next beat nor the end off.
    pub(crate) fn patience(&self) -> Duration {
        self.until_beat().min(self.grace_left())
    }

    /// Whether the loop has nothing more to do, or no more time.
    pub(crate) fn is_finished(&self) -> bool {
        let gone = self.way.is_quiet() && self.reactor().lifecycle() == Lifecycle::Gone;
        gone || self.grace_is_over()
    }

    /// Whether the worker has begun to leave.
    pub(crate) fn is_draining(&self) -> bool {
        self.grace_ends.get().is_some()
    }

    /// What is left of the time for a drain, once the worker drains.
    fn grace_left(&self) -> Duration {
        let ends = self.grace_ends.get().copied().flatten();
        ends.map_or(Duration::MAX, |ends| {
            ends.saturating_duration_since(Instant::now())
        })
    }

    /// Whether the worker has to go now, finished or not.
    pub(crate) fn grace_is_over(&self) -> bool {
        self.grace_left().is_zero()
    }

    fn until_beat(&self) -> Duration {
        let last = *self
            .last_beat
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.map_or(Duration::ZERO, |last| BEAT.saturating_sub(last.elapsed()))
    }

    pub(crate) fn beat(&self, py: Python<'_>) -> PyResult<()> {
        *self
            .last_beat
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if !self.face.beat(py)? {
            self.leave();
        }
        Ok(())
    }

    /// Begins to leave, once.
    pub(crate) fn drain(&self, py: Python<'_>, sweep: bool) -> PyResult<()> {
        {
            let mut reactor = self.reactor();
            if reactor.lifecycle() != Lifecycle::Serving {
                return Ok(());
            }
            // A time too far to name never comes.
            let _ = self.grace_ends.set(Instant::now().checked_add(self.grace));
            reactor.drain(sweep);
        }
        self.face.draining(py)
    }

    /// Sends a framed block; queues what the kernel does not take, without a copy where it is
    /// pinned.
    pub(crate) fn send_block(
        &self,
        id: ConnId,
        frame: Frame,
        octets: &[u8],
        pinned: Option<PinnedBytes>,
    ) -> Progress {
        let octets = &octets[..frame.length];
        let Some(mut pinned) = pinned else {
            return self.send_octets(id, frame.merge(octets));
        };
        let Frame { lead, length, tail } = frame;
        let mut reactor = self.reactor();
        let slices = [
            IoSlice::new(&lead),
            IoSlice::new(octets),
            IoSlice::new(tail),
        ];
        let Some(taken) = reactor.try_write(id, &slices) else {
            return Progress::Gone;
        };
        let (of_lead, rest) = (taken.min(lead.len()), taken.saturating_sub(lead.len()));
        let (of_block, of_tail) = (rest.min(length), rest.saturating_sub(length));
        pinned.truncate(length);
        reactor.queue_segment(id, Segment::Bytes(lead[of_lead..].to_vec()));
        reactor.queue_segment(id, Segment::Shared(Box::new(pinned), of_block));
        reactor.queue_segment(id, Segment::Bytes(tail[of_tail..].to_vec()));
        reactor.flush(id)
    }

    /// Queues a framed block behind others; [`flush`](Self::flush) sends them together.
    pub(crate) fn queue_block(
        &self,
        id: ConnId,
        frame: Frame,
        octets: &[u8],
        pinned: Option<PinnedBytes>,
    ) {
        let mut reactor = self.reactor();
        let Some(mut pinned) = pinned else {
            let octets = &octets[..frame.length];
            reactor.queue_segment(id, Segment::Bytes(frame.merge(octets)));
            return;
        };
        pinned.truncate(frame.length);
        reactor.queue_segment(id, Segment::Bytes(frame.lead));
        reactor.queue_segment(id, Segment::Shared(Box::new(pinned), 0));
        reactor.queue_segment(id, Segment::Bytes(frame.tail.to_vec()));
    }

    /// Queues a part of a file behind what frames it.
    pub(crate) fn queue_file(&self, id: ConnId, frame: Frame, file: File, offset: u64) {
        let mut reactor = self.reactor();
        let remaining = frame.length as u64;
        reactor.queue_segment(id, Segment::Bytes(frame.lead));
        let part = Segment::File {
            file,
            offset,
            remaining,
        };
        reactor.queue_segment(id, part);
        reactor.queue_segment(id, Segment::Bytes(frame.tail.to_vec()));
    }

    /// Sends what is queued, as far as the kernel takes it; the rest goes out meanwhile.
    pub(crate) fn flush(&self, py: Python<'_>, id: ConnId) -> Result<(), Failure> {
        let flush = || self.reactor().flush(id);
        let progress = if self.way.is_threaded() {
            py.detach(flush)
        } else {
            flush()
        };
        match progress {
            Progress::Gone => Err(Failure::Gone),
            Progress::Accepted | Progress::Pending => Ok(()),
        }
    }

    /// Sends octets of our own.
    pub(crate) fn send_octets(&self, id: ConnId, mut octets: Vec<u8>) -> Progress {
        let mut reactor = self.reactor();
        if octets.is_empty() {
            return match reactor.is_connected(id) {
                true => Progress::Accepted,
                false => Progress::Gone,
            };
        }
        let Some(taken) = reactor.try_write(id, &[IoSlice::new(&octets)]) else {
            return Progress::Gone;
        };
        if taken == octets.len() {
            return Progress::Accepted;
        }
        octets.drain(..taken);
        reactor.queue_segment(id, Segment::Bytes(octets));
        reactor.flush(id)
    }
}
