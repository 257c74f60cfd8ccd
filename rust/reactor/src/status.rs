//! The endpoint that tells how the fleet is: `/metrics`, `/healthz` and `/readyz`.
//!
//! All workers share one listening socket, and a thread of each waits there that needs no interpreter:
//! whichever comes first answers for all, from the scoreboard, also while its own application hangs.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use memchr::memmem;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};

use crate::exposition::{Beside, MEDIA_TYPE, exposition};
use crate::scoreboard::Seat;
use crate::snapshot::Snapshot;
use crate::sys;

/// What one client may take of the thread's time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Octets of a request head.
const HEAD: usize = 4096;
/// What ends it.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Octets that are read and dropped behind a request, so that no reset destroys its answer.
const DROPPED: usize = 64 * 1024;
/// Pause after the process ran out of something.
const PAUSE: Duration = Duration::from_millis(200);

/// A listener, and what it is called.
type Listener = (String, OwnedFd);

/// A worker's part of the endpoint.
pub struct Status {
    seat: Seat,
    /// gunicorn's; `None` is for ever.
    timeout: Option<Duration>,
    /// Whose backlog is shown. To be let go when the worker accepts no more: nobody else would
    /// know that they are held.
    listeners: Mutex<Vec<Listener>>,
}

/// An answer.
struct Answer {
    status: &'static str,
    media_type: &'static str,
    body: String,
}

