//! Connections that wait for a next request, the one that has waited longest first.
//!
//! A list through the connections themselves: whatever their number, entering, leaving and finding
//! the oldest cost the same.

use crate::client::Client;
use crate::event::ConnId;
use crate::reactor::Reactor;

/// The neighbours of an idle connection, as indices into the reactor's table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    older: Option<u32>,
    younger: Option<u32>,
}

/// Both ends of the list.
#[derive(Debug, Default)]
pub(crate) struct IdleList {
    oldest: Option<u32>,
    youngest: Option<u32>,
}

impl IdleList {
    /// The connection that has been idle longest.
    pub(crate) fn first(&self) -> Option<u32> {
        self.oldest
    }
}

impl Reactor {
    /// Puts a connection at the end of the list or takes it out, as it is idle now or not.
    pub(crate) fn settle_idle(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else {
            return;
        };
        match (client.is_idle(), client.idle.is_some()) {
            (true, false) => self.link_idle(id.index),
            (false, true) => self.unlink_idle(id.index),
            _ => {}
        }
    }

    fn link_idle(&mut self, index: u32) {
        let older = self.idle.youngest.replace(index);
        match older.and_then(|older| self.links_of(older)) {
            Some(links) => links.younger = Some(index),
            None => self.idle.oldest = Some(index),
        }
        if let Some(client) = self.clients.get_mut(index as usize) {
            client.idle = Some(Links {
                older,
                younger: None,
            });
        }
        if let Some(tally) = self.tally {
            tally.idle(1);
        }
    }

    /// Takes a connection out of the list, if it is there.
    pub(crate) fn unlink_idle(&mut self, index: u32) {
        let client = self.clients.get_mut(index as usize);
        let Some(Links { older, younger }) = client.and_then(|client| client.idle.take()) else {
            return;
        };
        match older.and_then(|older| self.links_of(older)) {
            Some(links) => links.younger = younger,
            None => self.idle.oldest = younger,
        }
        match younger.and_then(|younger| self.links_of(younger)) {
            Some(links) => links.older = older,
            None => self.idle.youngest = older,
        }
        if let Some(tally) = self.tally {
            tally.idle(-1);
        }
    }

    fn links_of(&mut self, index: u32) -> Option<&mut Links> {
        let client: &mut Client = self.clients.get_mut(index as usize)?;
        client.idle.as_mut()
    }
}
