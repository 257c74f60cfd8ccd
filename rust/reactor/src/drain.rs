//! How a worker leaves: it loses no request that has reached it.

use crate::client::Phase;
use crate::event::ConnId;
use crate::reactor::Reactor;

/// Where a worker is between its first and its last connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifecycle {
    /// Connections are accepted.
    Serving,
    /// The worker was told to go: what waits to be accepted is taken in a last time, because
    /// nobody may come to serve it.
    HandingOver,
    /// Nothing is accepted; what is there is answered, and closed.
    Draining,
    /// No connection is left.
    Gone,
}

impl Reactor {
    /// Where the worker is.
    pub fn lifecycle(&self) -> Lifecycle {
        if self.lifecycle == Lifecycle::Draining && self.clients.is_empty() && self.queue.is_empty()
        {
            return Lifecycle::Gone;
        }
        self.lifecycle
    }

    /// Stops accepting and begins to leave. With `sweep`, connections that wait in the backlog
    /// are taken first, for when no sibling will. Idle connections get `drain_idle` to send the
    /// request that may be on its way.
    pub fn drain(&mut self, sweep: bool) {
        if self.lifecycle != Lifecycle::Serving {
            return;
        }
        self.clock.advance();
        if sweep {
            self.lifecycle = Lifecycle::HandingOver;
            self.sweep_backlog();
        }
        self.lifecycle = Lifecycle::Draining;
        self.close_listeners();
        self.hasten_idle();
    }

    fn sweep_backlog(&mut self) {
        for listener in 0..self.listeners.len() {
            while self.clients.len() < self.options.max_connections && self.accept_one(listener) {}
        }
    }

    fn hasten_idle(&mut self) {
        let at = self.clock.after(self.options.timeouts.drain_idle);
        let waiting: Vec<ConnId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.is_idle() && !client.held && client.deadline > at)
            .map(|(index, client)| client.id(index))
            .collect();
        for id in waiting {
            self.set_deadline_at(id, at);
        }
        self.rouse();
    }

    /// Closes what is left at once, answered or not.
    pub fn end(&mut self) {
        self.lifecycle = Lifecycle::Draining;
        self.part();
        self.close_listeners();
        self.queue.clear();
        let all: Vec<ConnId> = self
            .clients
            .iter()
            .map(|(index, client)| client.id(index))
            .collect();
        for id in all {
            match self.client(id).map(|client| client.phase) {
                // A part of an answer must not look like the whole.
                Some(Phase::Answering | Phase::Flushing { .. }) => self.abort(id),
                _ => self.drop_client(id),
            }
        }
    }

    /// Connections on which a request arrived after they had been closed: requests that were lost.
    pub fn late_arrivals(&self) -> u64 {
        self.late
    }
}
