//! Lines for the error log that are written without the interpreter, and never for long.

use std::fmt::{Display, Formatter, Result, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meinheld_reactor::local_time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What a reader of the log gets to make room; then the rest of a report is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is read has ended when nothing has come for this long.
const PAUSE: Duration = Duration::from_millis(50);
/// Octets that a pipe takes without blocking once it is said to take any (pipe(7), `PIPE_BUF`).
const AT_ONCE: usize = 4096;

/// Lines as gunicorn's error log has them.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
}

impl Report {
    pub(crate) fn line(&mut self, what: impl Display) {
        let (time, pid) = (local_time(), std::process::id());
        // To write into a string does not fail.
        let _ = writeln!(self.text, "[{time}] [{pid}] [WATCHDOG] {what}");
    }

    pub(crate) fn octets(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Milliseconds, shown as seconds.
pub(crate) struct Seconds(pub(crate) u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{:.1} s", self.0 as f64 / 1000.0)
    }
}

/// The descriptor that the error log is written to.
pub(crate) struct Log {
    descriptor: Mutex<Arc<OwnedFd>>,
}

impl Log {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self {
            descriptor: Mutex::new(Arc::new(descriptor)),
        }
    }

    /// The log is another file now. Waits for nobody who writes.
    pub(crate) fn renew(&self, descriptor: OwnedFd) {
        *self.lock() = Arc::new(descriptor);
    }

    /// Writes in pieces that a pipe takes at once, as long as it takes any.
    pub(crate) fn write(&self, text: &[u8]) {
        let log = Arc::clone(&self.lock());
        let mut rest = text;
        while !rest.is_empty() && is_ready(&log, PollFlags::OUT, PATIENCE) {
            match rustix::io::write(&log, &rest[..rest.len().min(AT_ONCE)]) {
                Ok(count) => rest = &rest[count.min(rest.len())..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<OwnedFd>> {
        self.descriptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is something to read in time, be it the end.
pub(crate) fn await_octets(pipe: &OwnedFd, patience: Duration) -> bool {
    is_ready(pipe, PollFlags::IN, patience)
}

/// Reads what comes from a pipe that does not block, until it pauses; `false` when nothing can come
/// any more.
pub(crate) fn read_octets(pipe: &OwnedFd, octets: &mut Vec<u8>) -> bool {
    let mut block = [0; AT_ONCE];
    loop {
        match rustix::io::read(pipe, &mut block) {
            Ok(0) => return false,
            Ok(count) => octets.extend_from_slice(&block[..count]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !await_octets(pipe, PAUSE) {
                    return true;
                }
            }
            Err(_) => return false,
        }
    }
}

/// Whether `file` becomes ready in time, or can never again.
fn is_ready(file: impl AsFd, event: PollFlags, patience: Duration) -> bool {
    let limit = Timespec::try_from(patience).ok();
    let mut files = [PollFd::new(&file, event)];
    poll(&mut files, limit.as_ref()).is_ok_and(|count| count > 0)
}
