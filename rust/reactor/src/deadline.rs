//! Whose patience has run out.

use std::time::Duration;

use meinheld_protocol::Awaits;

use crate::client::{NEVER, Phase};
use crate::clock::Tick;
use crate::event::{ConnId, Event, Rejection};
use crate::reactor::Reactor;
use crate::timers::TimerKey;

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
            self.timers.insert(at, TimerKey::Client(id));
        }
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
                TimerKey::User(id) => self.queue.push_back(Event::Timer(id)),
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

    fn give_up(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else {
            return;
        };
        match (client.phase, client.protocol.awaits()) {
            (Phase::Receiving, Awaits::Idle) => self.retire(id),
            (Phase::Receiving, Awaits::Head) => self.reject(id, Rejection::Timeout("head")),
            (Phase::Receiving, Awaits::Body) => self.reject(id, Rejection::Timeout("body")),
            // The client takes no more of its answer: it must not believe that this was all.
            (Phase::Answering | Phase::Flushing { .. }, _) => self.vanish(id, true),
            (Phase::Lingering { .. }, _) | (Phase::Receiving, Awaits::Nothing) => {
                self.drop_client(id);
            }
        }
    }
}
