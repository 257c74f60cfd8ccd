//! The reactor over real sockets, with an application in Rust.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use common::{Server, answer, echo, exchange, read_all, read_body, respond};
use meinheld_reactor::{
    BodyPart, BodyPolicy, Event, Options, Progress, Request, Segment, Stage, Timeouts,
};

fn impatient() -> Options {
    let brief = Duration::from_millis(50);
    let timeouts = Timeouts {
        head: brief,
        body: brief,
        keep_alive: brief,
        ..Timeouts::default()
    };
    Options {
        timeouts,
        ..Options::default()
    }
}

#[test]
fn a_request_is_answered_and_the_connection_kept() {
    let server = Server::start(Options::default(), echo());
    let mut client = server.connect();
    for target in ["/one", "/two"] {
        write!(client, "GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read_body(&mut client), format!("GET {target} 0\n"));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Options::default(), echo());
    let mut client = server.connect();
    let requests: String = (0..500)
        .map(|n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"))
        .collect();
    let mut sender = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || sender.write_all(requests.as_bytes()).unwrap());
    for n in 0..500 {
        assert_eq!(read_body(&mut client), format!("POST /{n} 5\n"));
    }
    sending.join().unwrap();
}

#[test]
fn a_body_longer_than_memory_is_spooled_to_a_file() {
    let options = Options {
        body_memory: 1000,
        ..Options::default()
    };
    let server = Server::start(
        options,
        Box::new(|reactor, event| {
            if let Event::Request(request) = event {
                assert!(matches!(request.body, meinheld_reactor::Body::File { .. }));
                answer(reactor, request);
            }
        }),
    );
    let mut client = server.connect();
    let body = vec![b'x'; 3_000_000];
    write!(
        client,
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    client.write_all(&body).unwrap();
    assert_eq!(read_body(&mut client), "PUT / 3000000\n");
}

#[test]
fn a_half_closed_client_is_answered() {
    let server = Server::start(Options::default(), echo());
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut client).ends_with("GET / 0\n"));
}

#[test]
fn what_is_no_request_is_refused_once_and_the_connection_closed() {
    let server = Server::start(Options::default(), echo());
    let mut client = server.connect();
    let answer = exchange(
        &mut client,
        b"GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[test]
fn a_stalled_head_is_answered_408() {
    let server = Server::start(impatient(), echo());
    let answer = exchange(&mut server.connect(), b"GET / HTTP/1.1\r\nHost:");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn a_stalled_body_is_answered_408() {
    let server = Server::start(impatient(), echo());
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf";
    let answer = exchange(&mut server.connect(), request);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn a_silent_connection_is_closed_without_a_word() {
    let server = Server::start(impatient(), echo());
    assert_eq!(read_all(&mut server.connect()), "");
}

#[test]
fn an_answer_to_a_slow_reader_waits_for_room() {
    let server = Server::start(
        Options::default(),
        Box::new(|reactor, event| match event {
            Event::Request(request) => {
                let body = vec![b'y'; 30_000_000];
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                reactor.queue_segment(request.id, Segment::Bytes(head.into_bytes()));
                reactor.queue_segment(request.id, Segment::Bytes(body));
                assert_eq!(reactor.flush(request.id), Progress::Pending);
                reactor.want_room(request.id, 0);
            }
            Event::Room(id) => reactor.finish(id, false),
            _ => {}
        }),
    );
    let mut client = server.connect();
    let answer = exchange(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        answer.split("\r\n\r\n").nth(1).map(str::len),
        Some(30_000_000)
    );
}

#[test]
fn a_file_is_sent_by_the_kernel_without_moving_its_position() {
    let server = Server::start(
        Options::default(),
        Box::new(|reactor, event| {
            if let Event::Request(request) = event {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(b"0123456789").unwrap();
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
                reactor.queue_segment(request.id, Segment::Bytes(head.to_vec()));
                let part = Segment::File {
                    file,
                    offset: 3,
                    remaining: 4,
                };
                reactor.queue_segment(request.id, part);
                reactor.flush(request.id);
                reactor.finish(request.id, false);
            }
        }),
    );
    let answer = exchange(&mut server.connect(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n3456"), "{answer}");
}

#[test]
fn a_windowed_body_is_handed_over_as_it_arrives() {
    let options = Options {
        body: BodyPolicy::Windowed(1000),
        ..Options::default()
    };
    let mut seen = 0;
    let server = Server::start(
        options,
        Box::new(move |reactor, event| match event {
            Event::Request(Request { id, .. }) | Event::BodyReady(id) => loop {
                match reactor.take_body(id) {
                    BodyPart::Octets(octets) => seen += octets.len(),
                    BodyPart::End => return respond(reactor, id, &format!("{seen}\n"), true),
                    BodyPart::Later => return,
                    other => panic!("{other:?}"),
                }
            },
            _ => {}
        }),
    );
    let mut client = server.connect();
    client
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 500000\r\n\r\n",
        )
        .unwrap();
    let mut interim = [0; 25];
    client.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(&vec![b'z'; 500_000]).unwrap();
    assert_eq!(read_body(&mut client), "500000\n");
}

#[test]
fn another_thread_can_finish_an_answer() {
    let (ids, given) = std::sync::mpsc::channel();
    let server = Server::start(
        Options::default(),
        Box::new(move |_, event| {
            if let Event::Request(request) = event {
                ids.send(request.id).unwrap();
            }
        }),
    );
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let id = given.recv().unwrap();
    respond(&mut server.reactor.lock().unwrap(), id, "late", true);
    assert_eq!(read_body(&mut client), "late");
}

#[test]
fn a_detached_connection_yields_what_was_read_ahead() {
    let (taken, given) = std::sync::mpsc::channel();
    let server = Server::start(
        Options::default(),
        Box::new(move |reactor, event| {
            if let Event::Request(request) = event {
                taken.send(reactor.detach(request.id).unwrap()).unwrap();
            }
        }),
    );
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nraw bytes")
        .unwrap();
    let detached = given.recv().unwrap();
    assert_eq!(detached.leftover, b"raw bytes");
    let mut socket = std::net::TcpStream::from(detached.socket);
    socket.write_all(b"raw answer").unwrap();
    drop(socket);
    assert_eq!(read_all(&mut client), "raw answer");
}

/// A server whose requests are given to the test.
fn handing_over() -> (Server, std::sync::mpsc::Receiver<meinheld_reactor::ConnId>) {
    let (ids, given) = std::sync::mpsc::channel();
    let hand_over = Box::new(move |_: &mut _, event| {
        if let Event::Request(Request { id, .. }) = event {
            let _ = ids.send(id);
        }
    });
    (Server::start(Options::default(), hand_over), given)
}

#[test]
fn to_whoever_has_a_request_that_was_denied_its_client_has_gone() {
    let (server, given) = handing_over();
    let mut client = server.connect();
    client
        .write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let id = given.recv().unwrap();
    let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nlate";
    {
        let mut reactor = server.reactor.lock().unwrap();
        assert_eq!(reactor.stage(id), Stage::Awaited);
        reactor.deny(id, answer.as_bytes());
        assert_eq!(reactor.stage(id), Stage::Gone);
        assert_eq!(reactor.write(id, &[b"too late"]), Progress::Gone);
        reactor.finish(id, true);
    }
    assert_eq!(read_all(&mut client), answer);
    // What it had sent behind is not served.
    assert!(given.try_recv().is_err());
}

#[test]
fn what_is_denied_beside_a_body_that_still_comes_reaches_its_client() {
    let (server, given) = handing_over();
    let mut client = server.connect();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
    client.write_all(head).unwrap();
    client.write_all(b"ab").unwrap();
    let id = given.recv().unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    server
        .reactor
        .lock()
        .unwrap()
        .deny(id, b"HTTP/1.1 503 \r\n\r\n");
    // A reset would destroy it.
    assert_eq!(read_all(&mut client), "HTTP/1.1 503 \r\n\r\n");
}

#[test]
fn a_timer_comes_once_and_not_early() {
    let (ticks, given) = std::sync::mpsc::channel();
    let mut asked = None;
    let server = Server::start(
        Options::default(),
        Box::new(move |reactor, event| match event {
            Event::Request(request) => {
                asked = Some((
                    reactor.set_timer(Duration::from_millis(30)),
                    std::time::Instant::now(),
                ));
                answer(reactor, request);
            }
            Event::Timer(id) => {
                let (timer, since) = asked.unwrap();
                ticks.send((id == timer, since.elapsed())).unwrap();
            }
            _ => {}
        }),
    );
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let (ours, elapsed) = given.recv().unwrap();
    assert!(ours);
    assert!(elapsed >= Duration::from_millis(30), "{elapsed:?}");
}

#[test]
fn a_descriptor_of_the_callers_is_reported_while_it_is_ready() {
    let (reports, given) = std::sync::mpsc::channel();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut source = reader.try_clone().unwrap();
    let mut watched = None;
    let server = Server::start(
        Options::default(),
        Box::new(move |reactor, event| match event {
            Event::Request(request) => {
                watched = Some(reactor.watch(&reader, true, false).unwrap());
                answer(reactor, request);
            }
            Event::Foreign(id, readiness) => {
                assert_eq!(Some(id), watched);
                reports.send(readiness.readable).unwrap();
                let mut octet = [0];
                source.read_exact(&mut octet).unwrap();
                if octet == *b"!" {
                    reactor.unwatch(id);
                    reports.send(false).unwrap();
                }
            }
            _ => {}
        }),
    );
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    read_body(&mut client);
    writer.write_all(b"a!b").unwrap();
    let reported: Vec<bool> = (0..3).map(|_| given.recv().unwrap()).collect();
    assert_eq!(reported, [true, true, false]);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    read_body(&mut client);
}
