//! Application threads: how requests reach them, and how they wait.
//!
//! The loop parses and sends without the interpreter; a thread answers through the reactor that
//! both share, so that most answers leave without a wake-up of anybody.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use meinheld_reactor::{ConnId, Event, Request, Waker};

use crate::gateway::Gateway;

/// Requests that wait in the channel, for each thread: enough that no thread goes idle between two
/// turns of the loop.
const QUEUED: usize = 32;
/// For how long a thread may serve one request after another while a woken one waits for the GIL:
/// less than the interpreter's switch interval (5 ms), after which it would lose the GIL in the
/// middle of a request, which would wait for all others then.
const TURN: Duration = Duration::from_millis(2);

/// Threads that are stuck in requests which were cut off.
#[derive(Default)]
struct Losses {
    /// Those whose place another thread has, or is about to have. Less than none for a moment, when
    /// one comes back before it is known to be lost.
    replaced: isize,
    /// Of these, those whose place is still empty.
    empty: usize,
    /// Those whose place stays empty until they come back.
    unreplaced: usize,
    /// There have been such: the worker is to leave.
    overwhelmed: bool,
}

impl Losses {
    /// Whether every one of so many threads is stuck.
    fn leave_none_of(&self, threads: usize) -> bool {
        self.unreplaced >= threads
    }
}

/// What the loop is to do about [`Losses`].
#[derive(Default)]
pub(crate) struct Help {
    /// Threads to be started in the places of those that are stuck.
    pub(crate) threads: usize,
    /// The worker is to leave.
    pub(crate) leave: bool,
}

type Waiters = HashMap<ConnId, Vec<Thread>, foldhash::fast::RandomState>;

/// The threads' side of a worker.
///
/// A thread takes a request only when it is attached to the interpreter, so that none is owned by a
/// thread that waits for the GIL while another one could serve it. Therefore threads are woken one
/// at a time: one that is awake and has not looked yet ([`woken`](Self::woken)) is enough, and it
/// wakes the next one if it leaves requests behind.
pub(crate) struct Pool {
    requests: Sender<Request>,
    queue: Receiver<Request>,
    /// One token wakes one thread.
    tokens: Sender<()>,
    wakes: Receiver<()>,
    /// Threads that sleep, and for whom no token is on its way.
    idle: AtomicUsize,
    /// A thread was woken, and has not looked for requests yet: it may wait for the GIL.
    woken: AtomicBool,
    /// A thread that is awake will look at once.
    looks_soon: AtomicBool,
    /// The channel was full: the loop is to be told when half of it is free.
    full: AtomicBool,
    /// Requests handed over that are not over yet.
    unfinished: AtomicUsize,
    threads: usize,
    losses: Mutex<Losses>,
    /// No request will follow.
    closed: AtomicBool,
    /// Threads that wait for a client: more than one for a connection where the application reads
    /// its body on one thread and answers on another.
    waiters: Mutex<Waiters>,
    waker: Waker,
}

impl Pool {
    pub(crate) fn new(threads: usize, waker: Waker) -> Self {
        let (requests, queue) = bounded(threads.saturating_mul(QUEUED));
        let (tokens, wakes) = bounded(threads);
        Self {
            requests,
            queue,
            tokens,
            wakes,
            idle: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            looks_soon: AtomicBool::new(false),
            full: AtomicBool::new(false),
            unfinished: AtomicUsize::new(0),
            threads,
            losses: Mutex::default(),
            closed: AtomicBool::new(false),
            waiters: Mutex::default(),
            waker,
        }
    }

    /// Sleeps until there may be a request; `false` when none will come any more. Not to be called
    /// attached.
    pub(crate) fn await_requests(&self) -> bool {
        self.looks_soon.store(false, SeqCst);
        self.idle.fetch_add(1, SeqCst);
        // One that came before this thread counted as idle has woken nobody, unless another one is
        // awake to look for it.
        let missed = || !self.queue.is_empty() && !self.woken.swap(true, SeqCst);
        if !((self.closed.load(SeqCst) || missed()) && self.claim_idle()) {
            // The pool holds the sender too: the channel does not end before its threads.
            let _ = self.wakes.recv();
        }
        !self.closed.load(SeqCst)
    }

    /// This thread is about to look for a [next](Self::next) request: nobody need be woken for one
    /// that comes until then.
    pub(crate) fn looks_soon(&self) {
        self.looks_soon.store(true, SeqCst);
    }

