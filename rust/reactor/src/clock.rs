//! Time, read once a turn.

use std::time::{Duration, SystemTime};

use meinheld_protocol::encode::DATE;

use crate::sys;

/// Milliseconds since the reactor began.
pub(crate) type Tick = u64;

/// A coarse clock: `now` stands still between two readings.
pub(crate) struct Clock {
    origin: Tick,
    now: Tick,
    date: [u8; DATE],
    date_read_at: Option<Tick>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            origin: sys::monotonic(),
            now: 0,
            date: [b' '; DATE],
            date_read_at: None,
        }
    }

    /// Reads the time, exactly.
    pub(crate) fn advance(&mut self) {
        self.move_to(sys::monotonic());
    }

    /// Reads the time of the kernel's last tick, a few milliseconds ago: a fraction of the price, for
    /// what is done with each request.
    pub(crate) fn glance(&mut self) {
        self.move_to(uptime());
    }

    fn move_to(&mut self, read: Tick) {
        // The coarse reading lags behind the exact one: time must not go back.
        self.now = self.now.max(read.saturating_sub(self.origin));
    }

    pub(crate) fn now(&self) -> Tick {
        self.now
    }

    /// Milliseconds since the machine began.
    pub(crate) fn uptime(&self) -> u64 {
        self.origin + self.now
    }

    /// The tick that lies `span` ahead.
    pub(crate) fn after(&self, span: Duration) -> Tick {
        let span = u64::try_from(span.as_millis()).unwrap_or(Tick::MAX);
        self.now.saturating_add(span)
    }

    /// The date for a Date field (RFC 9110 5.6.7, IMF-fixdate), formatted at most once a second.
    pub(crate) fn date(&mut self) -> [u8; DATE] {
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

/// Milliseconds since the machine began, as of the kernel's last tick.
pub fn uptime() -> Tick {
    sys::monotonic_coarse()
}
