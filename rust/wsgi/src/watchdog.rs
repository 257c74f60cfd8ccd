//! The thread that says what hangs before the arbiter's `timeout` ends it.
//!
//! It needs no interpreter, since an application may hold the GIL for ever, and takes no lock that
//! Python code could hold. It sleeps until something could be late: a healthy worker wakes it once in
//! about `timeout`.
//!
//! - The heart has stopped: inline the application hangs; with threads something holds the GIL. The
//!   arbiter is about to kill the worker.
//! - With threads, a request has been with the application for as long as `timeout`, and no answer
//!   has begun. The worker lives on.
//! - A request has been with it for `MEINHELD_REQUEST_TIMEOUT`: its client gets a 503, or its
//!   connection is aborted, and a thread that may never come back is replaced.
//!
//! Stacks are written by a signal's handler into a pipe that does not block, and this thread, which
//! nobody waits for, copies them to the log. Of a worker that hangs the signal is raised at once. Else
//! the loop raises it at its next beat: the thread that handles it then has the GIL, and so no other
//! one changes the stacks while they are read. `faulthandler` knows threads only: greenlets that are
//! suspended are told by a thread that waits for the interpreter, which this one never does.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use meinheld_reactor::{HandledSignal, InFlight, Record, block_signals, uptime};
use pyo3::Python;

use crate::gateway::{BEAT, Cut, Gateway};
use crate::report::{Log, Report, Seconds, await_octets, read_octets};

/// How long before `timeout` a report is due, at most: the arbiter looks once a second.
const MARGIN: u64 = 2000;
/// The least that a heart is late before anything is reported, where `timeout` is a second.
const LATE: u64 = BEAT + 100;
/// After this time the watchdog looks again before it reports: of a process that was stopped, every
/// thread is late.
const SECOND_LOOK: u64 = 50;
/// How late suspended greenlets may be told: what they do later says nothing of the hang.
const GREENLETS_WITHIN: Duration = Duration::from_secs(1);
/// How much later than the hub of greenlets, which cancels a request that takes too long, its
/// connection is aborted: the hub may be what hangs.
const AFTER_HUB: u64 = 500;
/// Requests that are named where something hangs, at most; the oldest.
pub(crate) const NAMED: usize = 100;
/// From look to look while the worker hangs.
const NEXT_LOOK: u64 = 1000;

/// What the watchdog looks for; `None` means never.
pub(crate) struct Bounds {
    /// gunicorn's `timeout`.
    pub(crate) timeout: Option<Duration>,
    /// `MEINHELD_REQUEST_TIMEOUT`.
    pub(crate) request: Option<Duration>,
}

/// What the loop and the watchdog's thread share. All times are milliseconds, of [`uptime`].
pub(crate) struct Watchdog {
    timeout: Option<u64>,
    request_timeout: Option<u64>,
    /// When the heart has beaten last.
    beat: AtomicU64,
    log: Log,
    stacks: Option<Stacks>,
    /// The loop is to have stacks written.
    wanted: AtomicBool,
}

/// How stacks are had.
struct Stacks {
    /// What its handler writes can be read here.
    pipe: OwnedFd,
    signal: HandledSignal,
}

impl Watchdog {
    pub(crate) fn new(bounds: &Bounds, log: OwnedFd, stacks: Option<(OwnedFd, i32)>) -> Self {
        let stacks = stacks.and_then(|(pipe, signal)| {
            let signal = HandledSignal::find(signal)?;
            Some(Stacks { pipe, signal })
        });
        let limit = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            timeout: bounds.timeout.map(limit),
            request_timeout: bounds.request.map(limit),
            beat: AtomicU64::new(uptime()),
            log: Log::new(log),
            stacks,
            wanted: AtomicBool::new(false),
        }
    }

    /// Watches the loop of `gateway` and what it serves, once.
    pub(crate) fn start(self, gateway: &Arc<Gateway>) -> io::Result<()> {
        let watchdog = Arc::new(self);
        if gateway.watchdog.set(Arc::clone(&watchdog)).is_ok() {
            let watch = Watch {
                watchdog,
                gateway: Arc::downgrade(gateway),
                in_flight: gateway.in_flight.clone(),
                threaded: gateway.way.is_threaded(),
                green: gateway.way.green().is_some(),
                heart: Heart::Beats,
                reported_until: 0,
                cut_until: 0,
            };
            let thread = thread::Builder::new().name("meinheld-watch".into());
            thread.spawn(move || watch.keep())?;
        }
        Ok(())
    }

    /// The heart beats, attached to the interpreter.
    pub(crate) fn beaten(&self, _py: Python<'_>) {
        self.beat.store(uptime(), Relaxed);
        if self.wanted.load(Relaxed) && self.wanted.swap(false, Relaxed) {
            self.raise();
        }
    }

    /// Reports go to `log` from now on.
    pub(crate) fn report_to(&self, log: OwnedFd) {
        self.log.renew(log);
    }

    fn raise(&self) {
        if let Some(stacks) = &self.stacks {
            stacks.signal.raise();
        }
    }
}

