//! The reactor itself: what it owns, and one turn of it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use meinheld_protocol::encode::DATE;
use meinheld_protocol::{Head, HeadPool};
use slab::Slab;

use crate::accept::{Accepting, Listener};
use crate::client::{Client, Phase};
use crate::clock::{Clock, Tick};
use crate::drain::Lifecycle;
use crate::event::{ConnId, Event, TimerId};
use crate::figures::Tally;
use crate::foreign::Foreign;
use crate::idle::IdleList;
use crate::options::Options;
use crate::scoreboard::Seat;
use crate::selector::{GENERATIONS, Readiness, Selector, Token, Wait};
use crate::shed::TurnedAway;
use crate::spool::Spooling;
use crate::timers::{TimerKey, Timers};
use crate::together::Together;
use crate::waker::Waker;

/// Octets of a receive buffer: a browser's head fits many times, and 64 of them are 1 MiB.
pub(crate) const BUFFER: usize = 16 * 1024;
/// Receive buffers kept for reuse.
const POOLED: usize = 64;

/// The event loop's lower half. See the [crate] for how it is driven.
pub struct Reactor {
    pub(crate) options: Options,
    pub(crate) spooling: Spooling,
    pub(crate) selector: Arc<Selector>,
    pub(crate) clock: Clock,
    pub(crate) timers: Timers,
    pub(crate) clients: Slab<Client>,
    generation: u32,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) accepting: Accepting,
    /// When accepting goes on after standing back.
    pub(crate) back_at: Tick,
    /// Where the sibling workers see this one's load.
    pub(crate) seat: Option<Seat>,
    /// Where what is done is counted.
    pub(crate) tally: Option<Tally>,
    pub(crate) queue: VecDeque<Event>,
    pub(crate) heads: HeadPool,
    pool: Vec<Vec<u8>>,
    pub(crate) foreign: Slab<Foreign>,
    /// When the present wait ends by itself; `None` while nobody waits, or a wake-up is on its way.
    pub(crate) asleep_until: Option<Tick>,
    /// No request is to begin.
    pub(crate) held: bool,
    /// Connections that have sent something meanwhile.
    pub(crate) held_back: VecDeque<ConnId>,
    pub(crate) lifecycle: Lifecycle,
    /// Clients wait to be accepted, and the worker is full.
    pub(crate) crowded: bool,
    /// Accepting has failed, and not succeeded since.
    pub(crate) exhausted: bool,
    /// Connections that wait for a next request.
    pub(crate) idle: IdleList,
    /// Connections that were handed over before they were watched: most are answered and gone
    /// before it would matter.
    pub(crate) unwatched: Vec<ConnId>,
    /// Connections on which a request came after they had been closed for a drain.
    pub(crate) late: u64,
    /// Requests that the caller will not see.
    pub(crate) turned_away: TurnedAway,
    /// Counts events that were yielded; wraps.
    pub(crate) yielded: u32,
    /// As much when the sockets were looked at last.
    pub(crate) yielded_when_seen: u32,
    pub(crate) together: Together,
    wait_storage: Vec<(Token, Readiness)>,
}

impl Reactor {
    /// A reactor that watches nothing yet.
    ///
    /// # Errors
    ///
    /// When the process has no descriptors left.
    pub fn new(options: Options) -> io::Result<Self> {
        let selector = Arc::new(Selector::new()?);
        let spooling = Spooling {
            memory: options.body_memory,
            folder: options.body_folder.clone(),
        };
        Ok(Self {
            options,
            spooling,
            selector,
            clock: Clock::new(),
            timers: Timers::default(),
            clients: Slab::new(),
            generation: 0,
            listeners: Vec::new(),
            accepting: Accepting::Idle,
            back_at: 0,
            seat: None,
            tally: None,
            queue: VecDeque::new(),
            heads: HeadPool::default(),
            pool: Vec::new(),
            foreign: Slab::new(),
            asleep_until: None,
            held: false,
            held_back: VecDeque::new(),
            lifecycle: Lifecycle::Serving,
            crowded: false,
            exhausted: false,
            idle: IdleList::default(),
            unwatched: Vec::new(),
            late: 0,
            turned_away: TurnedAway::default(),
            yielded: 0,
            yielded_when_seen: 0,
            together: Together::default(),
            wait_storage: Vec::new(),
        })
    }

    /// The next thing that happened; `None` when it is time to wait.
    pub fn poll(&mut self) -> Option<Event> {
        self.keep_together();
        loop {
            match self.queue.pop_front()? {
                // Taken already.
                Event::Foreign(id, _) if !self.take_foreign(id) => {}
                // Cancelled since.
                Event::Timer(id) if !self.timers.cancel(id) => {}
                // Its client may have left meanwhile.
                Event::Request(request)
                    if self.has_waited(&request) || self.client(request.id).is_none() =>
                {
                    if let Some(mut event) = self.still_wanted(request) {
                        self.hand_out(&mut event);
                        return Some(event);
                    }
                }
                mut event => {
                    self.hand_out(&mut event);
                    return Some(event);
                }
            }
        }
    }

    #[inline]
    fn hand_out(&mut self, event: &mut Event) {
        if let Event::Request(request) = event {
            request.started = self.clock.uptime();
        }
        self.together.call();
        self.yielded = self.yielded.wrapping_add(1);
    }

