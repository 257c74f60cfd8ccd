//! Listeners, and who may come in.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use meinheld_protocol::{Awaits, Buffer, Connection};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::client::{Client, Interest, NEVER, Phase};
use crate::clock::Tick;
use crate::drain::Lifecycle;
use crate::event::{ConnId, Event};
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::proxy::Proxying;
use crate::reactor::Reactor;
use crate::timers::TimerKey;
use crate::transport::Transport;

/// Connections taken from one listener in one turn: an even share among the sibling workers is
/// worth more than the last percent of accept rate.
const BURST: usize = 8;
/// Pause after the process ran out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Pause while the worker is full.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Milliseconds that a connection must have been quiet for before it is closed to make room. Busy
/// clients pause for less between two requests, and would lose the second.
const SILENCE: Tick = 1000;

/// A listening socket: our own descriptor of it, so that closing it is felt by nobody else.
pub struct Listener {
    fd: OwnedFd,
    watched: bool,
}

/// Whether connections are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// No listener is watched yet, or any more.
    Idle,
    /// Every listener is watched.
    Open,
    /// Not until another worker has as many connections, or the timer: see `balance.rs`.
    StandingBack,
    /// Not until the timer: the worker is full or held, or the process has run out of something. The
    /// listeners are not watched, so that siblings get the wake-ups.
    Paused,
}

/// What one `accept` came to.
enum Accepted {
    Connection(OwnedFd, Peer),
    /// Nobody waits.
    Empty,
    /// The client is gone already.
    Aborted,
    Failed(io::Error),
}

impl Listener {
    fn accept(&self) -> Accepted {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match rustix::net::acceptfrom_with(&self.fd, flags) {
            Ok((fd, address)) => Accepted::Connection(fd, Peer::from_any(address)),
            Err(Errno::AGAIN) => Accepted::Empty,
            // accept(2): network errors of the new connection are reported here too.
            Err(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::OPNOTSUPP,
            ) => Accepted::Aborted,
            Err(error) => Accepted::Failed(error.into()),
        }
    }
}