/// What the watchdog thinks of the heart. Each doubt is about one beat, which was the last.
enum Heart {
    Beats,
    /// It was late at the last look.
    Late(u64),
    /// And that was reported.
    Reported(u64),
}

/// The thread's own part.
struct Watch {
    watchdog: Arc<Watchdog>,
    gateway: Weak<Gateway>,
    in_flight: InFlight,
    /// The loop beats on while a request hangs.
    threaded: bool,
    green: bool,
    heart: Heart,
    /// Requests that began until then were reported, if they lasted.
    reported_until: u64,
    /// And of these the connections were aborted.
    cut_until: u64,
}

impl Watch {
    /// Until the gateway is gone.
    fn keep(mut self) {
        block_signals();
        let watchdog = Arc::clone(&self.watchdog);
        let mut pipe = watchdog.stacks.as_ref().map(|stacks| &stacks.pipe);
        while self.gateway.strong_count() > 0 {
            let now = uptime();
            let mut due = u64::MAX;
            if let Some(timeout) = watchdog.timeout {
                due = due.min(self.look_at_heart(timeout, now));
                if self.threaded {
                    due = due.min(self.look_at_requests(timeout, now));
                }
            }
            if let Some(limit) = watchdog.request_timeout {
                due = due.min(self.cut_off(limit, now));
            }
            let patience = Duration::from_millis(due.saturating_sub(now).max(1));
            match pipe {
                Some(stacks) if await_octets(stacks, patience) => {
                    if !self.copy(stacks) {
                        pipe = None;
                    }
                }
                Some(_) => {}
                None => thread::sleep(patience),
            }
        }
    }

    /// Reports a heart that has stopped, once; says when to look again.
    fn look_at_heart(&mut self, timeout: u64, now: u64) -> u64 {
        let beat = self.watchdog.beat.load(Relaxed);
        let late = now.saturating_sub(beat);
        let patience = (timeout - MARGIN.min(timeout / 4)).max(LATE);
        self.heart = match self.heart {
            _ if late < patience => Heart::Beats,
            Heart::Reported(reported) if reported == beat => Heart::Reported(beat),
            Heart::Late(suspected) if suspected == beat => {
                self.report_hang(late, timeout);
                Heart::Reported(beat)
            }
            _ => Heart::Late(beat),
        };
        match self.heart {
            Heart::Beats => beat.saturating_add(patience),
            Heart::Late(_) => now.saturating_add(SECOND_LOOK),
            Heart::Reported(_) => now.saturating_add(NEXT_LOOK),
        }
    }

    fn report_hang(&self, late: u64, timeout: u64) {
        let (late, timeout) = (Seconds(late), Seconds(timeout));
        let mut report = Report::default();
        report.line(format_args!(
            "The worker hangs: no heartbeat for {late}; timeout is {timeout}"
        ));
        let requests = self.in_flight.snapshot();
        for request in requests.iter().take(NAMED) {
            report.line(format_args!("With the application: {request}"));
        }
        if let Some(more) = requests.len().checked_sub(NAMED).filter(|more| *more > 0) {
            report.line(format_args!("With the application: {more} more requests"));
        }
        if requests.is_empty() {
            report.line("With the application: no request");
        }
        self.watchdog.log.write(report.octets());
        self.watchdog.raise();
        self.tell_greenlets();
    }