impl Answer {
    fn line(status: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            media_type: "text/plain; charset=utf-8",
            body: body.into() + "\n",
        }
    }

    fn encode(&self, is_head: bool) -> Vec<u8> {
        let Self {
            status,
            media_type,
            body,
        } = self;
        let date = httpdate::fmt_http_date(SystemTime::now());
        let allow = match status.starts_with("405") {
            true => "Allow: GET, HEAD\r\n",
            false => "",
        };
        let length = body.len();
        let body = if is_head { "" } else { body };
        format!(
            "HTTP/1.1 {status}\r\nServer: meinheld\r\nDate: {date}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\n{allow}Content-Type: {media_type}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

impl Status {
    /// Answers on `socket`, which listens and does not block, from now until the process ends.
    /// `timeout` is for how long a loop may not turn.
    ///
    /// # Errors
    ///
    /// When there can be no thread.
    pub fn start(seat: Seat, socket: OwnedFd, timeout: Option<Duration>) -> io::Result<Arc<Self>> {
        let status = Arc::new(Self {
            seat,
            timeout,
            listeners: Mutex::default(),
        });
        let own = Arc::clone(&status);
        let thread = thread::Builder::new().name("meinheld-status".into());
        thread.spawn(move || own.serve(&socket))?;
        seat.introduce();
        Ok(status)
    }

    /// Shows the backlogs of these listeners, which have names.
    pub fn watch(&self, listeners: Vec<Listener>) {
        *self.listeners() = listeners;
    }

    /// Shows none any more.
    pub fn let_go(&self) {
        self.listeners().clear();
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, socket: &OwnedFd) {
        sys::block_signals();
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::accept_with(socket, flags) {
                Ok(client) => self.attend(&client),
                // Another worker was faster, or the client has gone.
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {
                    if !is_ready(socket, PollFlags::IN, None) {
                        thread::sleep(PAUSE);
                    }
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Serves one client. One that goes, or takes too long, is left.
    fn attend(&self, client: &OwnedFd) {
        let until = Instant::now() + PATIENCE;
        let answer = match receive(client, until) {
            Some(head) => match request_line(&head) {
                Some((method, target)) => self.answer(method, target).encode(method == b"HEAD"),
                None => Answer::line("400 Bad Request", "malformed, or too long").encode(false),
            },
            None => return,
        };
        if send(client, &answer, until) {
            let _ = rustix::net::shutdown(client, Shutdown::Write);
            let mut sink = [0; HEAD];
            let mut dropped = 0;
            while dropped < DROPPED
                && let Some(octets @ 1..) = read(client, &mut sink, until)
            {
                dropped += octets;
            }
        }
    }

    fn answer(&self, method: &[u8], target: &[u8]) -> Answer {
        let path = target.split(|octet| *octet == b'?').next();
        let look: fn(&Self) -> Answer = match path.unwrap_or_default() {
            b"/metrics" => Self::metrics,
            b"/healthz" => Self::health,
            b"/readyz" => Self::readiness,
            _ => return Answer::line("404 Not Found", "/metrics, /healthz and /readyz are here"),
        };
        match method {
            b"GET" | b"HEAD" => look(self),
            _ => Answer::line("405 Method Not Allowed", "only GET and HEAD"),
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.seat.board().snapshot()
    }

    fn health(&self) -> Answer {
        match self.snapshot().is_alive(self.timeout) {
            true => Answer::line("200 OK", "ok"),
            false => Answer::line("503 Service Unavailable", "no worker's loop turns"),
        }
    }

    fn readiness(&self) -> Answer {
        match self.snapshot().is_ready(self.timeout) {
            true => Answer::line("200 OK", "ready"),
            false => Answer::line("503 Service Unavailable", "no worker takes connections"),
        }
    }

    fn metrics(&self) -> Answer {
        let fleet = self.snapshot();
        let pids = fleet.workers.iter().map(|worker| worker.doing.pid);
        let memory = pids.filter_map(|pid| Some((pid, resident(pid)?))).collect();
        let backlog = |(name, socket): &Listener| Some((name.clone(), sys::backlog(socket)?));
        let backlogs = self.listeners().iter().filter_map(backlog).collect();
        Answer {
            status: "200 OK",
            media_type: MEDIA_TYPE,
            body: exposition(&fleet, &Beside { memory, backlogs }),
        }
    }
}

/// Resident memory of a process in octets (proc(5), `statm`).
fn resident(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The head of a request, its empty line included; or as much as there is room for. `None` when it
/// does not come in time.
fn receive(client: &OwnedFd, until: Instant) -> Option<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let mut length = 0;
    loop {
        match read(client, &mut head[length..], until)? {
            0 => return None,
            octets => length += octets,
        }
        if let Some(end) = memmem::find(&head[..length], HEAD_END) {
            length = end + HEAD_END.len();
            break;
        }
        if length == HEAD {
            break;
        }
    }
    head.truncate(length);
    Some(head)
}

/// Method and target of a whole head. Floor 1 is not asked: its parser is worth most where it has
/// one caller, whom it is inlined into.
fn request_line(head: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut lines = head.strip_suffix(HEAD_END)?.split(|octet| *octet == b'\n');
    let line = lines.next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|octet| *octet == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    let is_field = |line: &[u8]| {
        line.split(|octet| *octet == b':')
            .next()
            .is_some_and(is_name)
    };
    let is_sound = words.next().is_none()
        && matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
        && is_name(method)
        && is_name(target)
        && lines.all(|line| line.contains(&b':') && is_field(line));
    is_sound.then_some((method, target))
}

/// Octets that have come, 0 at the end; `None` when none came in time.
fn read(client: &OwnedFd, room: &mut [u8], until: Instant) -> Option<usize> {
    loop {
        match rustix::net::recv(client, &mut *room, RecvFlags::DONTWAIT) {
            Ok((octets, _)) => return Some(octets),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return None,
        }
        if !is_ready(client, PollFlags::IN, Some(until)) {
            return None;
        }
    }
}

/// Whether the kernel has taken all of it in time.
fn send(client: &OwnedFd, mut octets: &[u8], until: Instant) -> bool {
    while !octets.is_empty() {
        match rustix::net::send(client, octets, SendFlags::NOSIGNAL) {
            Ok(taken) => octets = &octets[taken.min(octets.len())..],
            Err(Errno::AGAIN | Errno::INTR) => {
                if !is_ready(client, PollFlags::OUT, Some(until)) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Whether a socket becomes ready in time, or can never again; without `until` there is no hurry.
fn is_ready(socket: &OwnedFd, event: PollFlags, until: Option<Instant>) -> bool {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    if left.is_some_and(|left| left.is_zero()) {
        return false;
    }
    let limit = left.and_then(|left| Timespec::try_from(left).ok());
    let mut sockets = [PollFd::new(socket, event)];
    match poll(&mut sockets, limit.as_ref()) {
        Ok(ready) => ready > 0 && !sockets[0].revents().contains(PollFlags::NVAL),
        Err(error) => error == Errno::INTR,
    }
}
