//! A server of a few lines around the reactor, on a thread of its own: no interpreter anywhere.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.
#![allow(dead_code)] // Each file of tests uses a part of it.

pub mod turning;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use meinheld_reactor::{Body, Event, Lifecycle, Options, Reactor, Request};

/// What a test's application does with an event.
pub type Application = Box<dyn FnMut(&mut Reactor, Event) + Send>;

/// A running reactor.
pub struct Server {
    pub address: SocketAddr,
    /// Shared with the loop, as an application thread shares it.
    pub reactor: Arc<Mutex<Reactor>>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(options: Options, mut application: Application) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut reactor = Reactor::new(options).unwrap();
        reactor.listen(&listener).unwrap();
        let reactor = Arc::new(Mutex::new(reactor));
        let shared = Arc::clone(&reactor);
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || run(&shared, &mut application, &stopped));
        Self {
            address,
            reactor,
            stop,
            thread: Some(thread),
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Lets the loop turn.
    pub fn wake(&self) {
        let waker = self.reactor.lock().unwrap().waker();
        waker.wake();
    }

    /// Drains the reactor; returns once its loop has ended.
    pub fn drain(&mut self) {
        let _ = self.stop.send(());
        self.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain();
    }
}

fn run(reactor: &Mutex<Reactor>, application: &mut Application, stopped: &Receiver<()>) {
    loop {
        let mut locked = reactor.lock().unwrap();
        while let Some(event) = locked.poll() {
            application(&mut locked, event);
        }
        if locked.lifecycle() == Lifecycle::Gone {
            return;
        }
        let mut wait = locked.prepare_wait(Duration::from_secs(60));
        drop(locked);
        wait.run().unwrap();
        let mut reactor = reactor.lock().unwrap();
        reactor.absorb(wait);
        if stopped.try_recv().is_ok() {
            reactor.drain(true);
        }
    }
}

/// Answers each request with its method, target and body length.
pub fn echo() -> Application {
    Box::new(|reactor, event| {
        if let Event::Request(request) = event {
            answer(reactor, request);
        }
    })
}

pub fn answer(reactor: &mut Reactor, request: Request) {
    let length = match request.body {
        Body::Empty | Body::Arriving => 0,
        Body::Memory(octets) => octets.len() as u64,
        Body::File { length, .. } => length,
    };
    let method = request.head.method().escape_ascii();
    let target = request.head.target().escape_ascii();
    let text = format!("{method} {target} {length}\n");
    let keep = request.head.keep_alive() && reactor.lifecycle() == Lifecycle::Serving;
    respond(reactor, request.id, &text, keep);
}

pub fn respond(reactor: &mut Reactor, id: meinheld_reactor::ConnId, text: &str, keep: bool) {
    let connection = if keep { "keep-alive" } else { "close" };
    let length = text.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: {length}\r\n\r\n");
    reactor.write(id, &[head.as_bytes(), text.as_bytes()]);
    reactor.finish(id, keep);
}

/// Sends `request` and reads until the server closes.
pub fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).unwrap();
    read_all(stream)
}

pub fn read_all(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Reads one response with a Content-Length; returns its body.
pub fn read_body(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        head.push(octet[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}
