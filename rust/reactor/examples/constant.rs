//! The reactor without Python: every request gets the same answer. What meinheld costs above this is the gateway and
//! the application; what this costs above `bare_loop` is HTTP, with its limits and deadlines.
//!
//! `benchmarks/` measures every server against it. It prints the address that it listens on and serves until it is
//! killed.
//!
//!     cargo run --release --example constant

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use meinheld_protocol::encode::{RequestTraits, ResponseHead};
use meinheld_reactor::{Event, Options, Reactor};
use socket2::SockRef;

const BODY: &[u8] = b"Hello, world!\n";

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    // As gunicorn's listeners, from which connections inherit it.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    println!("{}", listener.local_addr()?);
    let mut reactor = Reactor::new(Options::default())?;
    reactor.listen(listener)?;
    let mut storage = Vec::new();
    loop {
        while let Some(event) = reactor.poll() {
            let Event::Request(request) = event else {
                continue;
            };
            let (id, traits) = (request.id, RequestTraits::from(&*request.head));
            reactor.recycle(request.head);
            let date = reactor.date();
            let may_persist = reactor.begin_answer(id);
            let encoded = ResponseHead::start(storage, traits, b"200 OK", "meinheld")
                .and_then(|mut head| {
                    head.field(b"Content-Type", b"text/plain")?;
                    head.field(b"Content-Length", b"14")?;
                    Ok(head.finish(&date, may_persist))
                })
                .map_err(io::Error::other)?;
            storage = encoded.head;
            storage.extend_from_slice(BODY);
            reactor.answer(id, &storage, encoded.persistent);
        }
        let mut wait = reactor.prepare_wait(Duration::from_secs(1));
        wait.run()?;
        reactor.absorb(wait);
    }
}
