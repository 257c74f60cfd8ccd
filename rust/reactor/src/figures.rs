//! What a worker has done and is doing, counted where its siblings can read it.
//!
//! Only a fleet with a status endpoint counts. Then a request costs one reading of the exact clock more,
//! and a few stores to a line of the cache that is the worker's own.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::event::ConnId;
use crate::reactor::Reactor;
use crate::scoreboard::Seat;
use crate::sys;

/// Places of requests in a worker that are followed: three for each of 256 threads. Those in further
/// ones are answered and counted, and not timed.
const PLACES: usize = 768;
/// Classes of status codes, from 1xx to 5xx.
const CLASSES: usize = 5;
/// Where the status code is in an answer (RFC 9112 section 4: the version before it has a fixed
/// length).
const CODE: usize = b"HTTP/1.1 ".len();

/// Upper bounds of a histogram's buckets but the last, in microseconds.
pub const BOUNDS: [u64; 12] = [
    1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// A number that one thread at a time changes, or, where that is said, several.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        // Not an addition that locks the line: nobody else writes.
        self.0.store(self.get().wrapping_add(count), Relaxed);
    }

    fn add_with_others(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How long something took, each time: how often at most as long as each of [`BOUNDS`] and longer
/// than the one before, or longer than all; and all together, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Histogram<N> {
    /// How often.
    pub buckets: [N; BOUNDS.len() + 1],
    /// Microseconds.
    pub sum: N,
}

impl Histogram<Counter> {
    fn add(&self, time: u64, alone: bool) {
        let longer = |bound: &u64| time <= *bound;
        let bucket = BOUNDS.iter().position(longer).unwrap_or(BOUNDS.len());
        if alone {
            self.buckets[bucket].add(1);
            self.sum.add(time);
        } else {
            self.buckets[bucket].add_with_others(1);
            self.sum.add_with_others(time);
        }
    }
}

/// What only grows: as shared memory, or as read from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Totals<N> {
    /// Answers by the class of their status, from 1xx to 5xx. A connection that the application has
    /// taken over counts as 1xx.
    pub answers: [N; CLASSES],
    /// From the application's call to the end of its `close()`.
    pub duration: Histogram<N>,
    /// From the moment when a request could be handed over to the application's call.
    pub queue: Histogram<N>,
    /// Octets from clients.
    pub received: N,
    /// Octets that the kernel took for them.
    pub sent: N,
    /// Connections.
    pub accepted: N,
    /// Requests that were answered with 503 because they had waited for too long.
    pub shed: N,
    /// Requests whose clients had gone before the application was called for them.
    pub abandoned: N,
}

impl<N> Totals<N> {
    fn all(&self) -> impl Iterator<Item = &N> {
        let histograms = [&self.duration, &self.queue];
        let of_histograms = histograms
            .into_iter()
            .flat_map(|it| it.buckets.iter().chain([&it.sum]));
        let others = [
            &self.received,
            &self.sent,
            &self.accepted,
            &self.shed,
            &self.abandoned,
        ];
        self.answers.iter().chain(of_histograms).chain(others)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut N> {
        let histograms = [&mut self.duration, &mut self.queue];
        let of_histograms = histograms
            .into_iter()
            .flat_map(|it| it.buckets.iter_mut().chain([&mut it.sum]));
        let others = [
            &mut self.received,
            &mut self.sent,
            &mut self.accepted,
            &mut self.shed,
            &mut self.abandoned,
        ];
        self.answers.iter_mut().chain(of_histograms).chain(others)
    }
}

impl Totals<Counter> {
    /// Adds them to a sum.
    pub(crate) fn add_to(&self, sum: &mut Totals<u64>) {
        for (sum, counter) in sum.all_mut().zip(self.all()) {
            *sum += counter.get();
        }
    }

    /// Moves them over to `others`, which nobody else changes.
    pub(crate) fn move_to(&self, others: &Self) {
        for (other, counter) in others.all().zip(self.all()) {
            other.add(counter.get());
            counter.set(0);
        }
    }
}

/// The figures of one worker. All zeros at first.
#[repr(C, align(128))]
pub(crate) struct Figures {
    /// 0 while the slot is nobody's, or its worker has not begun.
    pid: Counter,
    /// When its heart has beaten last, in milliseconds since the machine began.
    beaten_at: Counter,
    /// That call its application.
    threads: Counter,
    /// Open connections, and those of them that wait for a request.
    open: Counter,
    idle: Counter,
    pub(crate) totals: Totals<Counter>,
    /// The busiest that it was seen, in microseconds: a request that ends while its worker is looked
    /// at may be counted twice, and what is shown must not go back.
    busy_shown: AtomicU64,
    /// When the request in each place began, in microseconds since the machine began; 0 for none.
    begun: [Counter; PLACES],
}

/// What a worker is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// The process.
    pub pid: u32,
    /// Milliseconds since it was forked, and since its heart has beaten.
    pub age: u64,
    /// As `age`.
    pub silent: u64,
    /// Open connections on which a request is, or an answer, or an end.
    pub active: u64,
    /// Open connections that wait for a request.
    pub idle: u64,
    /// Requests that are with the application, of at least 256 threads.
    pub in_flight: u64,
    /// For how long the oldest of them has been, in microseconds.
    pub oldest: Option<u64>,
    /// Answers by the class of their status.
    pub answers: [u64; CLASSES],
    /// Microseconds that the application has had requests, those in flight included; all threads
    /// together.
    pub busy: u64,
}

