//! What all objects of one worker share: the reactor, the face, and how octets get out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use meinheld_protocol::encode;
use meinheld_protocol::{Head, Status};
use meinheld_reactor::{
    ConnId, Event, Fate, ForeignId, InFlight, Lifecycle, Process, Progress, Reactor, Record, Seat,
    Stage, Standing, Tally, watch_forks,
};
use pyo3::prelude::*;

use crate::face::Face;
use crate::failure::Failure;
use crate::flusher::Flusher;
use crate::options::{Options, SERVER};
use crate::watchdog::Watchdog;
use crate::watcher::Watcher;
use crate::way::Way;

/// Milliseconds from beat to beat of the heart while the loop turns: gunicorn's contract asks for one
/// a second.
pub(crate) const BEAT: u64 = 750;
/// As much while it stays only until its successors are ready.
const STAYING_BEAT: u64 = 50;
/// What of `graceful_timeout` is left to a worker for leaving when its drain has taken too long: the
/// arbiter kills it at the end. A short one keeps three quarters for the drain.
const FAREWELL: Duration = Duration::from_millis(500);

/// Requests that are with the application at once, at most, for each thread: one that it serves, one
/// that it is stuck in and was cut off, and one that has just come back from that.
const PLACES: usize = 3;

/// Events that are handled before the sockets are looked at again, if that takes no time.
const AT_ONCE: usize = 64;

/// What became of a request that was taken from the application.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// Its client got a 503.
    Denied,
    /// Its connection was aborted: the answer was half made.
    Aborted,
    /// Its answer was complete, and its connection was closed.
    Closed,
    /// Its client had gone before.
    Abandoned,
}

/// What a turn of the loop's is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Whatever comes.
    Events,
    /// As that, with something to do at once: nothing is waited for.
    NoWait,
    /// To move octets: pending requests stay pending.
    OctetsOnly,
}

/// What one turn handles: the events that were there when it began. What they bring about, the next
/// requests of clients that pipeline, comes first only as long as that takes no time.
#[derive(Default)]
pub(crate) struct Share {
    /// How many were there, and when that was.
    began: Option<(usize, u64)>,
    handled: usize,
}

impl Share {
    fn allows(&mut self, pending: usize, now: u64) -> bool {
        let (pending, began) = *self.began.get_or_insert((pending, now));
        let allowed = self.handled < pending || (self.handled < AT_ONCE && now == began);
        self.handled += usize::from(allowed);
        allowed
    }
}

/// Milliseconds that a drain may take, of all that leaving may.
fn grace(within: Duration) -> u64 {
    let grace = within - FAREWELL.min(within / 4);
    u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)
}

/// Shared by the loop and by everything it hands to the application.
pub(crate) struct Gateway {
    reactor: Mutex<Reactor>,
    pub(crate) face: Face,
    pub(crate) way: Way,
    pub(crate) flusher: Flusher,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) in_flight: InFlight,
    seat: Seat,
    /// None without a status endpoint.
    tally: Option<Tally>,
    /// None where nothing is to be watched for.
    pub(crate) watchdog: OnceLock<Arc<Watchdog>>,
    /// The one that serves.
    process: Process,
    pub(crate) sendfile: bool,
    /// Whether connections may serve a second request at all (gunicorn `keepalive`).
    pub(crate) keep_alive: bool,
    signals: ForeignId,
    /// When the next beat is due, in milliseconds of the reactor's.
    beat_due: AtomicU64,
    /// Beats so far.
    beats: AtomicU64,
    /// The worker was told to leave, and the loop has not looked yet.
    leaving: AtomicBool,
    /// How many milliseconds a drain may take.
    grace: AtomicU64,
    /// When the drain began.
    drains_since: OnceLock<Instant>,
    /// Answers are those of HTTP/1.0.
    pub(crate) http_10_only: bool,
}

impl Gateway {
    pub(crate) fn new(
        reactor: Reactor,
        face: Face,
        seat: Seat,
        tally: Option<Tally>,
        signals: ForeignId,
        options: &Options,
    ) -> Self {
        let places = match options.green {
            true => options.reactor.max_connections,
            false => options.threads * PLACES,
        };
        Self {
            flusher: Flusher::default(),
            watcher: Arc::default(),
            way: Way::new(options.threads, options.green, reactor.waker()),
            reactor: Mutex::new(reactor),
            face,
            in_flight: InFlight::new(places, tally),
            seat,
            tally,
            watchdog: OnceLock::new(),
            process: watch_forks(),
            sendfile: options.sendfile,
            keep_alive: !options.reactor.timeouts.keep_alive.is_zero(),
            signals,
            // The first beat is due at once: until then the arbiter cannot tell a hung worker.
            beat_due: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            grace: AtomicU64::new(grace(options.graceful_timeout)),
            drains_since: OnceLock::new(),
            http_10_only: options.http_10_only,
        }
    }

