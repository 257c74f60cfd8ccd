//! Answers that leave together.
//!
//! To hand a small answer to the kernel wakes its reader, which costs about as much as making it, and
//! drives the application out of the processor's caches. So answers wait for each other, those to one
//! client that pipelines for one write, those to several while one short call follows another;
//! they leave when no request is at hand, when the kernel's clock has moved, or, as
//! [`Reactor::relieve`] sees from another thread, when a call takes long. Only whole answers to safe
//! requests (RFC 9110 9.2.1) wait: should the process die meanwhile, their clients may ask again.
//!
//! The last answer of a connection leaves with the FIN.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::answer::Progress;
use crate::client::Phase;
use crate::clock::Tick;
use crate::event::{ConnId, Event};
use crate::reactor::Reactor;

/// Octets of the longest answer that waits: a longer one is worth a write of its own.
const LONGEST: usize = 16 * 1024;
/// Octets that wait at once.
const AT_ONCE: usize = 64 * 1024;
/// Requests that are timed together: reading the exact time costs something.
const TIMED: u32 = 16;
/// How long so many take where answers wait: after longer ones waking a reader costs little, and during
/// shorter ones it stays awake.
const BUSY: RangeInclusive<Duration> = Duration::from_micros(160)..=Duration::from_micros(4800);
/// For how many milliseconds after a long call no answer waits for the next one, which may be as long.
const WARY: Tick = 100;

/// What waits for the next answer.
#[derive(Default)]
pub(crate) struct Together {
    /// One behind the other.
    octets: Vec<u8>,
    /// Whose they are, and where each answer ends.
    answers: Vec<(ConnId, usize)>,
    /// Since when the first of them waits.
    since: Tick,
    /// Until then nothing is to wait.
    wary_until: Tick,
    /// Something has waited since somebody looked.
    waited: bool,
    /// Requests yielded since the time was read, and when that was.
    calls: u32,
    timed: Option<Instant>,
    /// Calls that are short, but not too short, follow one another.
    busy: bool,
    /// None of them was yielded since somebody looked.
    same_call: bool,
}

impl Together {
    /// An event is yielded: a request, nearly always.
    pub(crate) fn call(&mut self) {
        self.same_call = false;
        self.calls += 1;
        if self.calls == TIMED {
            self.calls = 0;
            let now = Instant::now();
            let before = self.timed.replace(now);
            self.busy = before.is_some_and(|before| BUSY.contains(&now.duration_since(before)));
        }
    }

    fn add(&mut self, id: ConnId, whole: &[u8], now: Tick) {
        if self.answers.is_empty() {
            self.since = now;
            self.waited = true;
        }
        self.octets.extend_from_slice(whole);
        let end = self.octets.len();
        match self.answers.last_mut() {
            Some((of, until)) if *of == id => *until = end,
            _ => self.answers.push((id, end)),
        }
    }
}

impl Reactor {
    /// Sends the whole of an answer, or its end, and [finishes](Self::finish) it. For its
    /// [date](Self::date) the clock has just been looked at.
    pub fn answer(&mut self, id: ConnId, octets: &[u8], persists: bool) -> Progress {
        let progress = if persists {
            self.write_end(id, octets)
        } else {
            self.write_last(id, octets)
        };
        if progress != Progress::Gone {
            self.finish_at_last_look(id, persists);
        }
        progress
    }

    /// Writes the end of an answer on a connection that persists: at once, or soon.
    pub fn write_end(&mut self, id: ConnId, octets: &[u8]) -> Progress {
        if octets.is_empty() {
            return Progress::Accepted;
        }
        if self.together.octets.len() + octets.len() > AT_ONCE {
            self.part();
        }
        let may_wait = self.may_wait(id);
        match self.client(id) {
            Some(client) if octets.len() <= LONGEST && (may_wait || client.waits) => {
                client.waits = true;
                self.together.add(id, octets, self.clock.now());
            }
            _ => return self.write(id, &[octets]),
        }
        match may_wait {
            true => Progress::Accepted,
            // With what waited, in one write.
            false => self.flush(id),
        }
    }

