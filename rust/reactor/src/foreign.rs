//! Descriptors of the caller's, which the reactor looks at beside its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::event::{Event, ForeignId};
use crate::reactor::Reactor;
use crate::selector::{Readiness, Token};

/// A descriptor of the caller's.
pub(crate) struct Foreign {
    fd: OwnedFd,
    /// A report waits in the queue, or did until [`Reactor::take_foreign`] took it.
    reported: bool,
}

impl Reactor {
    /// Watches a descriptor of the caller's; it stays the caller's. [`Event::Foreign`] is
    /// level-triggered: it comes each turn while the descriptor is ready.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated or watched (a regular file, say).
    pub fn watch(
        &mut self,
        fd: impl AsFd,
        readable: bool,
        writable: bool,
    ) -> io::Result<ForeignId> {
        let entry = self.foreign.vacant_entry();
        let id = ForeignId(u32::try_from(entry.key()).map_err(io::Error::other)?);
        let own = fd.as_fd().try_clone_to_owned()?;
        self.selector
            .add(&own, Token::Foreign(id), readable, writable)?;
        entry.insert(Foreign {
            fd: own,
            reported: false,
        });
        Ok(id)
    }

    pub(crate) fn report_foreign(&mut self, id: ForeignId, readiness: Readiness) {
        if let Some(foreign) = self.foreign.get_mut(id.0 as usize)
            && !foreign.reported
        {
            foreign.reported = true;
            self.emit(Event::Foreign(id, readiness));
        }
    }

    /// Whether a watched descriptor was reported ready; the report is taken, and
    /// [`poll`](Self::poll) will not yield it.
    pub fn take_foreign(&mut self, id: ForeignId) -> bool {
        let foreign = self.foreign.get_mut(id.0 as usize);
        foreign.is_some_and(|foreign| std::mem::take(&mut foreign.reported))
    }

    /// Ends a [`watch`](Self::watch).
    pub fn unwatch(&mut self, id: ForeignId) {
        if let Some(foreign) = self.foreign.try_remove(id.0 as usize) {
            let _ = self.selector.remove(&foreign.fd);
        }
    }
}
