//! Backpressure of the caller's: no further request begins while it has enough of them.

use crate::client::Phase;
use crate::event::ConnId;
use crate::reactor::Reactor;

impl Reactor {
    /// Stops accepting, and reading further requests. What was read already is still yielded, and
    /// what was begun goes on.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Lets `requests` further requests come, of those connections that have waited longest. Once
    /// none waits, everything goes on as before; returns whether it does.
    pub fn release(&mut self, requests: usize) -> bool {
        let enough = self.queue.len().saturating_add(requests);
        while self.queue.len() < enough {
            let Some(id) = self.held_back.pop_front() else {
                self.held = false;
                return true;
            };
            let Some(client) = self.client(id) else {
                continue;
            };
            client.held = false;
            if client.phase == Phase::Receiving {
                let has_come = !client.input.is_empty() || client.half_closed;
                // Its time begins anew: it was not the client that was late.
                self.set_deadline(id, self.options.timeouts.head);
                if has_come {
                    self.advance(id);
                }
                // What it had sent may be a part: the rest is in the kernel.
                if self
                    .client(id)
                    .is_some_and(|client| client.phase == Phase::Receiving)
                {
                    self.read_ready(id, false);
                }
            }
            self.update_interest(id);
        }
        false
    }

    /// Puts a connection off on which a request begins or goes on, if that has to wait. A
    /// connection that has something to be read is not watched meanwhile: the selector would
    /// report it turn after turn.
    pub(crate) fn hold_back(&mut self, id: ConnId) -> bool {
        if !self.held {
            return false;
        }
        let Some(client) = self
            .client(id)
            .filter(|client| client.phase == Phase::Receiving)
        else {
            return false;
        };
        if !std::mem::replace(&mut client.held, true) {
            self.held_back.push_back(id);
            self.clear_deadline(id);
            self.update_interest(id);
        }
        true
    }
}