impl Reactor {
    /// Serves a listening socket, beside any others. It must not block.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn listen(&mut self, socket: impl AsFd) -> io::Result<()> {
        let fd = socket.as_fd().try_clone_to_owned()?;
        self.listeners.push(Listener { fd, watched: false });
        Ok(())
    }

    /// Watches the listeners or not, as connections, holding and the lifecycle say. Called
    /// before each wait: a worker that took the one wake-up and then declined would lose it for
    /// its siblings.
    pub(crate) fn adjust_accepting(&mut self) {
        let serving = self.lifecycle == Lifecycle::Serving;
        match self.accepting {
            Accepting::Idle if serving => self.open_listeners(),
            Accepting::Open if !serving => self.close_listeners(),
            Accepting::Open => {
                if self.held || !self.has_place() {
                    self.pause_accepting(FULL_PAUSE);
                }
            }
            Accepting::StandingBack if serving && !self.leads() => self.open_listeners(),
            Accepting::Idle | Accepting::StandingBack | Accepting::Paused => {}
        }
        self.show_load();
    }

    pub(crate) fn resume_accepting(&mut self) {
        let back = self.accepting == Accepting::StandingBack && self.clock.now() >= self.back_at;
        if back || self.accepting == Accepting::Paused {
            if self.lifecycle != Lifecycle::Serving {
                self.accepting = Accepting::Idle;
            } else if self.held {
                self.pause_accepting(FULL_PAUSE);
            } else if !self.has_place() {
                self.crowded = self.somebody_waits();
                self.pause_accepting(FULL_PAUSE);
            } else {
                self.open_listeners();
            }
        }
    }

    fn somebody_waits(&self) -> bool {
        let flags = PollFlags::IN;
        let mut polled: Vec<PollFd<'_>> = self
            .listeners
            .iter()
            .map(|listener| PollFd::new(&listener.fd, flags))
            .collect();
        let now = Timespec::default();
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    fn open_listeners(&mut self) {
        self.crowded = false;
        let mut failure = None;
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if !listener.watched {
                match self
                    .selector
                    .add_shared_listener(&listener.fd, index as u32)
                {
                    Ok(()) => listener.watched = true,
                    Err(error) => failure = Some(error),
                }
            }
        }
        self.accepting = Accepting::Open;
        if let Some(error) = failure {
            self.report_exhausted(error);
            self.pause_accepting(EXHAUSTED_PAUSE);
        }
    }

    /// Says once that nothing can be accepted, until something was again.
    fn report_exhausted(&mut self, error: io::Error) {
        if !self.exhausted {
            self.exhausted = true;
            self.emit(Event::AcceptFailed(error));
        }
    }

    fn pause_accepting(&mut self, pause: Duration) {
        self.unwatch_listeners();
        self.accepting = Accepting::Paused;
        self.schedule(self.clock.after(pause), TimerKey::Accept);
    }

    pub(crate) fn close_listeners(&mut self) {
        self.unwatch_listeners();
        self.listeners.clear();
        self.accepting = Accepting::Idle;
    }

    pub(crate) fn unwatch_listeners(&mut self) {
        for listener in &mut self.listeners {
            if listener.watched {
                let _ = self.selector.remove(&listener.fd);
                listener.watched = false;
            }
        }
    }

    /// Whether another connection may come in: there is room, or one that can make some.
    fn has_place(&self) -> bool {
        self.clients.len() < self.options.max_connections || self.expendable().is_some()
    }

    /// The connection that has been idle longest, if that is long enough.
    fn expendable(&self) -> Option<ConnId> {
        let index = self.idle.first()?;
        let client = self.clients.get(index as usize)?;
        client
            .is_expendable(self.clock.now(), SILENCE)
            .then(|| client.id(index as usize))
    }

    /// Closes the connection that has been idle longest.
    fn retire_idle(&mut self) {
        let Some(id) = self.expendable() else { return };
        // A request may have come this very moment: then it is not idle, and the next one is.
        self.read_ready(id, false);
        if self.client(id).is_some_and(|client| client.is_idle()) {
            // Without lingering, which would hold the place that is needed.
            self.drop_client(id);
        }
    }

    pub(crate) fn accept_burst(&mut self, listener: usize) {
        for _ in 0..BURST {
            if self.accepting != Accepting::Open || !self.has_place() || !self.accept_one(listener)
            {
                break;
            }
            if self.clients.len() > self.options.max_connections {
                self.retire_idle();
            }
            self.show_load();
            if self.accepting == Accepting::Open && self.leads() {
                self.stand_back();
            }
        }
    }

    /// Takes one connection; `false` when there is no use in trying on.
    pub(crate) fn accept_one(&mut self, listener: usize) -> bool {
        let Some(socket) = self.listeners.get(listener) else {
            return false;
        };
        match socket.accept() {
            Accepted::Connection(fd, peer) => {
                self.exhausted = false;
                self.admit(fd, peer, listener as u32);
                true
            }
            Accepted::Aborted => true,
            Accepted::Empty => false,
            Accepted::Failed(error) => {
                self.report_exhausted(error);
                if self.accepting == Accepting::Open {
                    self.pause_accepting(EXHAUSTED_PAUSE);
                }
                false
            }
        }
    }

    fn admit(&mut self, fd: OwnedFd, peer: Peer, listener: u32) {
        let id = self.enrol(fd, peer, listener);
        if let Some(tally) = self.tally {
            tally.accepted();
        }
        self.settle_idle(id);
        self.set_deadline(id, self.options.timeouts.head);
        // The request has mostly come already: asking for it now saves a turn.
        self.read_ready(id, false);
    }

    /// Makes a place in the table.
    pub(crate) fn enrol(&mut self, fd: OwnedFd, peer: Peer, listener: u32) -> ConnId {
        let generation = self.next_generation();
        let trusted = self.options.trust.holds(&peer);
        let proxying = match self.options.proxy_protocol {
            Some(_) => Proxying::Awaited,
            None => Proxying::Direct,
        };
        let index = self.clients.insert(Client {
            generation,
            listener,
            trusted,
            half_closed: false,
            last_request: false,
            deadline_for: Awaits::Idle,
            lost_if_late: false,
            head_left: false,
            safe: false,
            waits: false,
            shared: false,
            room_wanted: None,
            held: false,
            quiet_since: self.clock.now(),
            phase: Phase::Receiving,
            interest: Interest::Unregistered,
            transport: Transport::new(fd),
            peer,
            proxying,
            protocol: Connection::new(),
            input: Buffer::new(),
            incoming: None,
            outbox: Outbox::default(),
            unsent: 0,
            deadline: NEVER,
            scheduled: NEVER,
            idle: None,
        });
        if let Some(tally) = self.tally {
            tally.open(1);
        }
        ConnId {
            index: index as u32,
            generation,
        }
    }
}
