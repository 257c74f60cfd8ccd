//! Time, read once a turn.

use std::time::{Duration, Instant, SystemTime};

/// Milliseconds since the reactor began.
pub(crate) type Tick = u64;

/// A coarse clock: `now` stands still between two calls of [`advance`](Clock::advance).
pub(crate) struct Clock {
    origin: Instant,
    now: Tick,
    date: [u8; 29],
    date_read_at: Option<Tick>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            now: 0,
            date: [b' '; 29],
            date_read_at: None,
        }
    }

    pub(crate) fn advance(&mut self) {
        self.now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(Tick::MAX);
    }

    pub(crate) fn now(&self) -> Tick {
        self.now
    }

    /// The tick that lies `span` ahead.
    pub(crate) fn after(&self, span: Duration) -> Tick {
        let span = u64::try_from(span.as_millis()).unwrap_or(Tick::MAX);
        self.now.saturating_add(span)
    }

    /// The date for a Date field (RFC 9110 5.6.7, IMF-fixdate), formatted at most once a second.
    pub(crate) fn date(&mut self) -> [u8; 29] {
        let stale = self
            .date_read_at
            .is_none_or(|read| self.now / 1000 != read / 1000);
        if stale {
            let text = httpdate::fmt_http_date(SystemTime::now());
            if text.len() == self.date.len() {
                self.date.copy_from_slice(text.as_bytes());
            }
            self.date_read_at = Some(self.now);
        }
        self.date
    }
}
