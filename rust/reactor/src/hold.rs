//! Backpressure of the caller's: no further request begins while it has enough of them.

use crate::client::Phase;
use crate::event::ConnId;
use crate::reactor::Reactor;

impl Reactor {
    /// Stops accepting, and reading further requests, until called with `false`. What was read
    /// already is still yielded, and what was begun goes on.
    pub fn hold(&mut self, hold: bool) {
        self.held = hold;
        if hold {
            return;
        }
        for id in std::mem::take(&mut self.held_back) {
            let Some(client) = self.client(id) else {
                continue;
            };
            client.held = false;
            let pending = !client.input.is_empty() || client.half_closed;
            if client.phase == Phase::Receiving && pending {
                self.advance(id);
            }
            self.update_interest(id);
        }
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
            self.held_back.push(id);
            self.update_interest(id);
        }
        true
    }
}
