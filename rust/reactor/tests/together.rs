//! Answers that leave together: what they wait for, and what they do not.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod common;

use std::io::Write;
use std::time::Duration;

use common::turning::{Turning, clients, is_quiet, options, patient, target};
use common::{read_all, read_body};
use meinheld_reactor::{ConnId, Event, Progress, Reactor, Request};

const TWO: &[u8] = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn answer(reactor: &mut Reactor, request: &Request) {
    assert_eq!(reactor.answer(request.id, ANSWER, true), Progress::Accepted);
}

fn next(reactor: &mut Reactor) -> Option<Request> {
    match reactor.poll()? {
        Event::Request(request) => Some(request),
        other => panic!("no request but {other:?}"),
    }
}

/// Tries `test` until it says that the reactor's coarse clock stood still in it: an answer waits no longer.
fn while_the_clock_stands(test: impl Fn() -> bool) {
    assert!((0..100).any(|_| test()), "the clock moved a hundred times");
}

#[test]
fn an_answer_waits_for_that_of_the_next_request() {
    while_the_clock_stands(|| {
        let mut turning = Turning::new(options(patient()));
        let mut client = turning.accepted();
        client.write_all(TWO).unwrap();
        let first = turning.next_request();
        answer(&mut turning.reactor, &first);
        let second = next(&mut turning.reactor).unwrap();
        assert_eq!(target(&second), "/2");
        let waited = is_quiet(&mut client);
        answer(&mut turning.reactor, &second);
        assert_eq!(
            (read_body(&mut client), read_body(&mut client)),
            ("ok".into(), "ok".into())
        );
        waited
    });
}

#[test]
fn it_waits_for_no_turn() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    client.write_all(TWO).unwrap();
    let first = turning.next_request();
    answer(&mut turning.reactor, &first);
    drop(turning.reactor.prepare_wait(Duration::ZERO));
    assert_eq!(read_body(&mut client), "ok");
    assert_eq!(target(&turning.next_request()), "/2");
}

#[test]
fn a_client_that_pipelines_gives_way_to_others_between_two_turns() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 2);
    clients[0].write_all(TWO).unwrap();
    let first = turning.next_request();
    clients[1].write_all(TWO).unwrap();
    turning.look(Duration::ZERO);
    answer(&mut turning.reactor, &first);
    drop(turning.reactor.prepare_wait(Duration::ZERO));
    let order: Vec<ConnId> = std::iter::from_fn(|| next(&mut turning.reactor))
        .map(|request| request.id)
        .collect();
    assert_eq!(order.len(), 2);
    assert_eq!(order[1], first.id);
}

#[test]
fn an_abort_takes_no_whole_answer_back() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    client.write_all(TWO).unwrap();
    let first = turning.next_request();
    answer(&mut turning.reactor, &first);
    let second = next(&mut turning.reactor).unwrap();
    turning.reactor.abort(second.id);
    assert_eq!(read_body(&mut client), "ok");
}

#[test]
fn the_last_answer_ends_the_connection() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let request = turning.next_request();
    let progress = turning.reactor.answer(request.id, ANSWER, false);
    assert_eq!(progress, Progress::Accepted);
    assert_eq!(read_all(&mut client).as_bytes(), ANSWER);
    assert_eq!(turning.reactor.connections(), 0);
}
