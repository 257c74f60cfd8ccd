//! All the `unsafe` of this floor: registering descriptors with the
//! poller, receiving into spare memory, asking for what is unsent, for a backlog and for the time, blocking and
//! raising signals, watching forks, and sharing memory with them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use polling::{Event, PollMode, Poller};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::net::RecvFlags;

use crate::scoreboard::Memory;

/// Registers `source`, level-triggered. It must be [removed](Poller::delete) or closed before the
/// poller goes.
pub(crate) fn register(poller: &Poller, source: impl AsFd, interest: Event) -> io::Result<()> {
    let fd = source.as_fd().as_raw_fd();
    // SAFETY: `polling` asks that a registered source outlive its registration, for backends that
    // keep pointers to it. On epoll a descriptor leaves the set when its file is closed, and every
    // owner here deletes it first where another process may hold the same file.
    unsafe { poller.add_with_mode(fd, interest, PollMode::Level) }
}

/// Appends up to `limit` received octets to `out`; 0 means the end.
pub(crate) fn receive_append(
    socket: impl AsFd,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<usize, Errno> {
    let spare = out.spare_capacity_mut();
    let room = spare.len().min(limit);
    let (_, count) = rustix::net::recv(socket, &mut spare[..room], RecvFlags::empty())?;
    let received = count.min(room);
    // SAFETY: the kernel has initialised `received` octets right behind the vector's length, and
    // they are within its capacity.
    unsafe { out.set_len(out.len() + received) };
    Ok(received)
}

/// Octets of a connection that the kernel has taken, and the client has not; 0 where it does not
/// tell (ioctl_tcp(2), `SIOCOUTQ`).
pub(crate) fn unsent(socket: impl AsFd) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open, and TIOCOUTQ, which is SIOCOUTQ, writes one int.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    match done {
        0 => u64::try_from(count).unwrap_or(0),
        _ => 0,
    }
}

/// Milliseconds since the machine began, exactly.
pub(crate) fn monotonic() -> u64 {
    milliseconds(libc::CLOCK_MONOTONIC)
}

/// Milliseconds since the machine began, as of the kernel's last tick.
pub(crate) fn monotonic_coarse() -> u64 {
    milliseconds(libc::CLOCK_MONOTONIC_COARSE)
}

/// Microseconds since the machine began, exactly.
pub(crate) fn monotonic_micros() -> u64 {
    let (seconds, nanoseconds) = read_clock(libc::CLOCK_MONOTONIC);
    seconds * 1_000_000 + nanoseconds / 1000
}

fn milliseconds(clock: libc::clockid_t) -> u64 {
    let (seconds, nanoseconds) = read_clock(clock);
    seconds * 1000 + nanoseconds / 1_000_000
}

/// Seconds and nanoseconds.
fn read_clock(clock: libc::clockid_t) -> (u64, u64) {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one timespec. Both clocks are there on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    // Neither part is ever negative on these clocks.
    (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs())
}

/// Clients that wait to be accepted from a TCP listener; `None` of any other.
pub(crate) fn backlog(listener: impl AsFd) -> Option<u32> {
    // Of `struct tcp_info` as Linux 2.6 had it already. Behind eight octets and four numbers comes
    // tcpi_unacked, which of a listener is the length of its queue (tcp_get_info in net/ipv4/tcp.c).
    let mut info = [0_u32; 26];
    let mut size = size_of_val(&info) as libc::socklen_t;
    let fd = listener.as_fd().as_raw_fd();
    let octets = info.as_mut_ptr().cast();
    // SAFETY: the descriptor is open, and getsockopt(2) writes no more than `size` octets.
    let done =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, octets, &raw mut size) };
    (done == 0).then_some(info[6])
}

/// Leaves all signals to other threads: a call that one is to interrupt is not on this one.
/// Gives what was blocked before.
pub fn block_signals() -> SignalMask {
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: sigfillset(3) initialises the set.
    let all = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    };
    SignalMask(all).set()
}