    /// Has suspended greenlets told, if the interpreter can be had in time.
    fn tell_greenlets(&self) {
        let (gateway, asked) = (Weak::clone(&self.gateway), Instant::now());
        let tell = move || {
            block_signals();
            Python::try_attach(|py| {
                if let Some(gateway) = gateway.upgrade()
                    && asked.elapsed() <= GREENLETS_WITHIN
                {
                    gateway.face.tell_greenlets(py);
                }
            });
        };
        // Where there can be no thread, the report does without.
        let _ = thread::Builder::new()
            .name("meinheld-green".into())
            .spawn(tell);
    }

    /// Reports requests that have been with the application for as long as `timeout`, each once;
    /// says when to look again.
    fn look_at_requests(&mut self, timeout: u64, now: u64) -> u64 {
        if !matches!(self.heart, Heart::Beats) {
            // All are named with it. Should it beat again, these are next.
            return u64::MAX;
        }
        let mut overdue = Overdue::find(&self.in_flight, timeout, self.reported_until, now);
        self.reported_until = overdue.until;
        // A stream may last, and so may what is spoken on a socket that was taken over.
        overdue
            .requests
            .retain(|request| self.is_unanswered(request));
        let timeout = Seconds(timeout);
        let mut report = Report::default();
        for request in &overdue.requests {
            report.line(format_args!(
                "A thread has not come back: {request}; timeout is {timeout}"
            ));
        }
        if !overdue.requests.is_empty() {
            self.watchdog.log.write(report.octets());
            self.watchdog.wanted.store(true, Relaxed);
            self.tell_greenlets();
        }
        overdue.next
    }

    fn is_unanswered(&self, request: &Record) -> bool {
        let gateway = self.gateway.upgrade();
        gateway.is_some_and(|gateway| gateway.is_unanswered(request))
    }

    /// Takes requests from the application that it has had for `limit`; says when to look again.
    fn cut_off(&mut self, limit: u64, now: u64) -> u64 {
        let patience = if self.green { limit + AFTER_HUB } else { limit };
        let overdue = Overdue::find(&self.in_flight, patience, self.cut_until, now);
        self.cut_until = overdue.until;
        let limit = Seconds(limit);
        for request in &overdue.requests {
            let Some(gateway) = self.gateway.upgrade() else {
                continue;
            };
            let done = match gateway.cut_off(request) {
                Some(Cut::Denied) => "Answered with 503",
                Some(Cut::Aborted) => "Connection aborted",
                Some(Cut::Closed) => "Connection closed, close() has not come back",
                Some(Cut::Abandoned) => "Given up, its client has gone",
                None => continue,
            };
            let mut report = Report::default();
            report.line(format_args!(
                "{done}: {request}; MEINHELD_REQUEST_TIMEOUT is {limit}"
            ));
            gateway.way.lose();
            self.watchdog.log.write(report.octets());
        }
        overdue.next
    }

    /// Copies stacks to the log, in one piece; `false` when none can come any more.
    fn copy(&self, pipe: &OwnedFd) -> bool {
        let mut stacks = Vec::new();
        let lives = read_octets(pipe, &mut stacks);
        if !stacks.is_empty() {
            let mut report = Report::default();
            report.line("Every Python thread's stack, innermost call first:");
            let text = [report.octets(), &stacks].concat();
            self.watchdog.log.write(&text);
        }
        lives
    }
}

/// The requests that have just become too old.
struct Overdue {
    requests: Vec<Record>,
    /// All that began until then have.
    until: u64,
    /// When the next one can.
    next: u64,
}

impl Overdue {
    /// Of what is in flight, requests older than `limit` that began after `known`.
    fn find(in_flight: &InFlight, limit: u64, known: u64, now: u64) -> Self {
        let until = now.saturating_sub(limit);
        let mut requests = in_flight.snapshot();
        // Oldest first.
        let young = requests.split_off(requests.partition_point(|one| one.started() <= until));
        requests.retain(|request| request.started() > known);
        let next = young.first().map_or(now, Record::started);
        Self {
            requests,
            until,
            next: next.saturating_add(limit),
        }
    }
}
