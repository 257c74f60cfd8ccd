//! Whole answers: with what can leave in the same packet.
//!
//! Answers to safe requests that a client has sent ahead of them leave in one write. Only its own
//! next request may come between two of them, and only while calls are known to be short: nobody
//! else's, and no wait. The last answer of a connection leaves with the FIN.

use crate::answer::Progress;
use crate::clock::Tick;
use crate::event::{ConnId, Event};
use crate::reactor::Reactor;

/// Milliseconds from which on a call is long.
const LONG: Tick = 50;
/// For how many milliseconds after a long call no answer waits for the next one, which may be as long.
const WARY: Tick = 60_000;

/// What waits for the next answer.
#[derive(Default)]
pub(crate) struct Together {
    /// On this connection, since then.
    deferred: Option<(ConnId, Tick)>,
    /// Until then nothing is to wait.
    wary_until: Tick,
}

impl Together {
    /// Nothing waits on this connection any more.
    pub(crate) fn forget(&mut self, id: ConnId) {
        if self.deferred.is_some_and(|(of, _)| of == id) {
            self.deferred = None;
        }
    }
}

impl Reactor {
    /// Sends the whole of an answer and [finishes](Self::finish) it.
    pub fn answer(&mut self, id: ConnId, whole: &[u8], persists: bool) -> Progress {
        let progress = if persists {
            self.defer_or_write(id, whole)
        } else {
            self.write_last(id, whole)
        };
        if progress != Progress::Gone {
            self.finish(id, persists);
        }
        progress
    }

    fn defer_or_write(&mut self, id: ConnId, whole: &[u8]) -> Progress {
        let now = self.clock.now();
        let short = now >= self.together.wary_until;
        let Some(client) = self.client(id) else {
            return Progress::Gone;
        };
        if short && client.pipelines() && client.outbox.defer(whole) {
            self.together.deferred.get_or_insert((id, now));
            return Progress::Accepted;
        }
        self.write(id, &[whole])
    }

    fn write_last(&mut self, id: ConnId, whole: &[u8]) -> Progress {
        let Some(client) = self.client(id) else {
            return Progress::Gone;
        };
        if !client.outbox.is_empty() {
            return self.write(id, &[whole]);
        }
        match client.transport.write_more(whole) {
            Ok(taken) if taken == whole.len() => Progress::Accepted,
            Ok(taken) => self.write(id, &[&whole[taken..]]),
            Err(_) => {
                self.vanish(id, true);
                Progress::Gone
            }
        }
    }

    /// Remembers how long the call was whose answer is complete.
    pub(crate) fn note_call(&mut self) {
        let now = self.clock.now();
        if now.saturating_sub(self.yielded_at) >= LONG {
            self.together.wary_until = now.saturating_add(WARY);
        }
    }

    /// Puts a request where it is yielded: before all others if an answer waits for its own.
    pub(crate) fn enqueue(&mut self, id: ConnId, request: Event) {
        if self.together.deferred.is_some_and(|(of, _)| of == id) {
            self.queue.push_front(request);
            self.rouse();
        } else {
            self.emit(request);
        }
    }

    /// Before the next event is yielded: an answer goes on waiting only if that is the request whose
    /// answer it waits for, and the clock has not moved.
    pub(crate) fn keep_together(&mut self) {
        if let Some((id, since)) = self.together.deferred
            && !(self.clock.now() == since && self.is_next(id))
        {
            self.part();
        }
    }

    /// Sends what waits. The request behind it gives way to others.
    pub(crate) fn part(&mut self) {
        let Some((id, _)) = self.together.deferred.take() else {
            return;
        };
        if self.is_next(id) {
            self.queue.rotate_left(1);
        }
        self.send_deferred(id);
    }

    /// Sends what waits on this connection.
    pub(crate) fn send_deferred(&mut self, id: ConnId) {
        if self
            .client(id)
            .is_some_and(|client| client.outbox.is_deferred())
        {
            self.flush(id);
        }
    }

    fn is_next(&self, id: ConnId) -> bool {
        matches!(self.queue.front(), Some(Event::Request(request)) if request.id == id)
    }
}
