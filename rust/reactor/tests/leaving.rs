//! Draining, capacity, and clients that vanish.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod common;

use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{Server, echo, exchange, read_all, read_body, respond};
use meinheld_reactor::{Event, Options, Segment, Timeouts};

#[test]
fn a_drain_answers_what_is_in_flight_and_refuses_the_rest() {
    let (ids, given) = channel();
    let mut server = Server::start(
        Options::default(),
        Box::new(move |reactor, event| {
            if let Event::Request(request) = event {
                ids.send(()).unwrap();
                // The drain begins while this request is being answered.
                respond(reactor, request.id, "done\n", false);
            }
        }),
    );
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    given.recv().unwrap();
    server.drain();
    assert!(read_all(&mut client).ends_with("done\n"));
    assert!(std::net::TcpStream::connect(server.address).is_err());
}

#[test]
fn a_connection_that_waits_in_the_backlog_is_served_before_leaving() {
    let mut server = Server::start(Options::default(), echo());
    let mut client = server.connect();
    client
        .write_all(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    server.drain();
    assert!(read_all(&mut client).ends_with("GET /late 0\n"));
}

#[test]
fn at_capacity_the_oldest_idle_connection_makes_room() {
    let options = Options {
        max_connections: 2,
        ..Options::default()
    };
    let server = Server::start(options, echo());
    let mut oldest = server.connect();
    let mut other = server.connect();
    for client in [&mut oldest, &mut other] {
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        read_body(client);
    }
    let mut third = server.connect();
    let answer = exchange(
        &mut third,
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.ends_with("GET / 0\n"));
    assert_eq!(read_all(&mut oldest), "");
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(read_body(&mut other), "GET / 0\n");
}

/// Sends `requests`, resets while the first is being answered, and waits to be reported gone.
fn reset_while_answered(requests: &[u8]) {
    let (events, given) = channel();
    let server = Server::start(
        Options::default(),
        Box::new(move |_, event| match event {
            Event::Request(_) => events.send("request").unwrap(),
            Event::Gone(_) => events.send("gone").unwrap(),
            _ => {}
        }),
    );
    let mut client = server.connect();
    client.write_all(requests).unwrap();
    assert_eq!(given.recv().unwrap(), "request");
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    assert_eq!(given.recv().unwrap(), "gone");
}

#[test]
fn a_client_that_resets_while_it_is_answered_is_reported_gone() {
    reset_while_answered(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a_client_that_resets_behind_a_full_buffer_is_reported_gone() {
    reset_while_answered(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4000));
}

#[test]
fn patience_begins_when_the_answer_is_complete() {
    let (_never, pause) = channel::<()>();
    let keep_alive = Duration::from_millis(900);
    let timeouts = Timeouts {
        keep_alive,
        ..Timeouts::default()
    };
    let options = Options {
        timeouts,
        ..Options::default()
    };
    let server = Server::start(
        options,
        Box::new(move |reactor, event| {
            if let Event::Request(request) = event {
                // An application that takes longer than an idle connection may.
                let _ = pause.recv_timeout(keep_alive + Duration::from_millis(100));
                respond(reactor, request.id, "done\n", true);
            }
        }),
    );
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(read_body(&mut client), "done\n");
    // The loop turns, and looks at its timers.
    server.wake();
    client
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let kind = client.read(&mut [0]).unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::WouldBlock);
}

#[test]
fn an_answer_that_is_cut_off_by_the_end_does_not_look_complete() {
    let mut server = Server::start(
        Options::default(),
        Box::new(|reactor, event| {
            if let Event::Request(request) = event {
                let answer = b"HTTP/1.0 200 OK\r\n\r\n".iter().copied();
                let endless = answer
                    .chain(std::iter::repeat_n(b'x', 30_000_000))
                    .collect();
                reactor.queue_segment(request.id, Segment::Bytes(endless));
                reactor.flush(request.id);
                reactor.finish(request.id, false);
                reactor.end();
            }
        }),
    );
    let mut client = server.connect();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    server.drain();
    let mut answer = Vec::new();
    let kind = client.read_to_end(&mut answer).unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
}
