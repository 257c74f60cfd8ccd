//! A reactor that the test itself turns: between two lines of the test nothing happens. Its clients
//! come over a unix socket, so that what they have sent is there at the next turn.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use meinheld_reactor::{ConnId, Event, Options, Reactor, Request, Timeouts};

/// What any wait may take before the test fails; a correct reactor needs a small part.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Turning {
    pub reactor: Reactor,
    folder: tempfile::TempDir,
}

impl Turning {
    /// A reactor that listens.
    pub fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut reactor = Reactor::new(options).unwrap();
        reactor.listen(&listener).unwrap();
        let mut turning = Self { reactor, folder };
        assert!(turning.turn().is_empty());
        turning
    }

    /// A client that waits to be accepted.
    pub fn connect(&self) -> UnixStream {
        let client = UnixStream::connect(self.folder.path().join("socket")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// A client that was accepted.
    pub fn accepted(&mut self) -> UnixStream {
        let client = self.connect();
        let before = self.reactor.connections();
        assert!(self.turn().is_empty());
        assert_eq!(self.reactor.connections(), before + 1);
        client
    }

    /// Takes in what has happened so far, without waiting for more.
    pub fn turn(&mut self) -> Vec<Event> {
        self.turn_within(Duration::ZERO)
    }

    fn turn_within(&mut self, limit: Duration) -> Vec<Event> {
        self.look(limit);
        self.pending()
    }

    /// Takes in what happens within `limit`, and leaves it to be yielded.
    pub fn look(&mut self, limit: Duration) {
        let mut wait = self.reactor.prepare_wait(limit);
        wait.run().unwrap();
        self.reactor.absorb(wait);
    }

    /// What was yielded since the last turn.
    pub fn pending(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.reactor.poll()).collect()
    }

    /// All that happens in the next `time`.
    pub fn pass(&mut self, time: Duration) -> Vec<Event> {
        let timer = self.reactor.set_timer(time);
        let mut seen = Vec::new();
        let is_over = |event: &Event| matches!(event, Event::Timer(id) if *id == timer);
        while !seen.iter().any(is_over) {
            seen.extend(self.turn_within(PATIENCE));
        }
        seen.retain(|event| !is_over(event));
        seen
    }

    /// Turns until something happens.
    pub fn next(&mut self) -> Event {
        let mut events = self.pending();
        let end = Instant::now() + PATIENCE;
        while events.is_empty() {
            assert!(Instant::now() < end, "nothing happens");
            events = self.turn_within(PATIENCE);
        }
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// Turns until a request comes, and nothing before it.
    pub fn next_request(&mut self) -> Request {
        match self.next() {
            Event::Request(request) => request,
            other => panic!("expected a request, not {other:?}"),
        }
    }

    /// Turns until `look` finds something; nothing is yielded meanwhile.
    pub fn until<T>(&mut self, mut look: impl FnMut(&mut Reactor) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(&mut self.reactor) {
                return found;
            }
            assert!(Instant::now() < end, "it does not come about");
            let events = self.turn_within(Duration::from_millis(5));
            assert!(events.is_empty(), "{events:?}");
        }
    }

    /// Turns until this many connections are left.
    pub fn until_left(&mut self, count: usize) {
        self.until(|reactor| (reactor.connections() <= count).then_some(()));
        assert_eq!(self.reactor.connections(), count);
    }
}

/// Timeouts that no test comes to the end of.
pub fn patient() -> Timeouts {
    Timeouts {
        keep_alive: Duration::from_secs(60),
        ..Timeouts::default()
    }
}

/// What is usual, but for these timeouts.
pub fn options(timeouts: Timeouts) -> Options {
    Options {
        timeouts,
        ..Options::default()
    }
}

/// This many clients that were accepted, and have sent nothing yet.
pub fn clients(turning: &mut Turning, count: usize) -> Vec<UnixStream> {
    (0..count).map(|_| turning.accepted()).collect()
}

/// All of them ask, each for its own number, one after another.
pub fn ask_in_order(turning: &mut Turning, clients: &mut [UnixStream]) {
    for (number, client) in clients.iter_mut().enumerate() {
        ask(client, &format!("/{number}"));
        assert!(turning.turn().is_empty());
    }
}

/// Sends a request for `target`.
pub fn ask(client: &mut UnixStream, target: &str) {
    write!(client, "GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
}

/// What was asked for, of events that are all requests.
pub fn targets(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| target(requested(event)))
        .collect()
}

pub fn target(request: &Request) -> String {
    request.head.target().escape_ascii().to_string()
}

/// On which connections, of events that are all requests.
pub fn ids(events: &[Event]) -> Vec<ConnId> {
    events.iter().map(|event| requested(event).id).collect()
}

fn requested(event: &Event) -> &Request {
    match event {
        Event::Request(request) => request,
        other => panic!("expected a request, not {other:?}"),
    }
}

/// Whether nothing at all, no octet and no end, has come to this client.
pub fn is_quiet(client: &mut UnixStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let read = client.read(&mut [0]);
    client.set_nonblocking(false).unwrap();
    matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Whether the connection has ended, in whatever way.
pub fn has_ended(client: &mut UnixStream) -> bool {
    match client.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Runs a test that may hang, and fails if it does.
pub fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        panic!("the reactor does not come back");
    }
    if let Err(failure) = thread.join() {
        std::panic::resume_unwind(failure);
    }
}