    /// How many events [`poll`](Self::poll) would yield now. Answering this many and then looking
    /// at the sockets again keeps one busy client from starving the others.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// The next wait, of at most `limit`: it does not sleep while events are pending.
    pub fn prepare_wait(&mut self, limit: Duration) -> Wait {
        let limit = if self.queue.is_empty() {
            limit
        } else {
            Duration::ZERO
        };
        self.prepare_io_wait(limit)
    }

    /// The next wait of a caller that will leave pending events where they are, because it only
    /// waits for [room](Self::want_room) in one answer.
    pub fn prepare_io_wait(&mut self, limit: Duration) -> Wait {
        self.part();
        self.adjust_accepting();
        self.watch_unanswered();
        let timeout = match self.timers.next() {
            // The clock is coarse: one tick more, or a wait would end just before its timer.
            Some(at) => {
                let ticks = at.saturating_sub(self.clock.now()).saturating_add(1);
                limit.min(Duration::from_millis(ticks))
            }
            None => limit,
        };
        self.asleep_until = (!timeout.is_zero()).then(|| self.clock.after(timeout));
        self.show_work(timeout.is_zero());
        let storage = std::mem::take(&mut self.wait_storage);
        Wait::new(Arc::clone(&self.selector), timeout, storage)
    }

    /// Takes in what a wait brought: accepts, receives, sends, expires. What comes of it is
    /// yielded by [`poll`](Self::poll).
    pub fn absorb(&mut self, wait: Wait) {
        self.asleep_until = None;
        self.clock.advance();
        self.yielded_when_seen = self.yielded;
        self.show_work(true);
        let mut ready = wait.into_ready();
        for (token, readiness) in ready.drain(..) {
            match token {
                Token::Client(id) => self.client_ready(id, readiness),
                Token::Listener(index) => self.accept_burst(index as usize),
                Token::Foreign(id) => self.report_foreign(id, readiness),
                Token::Waker => self.selector.quiet_waker(),
            }
        }
        self.wait_storage = ready;
        self.expire();
    }

    /// A client whose answer takes longer than a turn is watched for leaving.
    fn watch_unanswered(&mut self) {
        while let Some(id) = self.unwatched.pop() {
            if self
                .client(id)
                .is_some_and(|client| client.phase == Phase::Answering)
            {
                self.update_interest(id);
            }
        }
    }

    fn client_ready(&mut self, id: ConnId, readiness: Readiness) {
        if readiness.writable {
            self.flush(id);
        }
        if !readiness.readable {
            return;
        }
        if !self.hold_back(id) {
            self.read_ready(id, readiness.hangup);
        } else if readiness.hangup {
            self.vanish(id, false);
        }
    }

    /// What ends a wait from another thread. A thread that shares the reactor under a lock needs it
    /// only for what the reactor cannot know: an operation that brings about an event, or an
    /// earlier timer, ends the wait by itself.
    pub fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.selector))
    }

    /// Puts an event where [`poll`](Self::poll) finds it.
    pub(crate) fn emit(&mut self, event: Event) {
        self.queue.push_back(event);
        self.rouse();
    }

    /// Ends the present wait, if another thread waits: there is something to look at.
    pub(crate) fn rouse(&mut self) {
        if self.asleep_until.take().is_some() {
            self.selector.wake();
        }
    }

    /// Sets a timer, for which the present wait is cut short where it would come too late.
    pub(crate) fn schedule(&mut self, at: Tick, key: TimerKey) {
        self.timers.insert(at, key);
        if self.asleep_until.is_some_and(|until| at < until) {
            self.rouse();
        }
    }

    /// For how many milliseconds the reactor has been there, give or take a few.
    pub fn uptime(&mut self) -> u64 {
        self.clock.glance();
        self.clock.now()
    }

    /// As [`uptime`](Self::uptime) was when the clock was last looked at.
    pub fn last_look(&self) -> u64 {
        self.clock.now()
    }

    /// Open connections, lingering ones included.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// The date for a Date field.
    pub fn date(&mut self) -> [u8; DATE] {
        // The caller may have been busy since the last turn.
        self.clock.glance();
        self.clock.date()
    }

    /// Forgets the header sections that no client has repeated since this was called last.
    pub fn forget_unused(&mut self) {
        self.heads.forget_unused();
    }

    /// Takes back a head that [`Event::Request`] gave, so that the next one allocates nothing.
    pub fn recycle(&mut self, head: Box<Head>) {
        self.heads.give_back(head);
    }

    /// Sets a timer: [`Event::Timer`] comes once, not before `delay` has passed.
    pub fn set_timer(&mut self, delay: Duration) -> TimerId {
        self.clock.advance();
        let id = self.timers.name();
        let at = self.clock.after(delay).saturating_add(1);
        self.schedule(at, TimerKey::User(id));
        id
    }

    /// Takes a timer back: its event will not come.
    pub fn cancel_timer(&mut self, id: TimerId) {
        if self.timers.cancel(id) {
            self.sweep_timers();
        }
    }

    pub(crate) fn next_generation(&mut self) -> u32 {
        self.generation = (self.generation + 1) % GENERATIONS;
        self.generation
    }

    pub(crate) fn client(&mut self, id: ConnId) -> Option<&mut Client> {
        self.clients
            .get_mut(id.index as usize)
            .filter(|client| client.generation == id.generation)
    }

    pub(crate) fn lend_buffer(&mut self) -> Vec<u8> {
        self.pool.pop().unwrap_or_else(|| vec![0; BUFFER])
    }

    pub(crate) fn return_buffer(&mut self, storage: Vec<u8>) {
        if self.pool.len() < POOLED && storage.len() == BUFFER {
            self.pool.push(storage);
        }
    }
}
