//! Waiting for readiness. Descriptors register through `polling`; the wait itself is one
//! `epoll_wait` on the poller's own descriptor, because `Poller::wait` costs five system calls a
//! turn. This is the only file that is particular to Linux.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use polling::{Event as Interest, PollMode, Poller};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use crate::event::{ConnId, ForeignId};
use crate::sys;

/// How many ready descriptors one wait reports at most: enough for a busy turn, small enough that
/// a turn's work stays bounded.
const BATCH: usize = 256;

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read would not block (data, end of file or an error).
    pub readable: bool,
    /// A write would not block.
    pub writable: bool,
    /// Both directions are closed, or the descriptor has an error or urgent data.
    pub hangup: bool,
}

/// Whom a readiness report concerns; packed into the kernel's 64 bits of user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Client(ConnId),
    Listener(u32),
    Foreign(ForeignId),
    Waker,
}

/// Generations wrap at this many connections, so that a token keeps two bits for its kind.
pub(crate) const GENERATIONS: u32 = 1 << 30;

impl Token {
    const KIND: u32 = 62;

    fn pack(self) -> u64 {
        match self {
            Self::Client(id) => (u64::from(id.generation) << 32) | u64::from(id.index),
            Self::Listener(index) => (1 << Self::KIND) | u64::from(index),
            Self::Foreign(id) => (2 << Self::KIND) | u64::from(id.0),
            Self::Waker => 3 << Self::KIND,
        }
    }

    /// `None` for what `polling` registers for itself.
    fn unpack(bits: u64) -> Option<Self> {
        let low = bits as u32;
        let high = ((bits >> 32) as u32) & (GENERATIONS - 1);
        match bits >> Self::KIND {
            0 => Some(Self::Client(ConnId {
                index: low,
                generation: high,
            })),
            1 => Some(Self::Listener(low)),
            2 => Some(Self::Foreign(ForeignId(low))),
            _ if bits == Self::Waker.pack() => Some(Self::Waker),
            _ => None,
        }
    }

    fn interest(self, readable: bool, writable: bool) -> Interest {
        Interest::new(self.pack() as usize, readable, writable)
    }
}

/// The set of watched descriptors, and the one that wakes the wait from another thread.
pub(crate) struct Selector {
    poller: Poller,
    waker: OwnedFd,
}

impl Selector {
    pub(crate) fn new() -> io::Result<Self> {
        let poller = Poller::new()?;
        // `polling`'s own notifier is re-armed only by its own `wait`.
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        sys::register(&poller, &waker, Token::Waker.interest(true, false))?;
        Ok(Self { poller, waker })
    }

    pub(crate) fn add(
        &self,
        source: impl AsFd,
        token: Token,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        sys::register(&self.poller, source, token.interest(readable, writable))
    }

    pub(crate) fn modify(
        &self,
        source: impl AsFd,
        token: Token,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        self.poller
            .modify_with_mode(source, token.interest(readable, writable), PollMode::Level)
    }

    pub(crate) fn remove(&self, source: impl AsFd) -> io::Result<()> {
        self.poller.delete(source)
    }

    /// Watches a listener that sibling processes watch too: the kernel wakes one of the waiters,
    /// not all. With any flag beyond these two, and in `EPOLL_CTL_MOD`, the kernel answers EINVAL,
    /// so this goes past `polling`.
    pub(crate) fn add_shared_listener(&self, source: impl AsFd, index: u32) -> io::Result<()> {
        let data = epoll::EventData::new_u64(Token::Listener(index).pack());
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        epoll::add(self.poller.as_fd(), source, data, flags).map_err(Into::into)
    }

    pub(crate) fn wake(&self) {
        // A full counter means that a wake-up is pending already.
        let _ = rustix::io::write(&self.waker, &1u64.to_ne_bytes());
    }

    pub(crate) fn quiet_waker(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.waker, &mut count);
    }
}

/// A wait, to be run while nothing of the reactor is borrowed (and the GIL is released).
pub struct Wait {
    selector: Arc<Selector>,
    timeout: Duration,
    ready: Vec<(Token, Readiness)>,
}

impl Wait {
    pub(crate) fn new(
        selector: Arc<Selector>,
        timeout: Duration,
        mut storage: Vec<(Token, Readiness)>,
    ) -> Self {
        storage.clear();
        Self {
            selector,
            timeout,
            ready: storage,
        }
    }

    /// Whether this wait may sleep, so that releasing a lock around it is worth its price.
    pub fn may_block(&self) -> bool {
        !self.timeout.is_zero()
    }

    /// Waits until something is ready, the timeout passes, or a signal interrupts, which is no
    /// error: the caller looks at its signals after each wait anyway.
    ///
    /// # Errors
    ///
    /// What `epoll_wait` reports, which only a broken descriptor makes it do.
    pub fn run(&mut self) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(self.timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(self.timeout.subsec_nanos()),
        };
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        let events = match epoll::wait(self.selector.poller.as_fd(), &mut room, Some(&timeout)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events.iter() {
            let (flags, data) = (event.flags, event.data);
            // `polling` watches for urgent data too, which no HTTP client sends: it never becomes
            // readable, so whoever sends it is treated as gone.
            let hangup = flags.intersects(
                epoll::EventFlags::HUP | epoll::EventFlags::ERR | epoll::EventFlags::PRI,
            );
            let readiness = Readiness {
                readable: hangup || flags.contains(epoll::EventFlags::IN),
                writable: hangup || flags.contains(epoll::EventFlags::OUT),
                hangup,
            };
            if let Some(token) = Token::unpack(data.u64()) {
                self.ready.push((token, readiness));
            }
        }
        Ok(())
    }

    pub(crate) fn into_ready(self) -> Vec<(Token, Readiness)> {
        self.ready
    }
}