    fn may_wait(&mut self, id: ConnId) -> bool {
        if self.clock.now() < self.together.wary_until {
            return false;
        }
        let others = self.together.busy && matches!(self.queue.front(), Some(Event::Request(_)));
        self.client(id).is_some_and(|client| {
            client.phase == Phase::Answering
                && client.safe
                && client.protocol.request_complete()
                && client.outbox.is_empty()
                && ((others && !client.waits && !client.half_closed) || client.pipelines())
        })
    }

    fn write_last(&mut self, id: ConnId, whole: &[u8]) -> Progress {
        self.send_waiting(id);
        let Some(client) = self.client(id) else {
            return Progress::Gone;
        };
        if !client.outbox.is_empty() {
            return self.write(id, &[whole]);
        }
        let written = client.transport.write_more(whole);
        if let (Some(tally), Ok(taken)) = (self.tally, &written) {
            tally.sent(*taken as u64);
        }
        match written {
            Ok(taken) if taken == whole.len() => Progress::Accepted,
            Ok(taken) => self.write(id, &[&whole[taken..]]),
            Err(_) => {
                self.vanish(id, true);
                Progress::Gone
            }
        }
    }

    /// Puts a request where it is yielded: before all others if an answer to its client waits.
    pub(crate) fn enqueue(&mut self, id: ConnId, request: Event) {
        if self.client(id).is_some_and(|client| client.waits) {
            self.queue.push_front(request);
            self.rouse();
        } else {
            self.emit(request);
        }
    }

    /// Before the next event is yielded: answers go on waiting only if that is a request, and the
    /// clock has not moved.
    pub(crate) fn keep_together(&mut self) {
        let next = matches!(self.queue.front(), Some(Event::Request(_)));
        if self.has_waiting() && !(next && self.clock.now() == self.together.since) {
            self.part();
        }
    }

    /// Whether an answer waits, which is to be [relieved](Self::relieve) if a call takes long.
    pub fn has_waiting(&self) -> bool {
        !self.together.answers.is_empty()
    }

    /// Sends the answers that wait behind a call that was going on already when this was last called;
    /// for a while none waits then. To be called every few milliseconds while answers wait, from
    /// another thread; says whether any has waited since it was called last.
    pub fn relieve(&mut self) -> bool {
        let same_call = std::mem::replace(&mut self.together.same_call, true);
        if same_call && self.has_waiting() {
            self.clock.advance();
            self.together.wary_until = self.clock.now().saturating_add(WARY);
            self.part();
        }
        std::mem::take(&mut self.together.waited)
    }

    /// Lets no answer wait any more: nobody can [relieve](Self::relieve) them.
    pub fn keep_apart(&mut self) {
        self.together.wary_until = Tick::MAX;
        self.part();
    }

    /// Sends what waits. A client whose request is the next gives way to others.
    pub(crate) fn part(&mut self) {
        let Some((last, _)) = self.together.answers.last().copied() else {
            return;
        };
        if matches!(self.queue.front(), Some(Event::Request(next)) if next.id == last) {
            self.queue.rotate_left(1);
        }
        let mut answers = std::mem::take(&mut self.together.answers);
        let mut octets = std::mem::take(&mut self.together.octets);
        let mut start = 0;
        for (id, end) in answers.drain(..) {
            if let Some(client) = self.client(id) {
                client.waits = false;
                if self.write(id, &[&octets[start..end]]) == Progress::Pending {
                    self.unfinish(id);
                }
            }
            start = end;
        }
        octets.clear();
        self.together.answers = answers;
        self.together.octets = octets;
    }

    /// The kernel did not take all of an answer that was finished when it began to wait: only once
    /// it has is the connection idle.
    fn unfinish(&mut self, id: ConnId) {
        let Some(client) = self.client(id).filter(|client| client.is_idle()) else {
            return;
        };
        client.phase = Phase::Flushing { keep: true };
        self.settle_idle(id);
        self.await_reader(id);
        self.update_interest(id);
    }

    /// Sends what waits on this connection, before something else is done with it.
    pub(crate) fn send_waiting(&mut self, id: ConnId) {
        if self.client(id).is_some_and(|client| client.waits) {
            self.part();
        }
    }
}
