//! Bodies that are handed over as they arrive: taking them, what is wrong with them, and what
//! becomes of those that nobody takes.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::turning::{Turning, ask, has_ended, in_time, is_quiet, target, targets};
use common::{read_all, read_body, respond};
use meinheld_reactor::{BodyFault, BodyPart, BodyPolicy, ConnId, Event, Options, Timeouts};

const BRIEF: Duration = Duration::from_millis(50);
const WINDOW: usize = 256 * 1024;
/// Octets of a body that nobody takes which are read, for the sake of the connection.
const DISCARDED: usize = 64 * 1024;
const CHUNKED: &str = "Transfer-Encoding: chunked";

fn windowed(body: Duration) -> Turning {
    Turning::new(Options {
        body: BodyPolicy::Windowed(WINDOW),
        timeouts: Timeouts {
            body,
            keep_alive: Duration::from_secs(60),
            ..Timeouts::default()
        },
        ..Options::default()
    })
}

fn patient() -> Turning {
    windowed(Duration::from_secs(60))
}

/// Sends a head with this field line and the beginning of a body; the request has come.
fn begin(turning: &mut Turning, field: &str, body: &[u8]) -> (UnixStream, ConnId) {
    let mut client = turning.accepted();
    write!(client, "POST /body HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").unwrap();
    client.write_all(body).unwrap();
    let id = turning.next_request().id;
    (client, id)
}

/// Sends more octets than a socket's buffers hold, while the reactor turns.
fn pour(turning: &mut Turning, client: &mut UnixStream, octets: Vec<u8>) {
    let mut sender = client.try_clone().unwrap();
    // It fails when the reactor wants no more of them.
    let sending = std::thread::spawn(move || drop(sender.write_all(&octets)));
    while !sending.is_finished() {
        assert!(turning.pass(Duration::from_millis(1)).is_empty());
    }
    assert!(turning.turn().is_empty());
}

fn octets(part: BodyPart) -> Vec<u8> {
    match part {
        BodyPart::Octets(octets) => octets,
        other => panic!("expected octets, not {other:?}"),
    }
}

fn fault(part: BodyPart) -> BodyFault {
    match part {
        BodyPart::Failed(fault) => fault,
        other => panic!("expected a failure, not {other:?}"),
    }
}

fn code(fault: &BodyFault) -> Option<u16> {
    fault.status.map(|status| status.code)
}

// Taking a body

#[test]
fn a_whole_body_can_be_taken_when_nothing_of_it_is_missing() {
    for (field, first, rest) in [
        ("Content-Length: 9", "four", " five"),
        (CHUNKED, "4\r\nfour\r\n", "5\r\n five\r\n0\r\n\r\n"),
    ] {
        let mut turning = patient();
        let (mut client, id) = begin(&mut turning, field, first.as_bytes());
        assert_eq!(turning.reactor.take_whole_body(id), None);
        client.write_all(rest.as_bytes()).unwrap();
        let body = turning.until(|reactor| reactor.take_whole_body(id));
        assert_eq!(body, b"four five");
        assert!(matches!(turning.reactor.take_body(id), BodyPart::End));
    }
}

#[test]
fn asking_for_the_whole_of_an_incomplete_body_takes_nothing() {
    let mut turning = patient();
    let (_client, id) = begin(&mut turning, "Content-Length: 9", b"four");
    assert_eq!(turning.reactor.take_whole_body(id), None);
    assert_eq!(octets(turning.reactor.take_body(id)), b"four");
}

#[test]
fn of_a_body_that_was_taken_in_part_the_whole_is_the_rest() {
    let mut turning = patient();
    let (mut client, id) = begin(&mut turning, "Content-Length: 9", b"four");
    assert_eq!(octets(turning.reactor.take_body(id)), b"four");
    client.write_all(b" five").unwrap();
    let rest = turning.until(|reactor| reactor.take_whole_body(id));
    assert_eq!(rest, b" five");
}

#[test]
fn a_body_that_went_wrong_is_never_whole() {
    let mut turning = patient();
    let (_client, id) = begin(&mut turning, CHUNKED, b"4\r\nfour\r\nnonsense\r\n");
    assert_eq!(turning.reactor.take_whole_body(id), None);
}

