//! Whether a request that has waited for the application still gets there: nobody may want its
//! answer any more.

use std::time::Duration;

use meinheld_protocol::encode;

use crate::answer::Progress;
use crate::clock::Tick;
use crate::departed::has_gone;
use crate::event::{Event, Request};
use crate::reactor::Reactor;

/// Milliseconds in which nobody is said to have waited: a request that is served at once costs no
/// look at its client.
const AT_ONCE: Tick = 1;
/// From one report of requests that were shed to the next, in milliseconds.
const REPORTS_APART: Tick = 1000;
/// What their clients are told.
const BUSY: &str = "the worker is busy: the request has waited for too long";

/// When a request began to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    /// In milliseconds since the machine began.
    at: Tick,
    /// How much had been yielded by then.
    behind: u32,
}

impl Queued {
    pub(crate) fn since(self) -> Tick {
        self.at
    }
}

/// The requests that have not got to the application.
#[derive(Default)]
pub(crate) struct TurnedAway {
    shed: u64,
    gone: u64,
    /// Of the former, those that were reported, and when that was.
    reported: u64,
    reported_at: Option<Tick>,
}

impl Reactor {
    /// What a request that waits from now on says of that.
    pub(crate) fn queued_now(&self) -> Queued {
        Queued {
            at: self.clock.uptime(),
            behind: self.yielded,
        }
    }

    /// Whether a request has waited, by the time of the last look at the clock.
    pub(crate) fn has_waited(&self, request: &Request) -> bool {
        self.waited(request) > AT_ONCE
    }

    /// For how many milliseconds a request has waited, give or take a few.
    pub fn waited(&self, request: &Request) -> u64 {
        self.clock.uptime().saturating_sub(request.queued.at)
    }

    /// Looks once more at a request that is about to get to the application, for a caller that keeps
    /// them in a queue of its own; [`poll`](Self::poll) has done so for what it yields. Where it has
    /// waited for longer than [`Options::queue_timeout`](crate::Options), that is its answer, and it
    /// comes back as [`Event::Shed`]. `None` where its client has gone (a FIN alone is a half-close):
    /// nobody is answered.
    pub fn still_wanted(&mut self, mut request: Request) -> Option<Event> {
        self.clock.glance();
        let waited = self.waited(&request);
        let may_have_gone = waited > AT_ONCE && self.is_out_of_sight(&request);
        let is_there = match self.client(request.id) {
            Some(client) => !(may_have_gone && has_gone(&client.transport)),
            None => false,
        };
        if !is_there {
            self.turned_away.gone += 1;
            if let Some(tally) = self.tally {
                tally.abandoned();
            }
            self.send_waiting(request.id);
            self.drop_client(request.id);
            self.recycle(request.head);
            return None;
        }
        match self.options.queue_timeout {
            Some(bound) if Duration::from_millis(waited) > bound => {
                self.shed(&request, bound);
                Some(Event::Shed(request))
            }
            _ => {
                request.started = self.clock.uptime();
                Some(Event::Request(request))
            }
        }
    }

    /// Whether a call came between this request and the last look at the sockets, at which its client
    /// was there. Where another thread looks at them all the time, that one is told.
    fn is_out_of_sight(&self, request: &Request) -> bool {
        let since_then = self.yielded != self.yielded_when_seen;
        since_then && self.yielded != request.queued.behind && self.asleep_until.is_none()
    }

    fn shed(&mut self, request: &Request, bound: Duration) {
        self.turned_away.shed += 1;
        if let Some(tally) = self.tally {
            tally.shed();
        }
        let (id, is_head) = (request.id, request.head.method() == b"HEAD");
        let retry_after = bound.as_millis().div_ceil(1000).max(1);
        let retry_after = u64::try_from(retry_after).unwrap_or(u64::MAX);
        let (server, date) = (self.options.server, self.clock.date());
        let answer = encode::unavailable_answer(retry_after, BUSY, server, &date, is_head);
        self.begin_answer(id);
        self.count_answer(id, &answer);
        if self.write(id, &[&answer]) != Progress::Gone {
            self.finish(id, false);
        }
    }

    /// Requests that were answered with 503 because they had waited for too long.
    pub fn shed_requests(&self) -> u64 {
        self.turned_away.shed
    }

    /// Requests whose clients had gone before the application was called for them.
    pub fn gone_requests(&self) -> u64 {
        self.turned_away.gone
    }

    /// How many requests were shed since this has said so last, which it does once a second at most,
    /// or `at_last`.
    pub fn shed_news(&mut self, at_last: bool) -> Option<u64> {
        let now = self.clock.now();
        let TurnedAway {
            shed,
            reported,
            reported_at,
            ..
        } = &mut self.turned_away;
        let due = at_last || reported_at.is_none_or(|at| now - at >= REPORTS_APART);
        let news = *shed - *reported;
        if news == 0 || !due {
            return None;
        }
        (*reported, *reported_at) = (*shed, Some(now));
        Some(news)
    }
}