/// The signals that a thread blocks.
#[derive(Clone, Copy)]
pub struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// Has this thread block these and no others; gives what it has blocked before.
    pub fn set(self) -> Self {
        let mut before = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: pthread_sigmask(3) reads one set and writes another, of which all zeros is one too.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

/// A signal that this process handles.
#[derive(Clone, Copy)]
pub struct HandledSignal {
    number: libc::c_int,
    handler: libc::sighandler_t,
}

impl HandledSignal {
    /// The signal of this number; `None` where nobody handles it.
    pub fn find(number: i32) -> Option<Self> {
        let handler = handler_of(number)?;
        Some(Self { number, handler })
    }

    /// Sends it to this process, which its main thread handles unless that blocks it. Nothing is
    /// sent where the handler is another by now: without any, the signal would end the process.
    pub fn raise(self) {
        if handler_of(self.number) == Some(self.handler) {
            // SAFETY: neither call touches any memory of ours.
            unsafe { libc::kill(libc::getpid(), self.number) };
        }
    }
}

fn handler_of(signal: libc::c_int) -> Option<libc::sighandler_t> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the call reads nothing and writes one sigaction, of which all zeros is one too.
    let handler = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction
    };
    let is_handler = handler != libc::SIG_DFL && handler != libc::SIG_IGN;
    is_handler.then_some(handler)
}

/// The local time as gunicorn's error log shows it: `2026-01-31 23:59:59 +0000`.
pub fn local_time() -> String {
    let mut fields = std::mem::MaybeUninit::<libc::tm>::zeroed();
    let mut text = [0_u8; 32];
    // SAFETY: localtime_r(3) writes one tm, of which all zeros is one too; strftime(3) reads that
    // and a format that ends with a NUL, and writes no more than the octets it is told.
    let length = unsafe {
        let now = libc::time(std::ptr::null_mut());
        libc::localtime_r(&raw const now, fields.as_mut_ptr());
        let format = c"%Y-%m-%d %H:%M:%S %z";
        libc::strftime(
            text.as_mut_ptr().cast(),
            text.len(),
            format.as_ptr(),
            fields.as_ptr(),
        )
    };
    String::from_utf8_lossy(&text[..length.min(text.len())]).into_owned()
}

static WATCHED: Once = Once::new();
static HAS_FORKED: AtomicBool = AtomicBool::new(false);
/// Forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn before() {
    HAS_FORKED.store(true, Ordering::Relaxed);
}

extern "C" fn in_child() {
    HAS_FORKED.store(true, Ordering::Relaxed);
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The process that something belongs to; its children are others.
#[derive(Clone, Copy, Debug)]
pub struct Process(u32);

/// Starts to watch for `fork`, and names this process. Call it in the one that serves, after the
/// arbiter forked it: a later child then [knows](Process::is_another) that it is one, and a parent
/// closes its sockets so that a child's copies cannot keep them alive.
pub fn watch_forks() -> Process {
    WATCHED.call_once(|| {
        // Before, not after: another thread may close a socket while this one forks.
        // SAFETY: both handlers only store to atomics, which is allowed between fork and exec.
        unsafe { libc::pthread_atfork(Some(before), None, Some(in_child)) };
    });
    Process(FORKS.load(Ordering::Relaxed))
}

impl Process {
    /// Whether the one that asks was forked off this one. It must not touch what is this one's: the
    /// sockets of a reactor, for one.
    #[inline]
    pub fn is_another(self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.0
    }
}

/// Whether this process has forked since [`watch_forks`]: a child may hold its descriptors.
pub(crate) fn has_forked() -> bool {
    HAS_FORKED.load(Ordering::Relaxed)
}

/// Memory for a scoreboard, shared with the processes that are forked from now on. It is never
/// given back: an arbiter has one.
pub(crate) fn shared_memory() -> io::Result<&'static Memory> {
    let (size, access) = (size_of::<Memory>(), ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: a new mapping, at an address of the kernel's choice, touches no other memory.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), size, access, MapFlags::SHARED) }?;
    // SAFETY: the mapping is as large as `Memory`, aligned to a page, all zero, which is a value of
    // each of its atomics, written through atomics alone, and there until the process ends.
    Ok(unsafe { &*start.cast::<Memory>() })
}