#[test]
fn nobody_is_told_of_octets_that_he_does_not_wait_for() {
    let mut turning = patient();
    let (mut client, id) = begin(&mut turning, "Content-Length: 9", b"");
    client.write_all(b"four").unwrap();
    assert!(turning.turn().is_empty());
    assert_eq!(octets(turning.reactor.take_body(id)), b"four");
    assert!(matches!(turning.reactor.take_body(id), BodyPart::Later));
    client.write_all(b" five").unwrap();
    assert!(matches!(turning.next(), Event::BodyReady(of) if of == id));
}

// What is wrong with it

#[test]
fn a_malformed_body_has_a_fault_behind_what_was_right() {
    let mut turning = patient();
    let (mut client, id) = begin(&mut turning, CHUNKED, b"4\r\nfour\r\n");
    assert_eq!(turning.reactor.body_fault(id), None);
    client.write_all(b"nonsense\r\n").unwrap();
    assert!(turning.turn().is_empty());
    let seen = turning.reactor.body_fault(id).unwrap();
    assert_eq!(code(&seen), Some(400));
    assert_eq!(octets(turning.reactor.take_body(id)), b"four");
    // The caller decides what the client is told.
    assert_eq!(fault(turning.reactor.take_body(id)), seen);
    assert_eq!(turning.reactor.body_fault(id), Some(seen));
    assert!(is_quiet(&mut client));
}

#[test]
fn a_body_that_is_cut_off_has_a_fault_that_nobody_is_left_to_be_told() {
    for (field, first) in [("Content-Length: 9", "four"), (CHUNKED, "9\r\nfour")] {
        let mut turning = patient();
        let (client, id) = begin(&mut turning, field, first.as_bytes());
        client.shutdown(Shutdown::Write).unwrap();
        assert!(turning.turn().is_empty());
        let seen = turning.reactor.body_fault(id).unwrap();
        assert_eq!(code(&seen), None);
        assert_eq!(octets(turning.reactor.take_body(id)), b"four");
        assert_eq!(fault(turning.reactor.take_body(id)), seen);
    }
}

#[test]
fn a_body_that_is_waited_for_in_vain_has_a_fault() {
    let mut turning = windowed(BRIEF);
    let (mut client, id) = begin(&mut turning, "Content-Length: 9", b"");
    assert!(turning.pass(2 * BRIEF).is_empty());
    // Nobody has waited for it yet.
    assert_eq!(turning.reactor.body_fault(id), None);
    assert!(matches!(turning.reactor.take_body(id), BodyPart::Later));
    assert!(matches!(turning.next(), Event::BodyReady(of) if of == id));
    assert_eq!(code(&fault(turning.reactor.take_body(id))), Some(408));
    assert!(is_quiet(&mut client));
}

#[test]
fn the_other_requests_have_none() {
    let mut turning = patient();
    let mut client = turning.accepted();
    ask(&mut client, "/no-body");
    let id = turning.next_request().id;
    assert_eq!(turning.reactor.body_fault(id), None);
    assert!(matches!(turning.reactor.take_body(id), BodyPart::End));
    respond(&mut turning.reactor, id, "done", false);
    drop(client);
    turning.until_left(0);
    assert_eq!(turning.reactor.body_fault(id), None);
    assert!(matches!(turning.reactor.take_body(id), BodyPart::Gone));
}

#[test]
fn behind_a_fault_no_further_request_is_served() {
    let mut turning = patient();
    let body = b"nonsense\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut client, id) = begin(&mut turning, CHUNKED, body);
    assert!(!turning.reactor.begin_answer(id));
    respond(&mut turning.reactor, id, "done", true);
    assert!(turning.turn().is_empty());
    assert!(read_all(&mut client).ends_with("done"));
}

// What nobody takes

#[test]
fn the_rest_of_a_body_is_dropped_and_the_next_request_served() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = smuggled.len();
    let chunk = format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
    let field = format!("Content-Length: {length}");
    for (field, body) in [(field.as_str(), smuggled), (CHUNKED, chunk.as_str())] {
        for arrived in [0, 10] {
            let mut turning = patient();
            let (before, after) = body.as_bytes().split_at(arrived);
            let (mut client, id) = begin(&mut turning, field, before);
            assert!(turning.reactor.begin_answer(id));
            respond(&mut turning.reactor, id, "done", true);
            assert_eq!(read_body(&mut client), "done");
            assert!(turning.turn().is_empty());
            client.write_all(after).unwrap();
            ask(&mut client, "/next");
            assert_eq!(target(&turning.next_request()), "/next");
        }
    }
}

