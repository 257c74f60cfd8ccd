//! Whose patience has run out.

use std::time::Duration;

use meinheld_protocol::Awaits;

use crate::client::{NEVER, Phase};
use crate::clock::Tick;
use crate::event::{ConnId, Event, Rejection};
use crate::reactor::Reactor;
use crate::sys;
use crate::timers::TimerKey;

/// Octets a second, on average, below which a body or an answer is given up once the patience for
/// it is used up: slower than any link that carries HTTP.
const SLOWEST: u64 = 128;
/// Timers that count no more and are not worth a sweep.
const STALE_TIMERS: usize = 4096;

/// Milliseconds that `octets` take at the slowest rate that is served.
pub(crate) fn bought(octets: u64) -> Tick {
    octets.saturating_mul(1000) / SLOWEST
}

impl Reactor {
    /// Waits for this connection's client until `patience` has passed.
    pub(crate) fn set_deadline(&mut self, id: ConnId, patience: Duration) {
        let at = self.clock.after(patience);
        self.set_deadline_at(id, at);
    }

    pub(crate) fn set_deadline_at(&mut self, id: ConnId, at: Tick) {
        let Some(client) = self.client(id) else {
            return;
        };
        client.deadline = at;
        if at < client.scheduled {
            client.scheduled = at;
            self.schedule(at, TimerKey::Client(id));
            self.sweep_timers();
        }
    }

    /// Gives a client that has just sent or taken `octets` more time: as much as they take at the
    /// slowest rate that is served, up to its full patience. So one that trickles runs out of time,
    /// however regular it is.
    pub(crate) fn credit(&mut self, id: ConnId, octets: u64, patience: Duration) {
        let full = self.clock.after(patience);
        if let Some(client) = self.client(id) {
            let at = full.min(client.deadline.saturating_add(bought(octets)));
            self.set_deadline_at(id, at);
        }
    }

    /// Drops the timers of connections that are gone and those that were cancelled, once they are the
    /// greater part: short connections would leave one each until their first deadline.
    pub(crate) fn sweep_timers(&mut self) {
        let counting = self.clients.len() + self.timers.wanted();
        if self.timers.len() <= 2 * counting + STALE_TIMERS {
            return;
        }
        let clients = &self.clients;
        self.timers.retain(|at, id| {
            clients
                .get(id.index as usize)
                .is_some_and(|client| client.generation == id.generation && client.scheduled == at)
        });
    }

    pub(crate) fn clear_deadline(&mut self, id: ConnId) {
        if let Some(client) = self.client(id) {
            client.deadline = NEVER;
        }
    }

    pub(crate) fn expire(&mut self) {
        let now = self.clock.now();
        while let Some((at, key)) = self.timers.pop_due(now) {
            match key {
                TimerKey::Accept => self.resume_accepting(),
                TimerKey::User(id) if self.timers.is_wanted(id) => self.emit(Event::Timer(id)),
                TimerKey::User(_) => {}
                TimerKey::Client(id) => self.client_timer(id, at, now),
            }
        }
    }

    fn client_timer(&mut self, id: ConnId, at: Tick, now: Tick) {
        let Some(client) = self.client(id) else {
            return;
        };
        if client.scheduled != at {
            // An earlier timer was set since, and has taken this one's place.
            return;
        }
        client.scheduled = NEVER;
        if client.deadline <= now {
            self.give_up(id);
        } else if client.deadline != NEVER {
            let deadline = client.deadline;
            self.set_deadline_at(id, deadline);
        }
    }

    /// A client that reads slowly makes no room in a large send buffer for a long time, but what is
    /// in the buffer becomes less.
    fn give_up_reader(&mut self, id: ConnId) {
        let send = self.options.timeouts.send;
        let Some(client) = self.client(id) else {
            return;
        };
        let unsent = sys::unsent(&client.transport);
        let taken = client.unsent.saturating_sub(unsent);
        client.unsent = unsent;
        if taken > 0 {
            self.credit(id, taken, send);
        }
        let now = self.clock.now();
        if self.client(id).is_some_and(|client| client.deadline <= now) {
            // It must not believe that this was all.
            self.vanish(id, true);
        }
    }

    fn give_up(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else {
            return;
        };
        let awaited = client.is_awaited();
        match client.phase {
            Phase::Receiving => self.give_up_sender(id),
            Phase::Answering if awaited => self.give_up_body(id),
            Phase::Answering | Phase::Flushing { .. } => self.give_up_reader(id),
            Phase::Discarding { .. } | Phase::Lingering { .. } => self.drop_client(id),
        }
    }

    /// What lies in the kernel came in time: a worker that stood still, or was busy, has not read
    /// it yet.
    fn give_up_sender(&mut self, id: ConnId) {
        while self.is_late(id) {
            let held = self.client(id).map(|client| client.input.len());
            self.read_ready(id, false);
            if held == self.client(id).map(|client| client.input.len()) {
                break;
            }
        }
        if !self.is_late(id) {
            return;
        }
        match self.client(id) {
            Some(client) if client.is_idle() => self.retire(id),
            Some(client) if client.protocol.awaits() == Awaits::Body => {
                self.reject(id, Rejection::Timeout("body"));
            }
            _ => self.reject(id, Rejection::Timeout("head")),
        }
    }

    /// Whether the time for what a client is sending is over.
    fn is_late(&mut self, id: ConnId) -> bool {
        let now = self.clock.now();
        self.client(id)
            .is_some_and(|client| client.phase == Phase::Receiving && client.deadline <= now)
    }
}