    /// The reactor, for one operation. Never held while Python code may run: that could come back
    /// here.
    pub(crate) fn reactor(&self) -> MutexGuard<'_, Reactor> {
        self.reactor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a child that the application forked, where it comes back into the server: neither the
    /// loop nor any socket is its own. `error` is what it raised.
    #[inline]
    pub(crate) fn end_forked_child(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        if self.process.is_another() {
            return self.face.forked(py, error);
        }
        Ok(())
    }

    /// Whether connections may serve another request, as far as the worker goes.
    pub(crate) fn may_keep_alive(&self) -> bool {
        self.keep_alive && !self.leaving.load(Ordering::Relaxed)
    }

    /// Notes that the worker is to leave: from now on answers say `Connection: close`. The loop
    /// drains when it next looks. `within` so much time, instead of `graceful_timeout`; once it drains
    /// that can only become less.
    pub(crate) fn leave(&self, within: Option<Duration>) {
        match (within, self.drains_since.get().map(Instant::elapsed)) {
            (None, _) => {}
            (Some(within), None) => self.grace.store(grace(within), Ordering::Relaxed),
            (Some(within), Some(spent)) => {
                let within = grace(spent.saturating_add(within));
                self.grace.fetch_min(within, Ordering::Relaxed);
            }
        }
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// One wait of the loop's, of at most a beat.
    pub(crate) fn turn(&self, py: Python<'_>, turn: Turn) -> PyResult<()> {
        self.end_forked_child(py, None)?;
        let limit = self.patience();
        let mut wait = {
            let mut reactor = self.reactor();
            match turn {
                Turn::Events => reactor.prepare_wait(limit),
                Turn::NoWait => reactor.prepare_wait(Duration::ZERO),
                Turn::OctetsOnly => reactor.prepare_io_wait(limit),
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

    /// Runs the Python signal handlers, and beats if it is time to; what a handler raises to end
    /// the process comes out of here.
    pub(crate) fn tend(&self, py: Python<'_>) -> PyResult<()> {
        self.tend_and(py, |_, _| ())
    }

    /// Tends, and gives the next event of this turn's share. A head that is `spent` is given back.
    #[inline(always)] // Greenlets are its second caller, and must not cost the first one a call.
    pub(crate) fn next(
        &self,
        py: Python<'_>,
        share: &mut Share,
        spent: Option<Box<Head>>,
    ) -> PyResult<Option<Event>> {
        self.tend_and(py, |reactor, now| {
            if let Some(head) = spent {
                reactor.recycle(head);
            }
            if share.allows(reactor.pending(), now) {
                reactor.poll()
            } else {
                None
            }
        })
    }

    /// Tends, and does something with the reactor, which is locked once for both.
    fn tend_and<T>(
        &self,
        py: Python<'_>,
        then: impl FnOnce(&mut Reactor, u64) -> T,
    ) -> PyResult<T> {
        self.end_forked_child(py, None)?;
        self.heed_signals(py)?;
        let (signalled, now, done) = {
            let mut reactor = self.reactor();
            let (signalled, now) = (reactor.take_foreign(self.signals), reactor.uptime());
            (signalled, now, then(&mut reactor, now))
        };
        if signalled || now >= self.beat_due.load(Ordering::Relaxed) {
            self.beat(py)?;
        }
        if self.leaving.load(Ordering::Relaxed) {
            // What waits in the backlog is taken along: on a stop nobody else would serve it.
            self.drain(py, true)?;
        }
        Ok(done)
    }

    /// Runs the Python signal handlers. To be called when a wait is over, before the interpreter
    /// would run them in the midst of what is not the application's.
    pub(crate) fn heed_signals(&self, py: Python<'_>) -> PyResult<()> {
        match py.check_signals() {
            Ok(()) => Ok(()),
            Err(error) => self.face.handler_failed(py, error),
        }
    }

    /// Whether this is the descriptor that signals make readable.
    pub(crate) fn is_signals(&self, id: ForeignId) -> bool {
        id == self.signals
    }

    /// The longest wait that puts neither the next beat nor the end off. To be asked when the clock has
    /// just been looked at.
    pub(crate) fn patience(&self) -> Duration {
        let now = self.reactor().last_look();
        let until_beat = self.beat_due.load(Ordering::Relaxed).saturating_sub(now);
        Duration::from_millis(until_beat).min(self.grace_left())
    }

    /// Whether the loop has nothing more to do, or no more time.
    pub(crate) fn is_finished(&self) -> bool {
        let gone = self.way.is_quiet() && self.reactor().lifecycle() == Lifecycle::Gone;
        gone || self.grace_is_over()
    }

    /// Whether the worker has begun to leave.
    pub(crate) fn is_draining(&self) -> bool {
        self.drains_since.get().is_some()
    }

    /// What is left of the time for a drain, once the worker drains.
    pub(crate) fn grace_left(&self) -> Duration {
        let grace = Duration::from_millis(self.grace.load(Ordering::Relaxed));
        self.drains_since
            .get()
            .map_or(Duration::MAX, |since| grace.saturating_sub(since.elapsed()))
    }

    /// Whether the worker has to go now, finished or not.
    pub(crate) fn grace_is_over(&self) -> bool {
        self.grace_left().is_zero()
    }

    pub(crate) fn beat(&self, py: Python<'_>) -> PyResult<()> {
        let now = {
            let mut reactor = self.reactor();
            reactor.forget_unused();
            reactor.uptime()
        };
        self.tell_of_shed(py, false)?;
        let goes_on = self.face.beat(py)?;
        let pace = match self.seat.standing() {
            Standing::Staying => STAYING_BEAT,
            _ => BEAT,
        };
        self.beat_due.store(now + pace, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
        if let Some(watchdog) = self.watchdog.get() {
            watchdog.beaten(py);
        }
        if let Some(tally) = self.tally {
            tally.beat();
        }
        if !goes_on {
            self.leave(None);
        }
        Ok(())
    }

    /// Takes a request from the application, unless that has finished it by now, or taken its socket
    /// over; says what became of it.
    pub(crate) fn cut_off(&self, request: &Record) -> Option<Cut> {
        let id = request.id();
        let threaded = self.way.is_threaded();
        // A request leaves its place before it is finished, for which the reactor is needed: so the
        // connection cannot be with another one.
        let mut reactor = self.reactor();
        let fate = self.in_flight.fate_of(request);
        let cut = match (fate, reactor.stage(id)) {
            // Inline the application may be about to answer, on this connection.
            (Fate::Open, Stage::Awaited) if threaded => Cut::Denied,
            (Fate::Open, Stage::Awaited | Stage::Begun) => Cut::Aborted,
            (Fate::Answered, Stage::Begun) => Cut::Closed,
            (Fate::Open | Fate::Answered, Stage::Gone) if threaded => Cut::Abandoned,
            _ => return None,
        };
        let becomes = match cut {
            Cut::Denied => Fate::Denied,
            Cut::Aborted | Cut::Closed | Cut::Abandoned => Fate::Ended,
        };
        if !self.in_flight.step(request, fate, becomes) {
            return None;
        }
        match cut {
            Cut::Denied => self.deny(&mut reactor, id, request.is_head()),
            Cut::Aborted => reactor.abort(id),
            Cut::Closed => reactor.dismiss(id),
            Cut::Abandoned => {}
        }
        reactor.waker().wake();
        drop(reactor);
        self.way.over(id);
        Some(cut)
    }

    /// Whether the application has a request, and its client nothing of the answer.
    pub(crate) fn is_unanswered(&self, request: &Record) -> bool {
        self.in_flight.fate_of(request) == Fate::Open
            && matches!(
                self.reactor().stage(request.id()),
                Stage::Awaited | Stage::Gone
            )
    }

    /// Answers a request in the place of the application, which takes too long.
    pub(crate) fn deny(&self, reactor: &mut Reactor, id: ConnId, is_head: bool) {
        let (status, line) = (
            Status::SERVICE_UNAVAILABLE,
            "the application takes too long",
        );
        let answer = encode::error_answer(status, line, SERVER, &reactor.date(), is_head);
        reactor.deny(id, &answer);
    }

    /// Warns of requests that were shed, once a second at most, or `at_last`.
    pub(crate) fn tell_of_shed(&self, py: Python<'_>, at_last: bool) -> PyResult<()> {
        let news = self.reactor().shed_news(at_last);
        match news {
            Some(count) => self.face.shed(py, count),
            None => Ok(()),
        }
    }

    /// How often the heart has beaten.
    pub(crate) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Begins to leave, once.
    pub(crate) fn drain(&self, py: Python<'_>, sweep: bool) -> PyResult<()> {
        {
            let mut reactor = self.reactor();
            if reactor.lifecycle() != Lifecycle::Serving {
                return Ok(());
            }
            let _ = self.drains_since.set(Instant::now());
            reactor.drain(sweep);
        }
        self.face.draining(py)
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
}