impl Figures {
    /// What its worker is doing, which was forked at this time; `None` while there is none.
    pub(crate) fn doing(&self, forked_at: u64) -> Option<Doing> {
        let pid = u32::try_from(self.pid.get()).ok().filter(|pid| *pid != 0)?;
        let now = sys::monotonic_micros();
        let since = |at: u64| (now / 1000).saturating_sub(at);
        let ages = self.begun.iter().map(Counter::get).filter(|at| *at != 0);
        let ages: Vec<u64> = ages.map(|at| now.saturating_sub(at)).collect();
        let idle = self.idle.get();
        let busy = self.totals.duration.sum.get() + ages.iter().sum::<u64>();
        let busy = self.busy_shown.fetch_max(busy, Relaxed).max(busy);
        Some(Doing {
            pid,
            age: since(forked_at),
            silent: since(self.beaten_at.get()),
            active: self.open.get().saturating_sub(idle),
            idle,
            in_flight: ages.len() as u64,
            oldest: ages.iter().max().copied(),
            answers: self.totals.answers.each_ref().map(Counter::get),
            busy,
        })
    }

    /// Whether there is nothing: no worker has introduced itself.
    pub(crate) fn are_new(&self) -> bool {
        self.pid.get() == 0
    }

    /// What of a worker that has ended is not in its totals.
    pub(crate) fn forget(&self) {
        for counter in [&self.pid, &self.beaten_at, &self.open, &self.idle] {
            counter.set(0);
        }
        self.busy_shown.store(0, Relaxed);
        for place in &self.begun {
            place.set(0);
        }
    }
}

impl Seat {
    /// The worker has begun: its siblings can name it.
    pub fn introduce(self) {
        self.figures().pid.set(u64::from(std::process::id()));
    }

    /// The counting of this worker, whose application is called on so many `threads`.
    pub fn tally(self, threads: usize) -> Tally {
        // Again, where the seat was another's meanwhile and the endpoint has stayed.
        self.introduce();
        let figures = self.figures();
        figures.threads.set(threads as u64);
        let tally = Tally { figures };
        tally.beat();
        tally
    }
}

/// A worker's own hand on its figures. But for requests, which threads begin and end, and the heart,
/// only one thread at a time counts: the one that has the reactor.
#[derive(Clone, Copy)]
pub struct Tally {
    figures: &'static Figures,
}

impl Tally {
    /// The heart beats.
    pub fn beat(self) {
        self.figures.beaten_at.set(sys::monotonic());
    }

    /// The application gets a request in the place of this number, which could be handed over at
    /// `ready`; says when that is. Both are milliseconds since the machine began.
    pub(crate) fn begin(self, place: usize, ready: u64) -> u64 {
        let now = sys::monotonic_micros();
        if let Some(begun) = self.figures.begun.get(place) {
            begun.set(now);
        }
        let begun = now / 1000;
        let waited = begun.saturating_sub(ready);
        self.figures
            .totals
            .queue
            .add(waited * 1000, self.is_alone());
        begun
    }

    /// Whether one thread serves all requests.
    fn is_alone(self) -> bool {
        self.figures.threads.get() <= 1
    }

    /// That request is over.
    pub(crate) fn end(self, place: usize) {
        if let Some(begun) = self.figures.begun.get(place) {
            let took = sys::monotonic_micros().saturating_sub(begun.get());
            begun.set(0);
            self.figures.totals.duration.add(took, self.is_alone());
        }
    }

    /// An answer begins with these octets.
    pub(crate) fn answer(self, head: &[u8]) {
        let class = head.get(CODE).map_or(0, |digit| digit.wrapping_sub(b'1'));
        if let Some(counter) = self.figures.totals.answers.get(usize::from(class)) {
            counter.add(1);
        }
    }

    pub(crate) fn received(self, octets: usize) {
        self.figures.totals.received.add(octets as u64);
    }

    pub(crate) fn sent(self, octets: u64) {
        self.figures.totals.sent.add(octets);
    }

    pub(crate) fn accepted(self) {
        self.figures.totals.accepted.add(1);
    }

    pub(crate) fn shed(self) {
        self.figures.totals.shed.add(1);
    }

    pub(crate) fn abandoned(self) {
        self.figures.totals.abandoned.add(1);
    }

    /// So many more connections are open.
    pub(crate) fn open(self, more: i64) {
        self.figures.open.add(more.cast_unsigned());
    }

    /// So many more of them wait for a request.
    pub(crate) fn idle(self, more: i64) {
        self.figures.idle.add(more.cast_unsigned());
    }
}

impl Reactor {
    /// What is done is counted from now on.
    pub fn count(&mut self, tally: Tally) {
        self.tally = Some(tally);
    }

    /// An answer of the caller's on `id` begins with these octets.
    pub fn count_answer(&mut self, id: ConnId, octets: &[u8]) {
        if let Some(tally) = self.tally
            && self.client(id).is_some()
        {
            tally.answer(octets);
        }
    }
}
