//! The least that serving a request can cost: one `epoll_wait` for whoever is ready, one `recv` and one `send` each,
//! and a look for the blank line that ends a head. No limits, no deadlines, no parsing, no Python.
//!
//! `benchmarks/` measures every server against it. It prints the address that it listens on and serves until it is
//! killed. Requests that are received together are answered together.
//!
//!     cargo run --release --example bare_loop

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use memchr::memmem::Finder;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use slab::Slab;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: bare\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
Content-Type: text/plain\r\nContent-Length: 14\r\nConnection: keep-alive\r\n\r\nHello, world!\n";
/// Stands for the listener among the connections' indices.
const LISTENER: u64 = u64::MAX;
/// Octets received at once.
const BUFFER: usize = 16 * 1024;
/// Ready descriptors taken from one wait.
const BATCH: usize = 256;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let readable = epoll::EventFlags::IN;
    epoll::add(
        &poller,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        readable,
    )?;
    let mut clients: Slab<OwnedFd> = Slab::new();
    let mut input = vec![0; BUFFER];
    let mut output = Vec::new();
    let head_end = Finder::new(b"\r\n\r\n");
    loop {
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        let (ready, _) = epoll::wait(&poller, &mut room, None)?;
        for event in ready.iter() {
            let data = event.data.u64();
            if data == LISTENER {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                if let Ok(client) = rustix::net::accept_with(&listener, flags) {
                    let entry = clients.vacant_entry();
                    let data = epoll::EventData::new_u64(entry.key() as u64);
                    epoll::add(&poller, &client, data, readable)?;
                    entry.insert(client);
                }
                continue;
            }
            let Some(client) = clients.get(data as usize) else {
                continue;
            };
            let received = match rustix::net::recv(client, &mut input[..], RecvFlags::empty()) {
                Ok((_, received)) => received,
                Err(Errno::AGAIN) => continue,
                Err(_) => 0,
            };
            output.clear();
            for _ in head_end.find_iter(&input[..received]) {
                output.extend_from_slice(ANSWER);
            }
            let sent = received > 0
                && (output.is_empty()
                    || rustix::net::send(client, &output, SendFlags::NOSIGNAL).is_ok());
            if !sent {
                clients.remove(data as usize);
            }
        }
    }
}