#[test]
fn so_it_is_up_to_64_kib() {
    let mut turning = patient();
    let (mut client, id) = begin(&mut turning, &format!("Content-Length: {DISCARDED}"), b"");
    assert!(turning.reactor.begin_answer(id));
    respond(&mut turning.reactor, id, "done", true);
    pour(&mut turning, &mut client, vec![b'x'; DISCARDED]);
    ask(&mut client, "/next");
    assert_eq!(target(&turning.next_request()), "/next");
    assert_eq!(read_body(&mut client), "done");
}

#[test]
fn where_more_is_to_come_the_connection_ends_with_the_answer() {
    let mut turning = patient();
    let field = format!("Content-Length: {}", DISCARDED + 1);
    let (mut client, id) = begin(&mut turning, &field, b"");
    assert!(!turning.reactor.begin_answer(id));
    respond(&mut turning.reactor, id, "done", true);
    assert!(read_all(&mut client).ends_with("done"));
}

#[test]
fn it_ends_with_the_64_kib_where_nobody_knows_how_much_is_to_come() {
    let mut turning = patient();
    let (mut client, id) = begin(&mut turning, CHUNKED, b"");
    assert!(turning.reactor.begin_answer(id));
    respond(&mut turning.reactor, id, "done", true);
    let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
    pour(&mut turning, &mut client, chunk.repeat(64));
    assert_eq!(read_body(&mut client), "done");
    assert!(has_ended(&mut client));
}

#[test]
fn a_client_that_waits_to_be_told_to_send_it_is_not_waited_for() {
    let mut turning = patient();
    let fields = "Content-Length: 4\r\nExpect: 100-continue";
    let (mut client, id) = begin(&mut turning, fields, b"");
    assert!(!turning.reactor.begin_answer(id));
    respond(&mut turning.reactor, id, "done", true);
    assert!(read_all(&mut client).ends_with("done"));
}

#[test]
fn a_rest_that_stalls_is_given_up_without_a_word() {
    in_time(|| {
        let mut turning = windowed(BRIEF);
        let (mut client, id) = begin(&mut turning, "Content-Length: 9", b"four");
        respond(&mut turning.reactor, id, "done", true);
        turning.until_left(0);
        assert!(read_all(&mut client).ends_with("done"));
    });
}

#[test]
fn a_rest_that_is_malformed_ends_the_connection_without_a_word() {
    let mut turning = patient();
    let (mut client, id) = begin(&mut turning, CHUNKED, b"4\r\nfour\r\n");
    respond(&mut turning.reactor, id, "done", true);
    client.write_all(b"nonsense\r\n").unwrap();
    ask(&mut client, "/smuggled");
    assert!(turning.turn().is_empty());
    assert!(read_all(&mut client).ends_with("done"));
}

#[test]
fn a_client_that_goes_meanwhile_is_nobodys_concern() {
    let mut turning = patient();
    let (client, id) = begin(&mut turning, "Content-Length: 9", b"four");
    respond(&mut turning.reactor, id, "done", true);
    drop(client);
    turning.until_left(0);
}

#[test]
fn a_rest_is_dropped_while_the_reactor_is_held_and_the_next_request_waits() {
    let mut turning = patient();
    let (mut client, id) = begin(&mut turning, "Content-Length: 9", b"four");
    turning.reactor.hold();
    respond(&mut turning.reactor, id, "done", true);
    assert_eq!(read_body(&mut client), "done");
    client.write_all(b" five").unwrap();
    assert!(turning.turn().is_empty());
    ask(&mut client, "/next");
    assert!(turning.pass(BRIEF).is_empty());
    turning.reactor.release(1);
    assert_eq!(targets(&turning.pending()), ["/next"]);
}

#[test]
fn a_write_that_meets_the_end_of_a_connection_tells_that_its_client_has_gone() {
    let mut turning = patient();
    let (client, id) = begin(&mut turning, "Content-Length: 10", b"01234");
    drop(client);
    let written = turning
        .reactor
        .try_write(id, &[std::io::IoSlice::new(b"octets")]);
    assert_eq!(written, None);
    // Whoever waits for its body would wait for ever otherwise.
    let events = turning.pending();
    assert!(
        matches!(events[..], [Event::Gone(gone)] if gone == id),
        "{events:?}"
    );
}