    /// The first request for a thread that has slept and is attached now.
    pub(crate) fn first(&self) -> Option<Request> {
        self.woken.store(false, SeqCst);
        self.next()
    }

    /// The next request, for a thread that has been attached since its `turn` began. `None` also
    /// where it is the turn of one that was woken, which would interrupt a request otherwise.
    pub(crate) fn following(&self, turn: Instant) -> Option<Request> {
        if self.woken.load(SeqCst) && turn.elapsed() >= TURN {
            return None;
        }
        self.next()
    }

    fn next(&self) -> Option<Request> {
        self.looks_soon.store(false, SeqCst);
        let request = self.queue.try_recv().ok()?;
        let left = self.queue.len();
        if left > 0 {
            self.wake_one();
        }
        if self.full.load(SeqCst) && left <= self.capacity() / 2 && self.full.swap(false, SeqCst) {
            self.waker.wake();
        }
        Some(request)
    }

    /// A request is over. While the worker leaves, the loop waits for the last one: whether it does
    /// is asked afterwards, when a loop that begins to leave sees that none is left.
    pub(crate) fn finished(&self, leaving: impl FnOnce() -> bool) {
        if self.unfinished.fetch_sub(1, SeqCst) == 1 && leaving() {
            self.waker.wake();
        }
    }

    /// A thread is stuck in a request that was cut off: the loop, which is woken, is to have
    /// another one take its place, or, where as many were replaced already as there are, to leave.
    pub(crate) fn lose(&self) {
        {
            let mut losses = self.losses();
            if losses.replaced < self.threads.cast_signed() {
                losses.replaced += 1;
                losses.empty += 1;
            } else {
                losses.unreplaced += 1;
                losses.overwhelmed = true;
            }
        }
        // Nobody waits for it any more.
        self.unfinished.fetch_sub(1, SeqCst);
        self.waker.wake();
    }

    /// A thread that was stuck has come back; says whether it is needed.
    pub(crate) fn found(&self) -> bool {
        let mut losses = self.losses();
        let needed = losses.unreplaced > 0;
        if needed {
            losses.unreplaced -= 1;
        } else {
            losses.replaced -= 1;
        }
        needed
    }

    /// A thread could not be started in the place of one that is stuck.
    pub(crate) fn do_without(&self) {
        let mut losses = self.losses();
        losses.replaced -= 1;
        losses.unreplaced += 1;
        losses.overwhelmed = true;
    }

    /// What is to be done, once.
    pub(crate) fn take_help(&self) -> Help {
        let mut losses = self.losses();
        Help {
            threads: std::mem::take(&mut losses.empty),
            leave: std::mem::take(&mut losses.overwhelmed),
        }
    }

    /// Whether the loop is to start threads, to leave, or to turn those away who wait for none.
    fn needs_help(&self) -> bool {
        let losses = self.losses();
        let is_lost = losses.leave_none_of(self.threads);
        losses.empty > 0 || losses.overwhelmed || (is_lost && !self.is_quiet())
    }

    /// Whether every thread is stuck.
    fn is_lost(&self) -> bool {
        self.losses().leave_none_of(self.threads)
    }

    fn losses(&self) -> MutexGuard<'_, Losses> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no request is with a thread, or waits for one.
    pub(crate) fn is_quiet(&self) -> bool {
        self.unfinished.load(SeqCst) == 0
    }

    /// Sends the threads home.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        while self.claim_idle() {
            // There is room for a token of each thread.
            let _ = self.tokens.try_send(());
        }
        for (_, threads) in self.waiters().drain() {
            threads.iter().for_each(Thread::unpark);
        }
    }

    /// This thread is about to wait for `id`. Called with the reactor locked, so that what it waits
    /// for cannot happen in between.
    pub(crate) fn expect(&self, id: ConnId) {
        self.waiters()
            .entry(id)
            .or_default()
            .push(thread::current());
    }

    /// Something has happened on `id`.
    pub(crate) fn tell(&self, id: ConnId) {
        let threads = self.waiters().remove(&id);
        threads.iter().flatten().for_each(Thread::unpark);
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn capacity(&self) -> usize {
        self.queue.capacity().unwrap_or(usize::MAX)
    }

    fn claim_idle(&self) -> bool {
        let claim = |idle: usize| idle.checked_sub(1);
        self.idle.fetch_update(SeqCst, SeqCst, claim).is_ok()
    }

    fn wake_one(&self) {
        while !self.looks_soon.load(SeqCst) && !self.woken.swap(true, SeqCst) {
            if self.claim_idle() {
                let _ = self.tokens.try_send(());
                return;
            }
            // All are busy: each looks for the next request when it has finished one.
            self.woken.store(false, SeqCst);
            // Unless, where threads run at the same time, one has gone to sleep meanwhile, and
            // whoever brought another request left it to this thread to wake it.
            if self.queue.is_empty() || self.idle.load(SeqCst) == 0 {
                return;
            }
        }
    }

    /// Hands a request to the threads, or gives it back where the channel is full.
    fn hand_over(&self, request: Request) -> Option<Request> {
        let refused = match self.requests.try_send(request) {
            Ok(()) => None,
            // The pool holds both ends: neither is ever disconnected.
            Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) => {
                // Said before the last try: a thread that makes room after it tells the loop.
                self.full.store(true, SeqCst);
                let again = self.requests.try_send(request);
                again.err().map(TrySendError::into_inner)
            }
        };
        if refused.is_none() {
            self.wake_one();
        }
        refused
    }
}

/// The loop's side: what was parsed and found no room in the channel.
#[derive(Default)]
pub(crate) struct Overflow {
    requests: VecDeque<Request>,
    holding: bool,
}

impl Overflow {
    fn push(&mut self, gateway: &Gateway, pool: &Pool, request: Request) {
        pool.unfinished.fetch_add(1, SeqCst);
        let refused = if self.requests.is_empty() {
            pool.hand_over(request)
        } else {
            Some(request)
        };
        let Some(request) = refused else { return };
        self.requests.push_back(request);
        if !self.holding {
            // What the channel does not take must not grow here: the clients wait.
            self.holding = true;
            gateway.reactor().hold();
        }
    }

    fn relieve(&mut self, gateway: &Gateway, pool: &Pool) {
        // Of an empty channel nobody takes anything that could be told.
        if !self.holding || (pool.full.load(SeqCst) && !pool.queue.is_empty()) {
            return;
        }
        while let Some(request) = self.requests.pop_front() {
            if let Some(request) = pool.hand_over(request) {
                self.requests.push_front(request);
                return;
            }
        }
        // If more wait than there is room for, those that have now come fill it: the thread that
        // takes one of them tells when there is room again.
        pool.full.store(true, SeqCst);
        if gateway
            .reactor()
            .release(pool.capacity() - pool.queue.len())
        {
            self.holding = false;
            pool.full.store(false, SeqCst);
        }
    }

    /// Answers those that wait for a thread where every one is stuck; gives them to be logged.
    pub(crate) fn turn_away(&mut self, gateway: &Gateway, pool: &Pool) -> Vec<Request> {
        let mut denied = Vec::new();
        while pool.is_lost() {
            let next = pool.queue.try_recv().ok();
            let Some(request) = next.or_else(|| self.requests.pop_front()) else {
                break;
            };
            let is_head = request.head.method() == b"HEAD";
            gateway.deny(&mut gateway.reactor(), request.id, is_head);
            pool.unfinished.fetch_sub(1, SeqCst);
            denied.push(request);
        }
        denied
    }

    /// Turns the loop, without the interpreter, until that is needed: for events that are not
    /// about requests on their way, which are returned, for a beat, for threads, or to leave.
    pub(crate) fn turn(&mut self, gateway: &Gateway, pool: &Pool) -> std::io::Result<Vec<Event>> {
        let mut news = Vec::new();
        let mut events = Vec::new();
        let comes_back =
            || pool.needs_help() || gateway.patience().is_zero() || gateway.is_finished();
        while news.is_empty() && !comes_back() {
            let patience = gateway.patience();
            let mut wait = gateway.reactor().prepare_wait(patience);
            wait.run()?;
            {
                let mut reactor = gateway.reactor();
                reactor.absorb(wait);
                while let Some(event) = reactor.poll() {
                    events.push(event);
                }
            }
            for event in events.drain(..) {
                match event {
                    Event::Request(request) => self.push(gateway, pool, request),
                    Event::BodyReady(id) | Event::Room(id) | Event::Gone(id) => pool.tell(id),
                    other => news.push(other),
                }
            }
            self.relieve(gateway, pool);
        }
        Ok(news)
    }
}
