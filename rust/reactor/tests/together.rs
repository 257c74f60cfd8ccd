//! Answers that leave together: what they wait for, and what they do not.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod common;

use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::turning::{Turning, ask, clients, is_quiet, options, patient, target};
use common::{read_all, read_body};
use meinheld_reactor::{ConnId, Event, Progress, Reactor, Request, Segment};

const TWO: &[u8] = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn answer(reactor: &mut Reactor, request: &Request) {
    assert_eq!(reactor.answer(request.id, ANSWER, true), Progress::Accepted);
}

fn next(reactor: &mut Reactor) -> Option<Request> {
    match reactor.poll()? {
        Event::Request(request) => {
            call(Duration::from_micros(40));
            Some(request)
        }
        other => panic!("no request but {other:?}"),
    }
}

fn answer_next(turning: &mut Turning) {
    let request = next(&mut turning.reactor).unwrap();
    answer(&mut turning.reactor, &request);
}

/// A client that has sent two requests at once, of which the first is answered.
fn first_of_two() -> (Turning, UnixStream) {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    client.write_all(TWO).unwrap();
    let first = turning.next_request();
    answer(&mut turning.reactor, &first);
    (turning, client)
}

/// Takes as long as a call that lasts this long.
fn call(lasts: Duration) {
    let began = Instant::now();
    while began.elapsed() < lasts {
        std::hint::spin_loop();
    }
}

/// Tries `test` until it says that the reactor's coarse clock stood still in it: an answer waits no longer.
fn while_the_clock_stands(test: impl Fn() -> bool) {
    assert!((0..100).any(|_| test()), "the clock moved a hundred times");
}

/// Sixteen calls are timed together: with the thirty-second it is known that they are short.
const FEW: usize = 31;
/// Clients of which some ask when calls are many, and another one is to follow.
const MANY: usize = FEW + 3;

/// A reactor on which short calls are many: each of these clients but those from `FEW` on has asked and has
/// its answer; the requests of those are at hand. The one with the number `FEW` sends `special`.
fn many(special: &[u8]) -> (Turning, Vec<UnixStream>) {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, MANY);
    ask_at_once(&mut turning, &mut clients, special);
    for client in &mut clients[..FEW] {
        answer_next(&mut turning);
        assert_eq!(read_body(client), "ok");
    }
    (turning, clients)
}

/// All of them have asked when the reactor looks.
fn ask_at_once(turning: &mut Turning, clients: &mut [UnixStream], special: &[u8]) {
    for (number, client) in clients.iter_mut().enumerate() {
        match number {
            FEW => client.write_all(special).unwrap(),
            _ => ask(client, "/"),
        }
    }
    turning.look(Duration::ZERO);
}

fn get() -> Vec<u8> {
    b"GET /special HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()
}

/// Whether an answer to `special` leaves at once while calls are many, and one to a GET, the next, does
/// not. `false` where the clock moved.
fn leaves_alone(special: &[u8], answer_to_it: &[u8]) -> bool {
    let (mut turning, mut clients) = many(special);
    let request = next(&mut turning.reactor).unwrap();
    turning.reactor.answer(request.id, answer_to_it, true);
    assert!(!is_quiet(&mut clients[FEW]));
    answer_next(&mut turning);
    is_quiet(&mut clients[FEW + 1])
}

/// The first answer of two, which waits, comes before what `then` does about the second request, of
/// which the client then gets `after`.
fn assert_first(then: impl Fn(&mut Reactor, ConnId), after: &[u8]) {
    while_the_clock_stands(|| {
        let (mut turning, mut client) = first_of_two();
        let waits = turning.reactor.has_waiting();
        let second = next(&mut turning.reactor).unwrap();
        let waits = waits && turning.reactor.has_waiting();
        then(&mut turning.reactor, second.id);
        assert_eq!(read_body(&mut client), "ok");
        let mut octets = vec![0; after.len()];
        client.read_exact(&mut octets).unwrap();
        assert_eq!(octets, after);
        waits
    });
}

#[test]
fn an_answer_waits_for_that_of_the_next_request() {
    while_the_clock_stands(|| {
        let (mut turning, mut client) = first_of_two();
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
    let (mut turning, mut client) = first_of_two();
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
    let (mut turning, mut client) = first_of_two();
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

#[test]
fn answers_to_several_clients_wait_while_calls_are_many() {
    while_the_clock_stands(|| {
        let (mut turning, mut clients) = many(&get());
        for _ in 0..2 {
            answer_next(&mut turning);
        }
        let last = next(&mut turning.reactor).unwrap();
        let waited = clients[FEW..].iter_mut().all(is_quiet);
        answer(&mut turning.reactor, &last);
        // No request is at hand.
        assert!(next(&mut turning.reactor).is_none());
        for client in &mut clients[FEW..] {
            assert_eq!(read_body(client), "ok");
        }
        waited
    });
}

#[test]
fn an_answer_leaves_at_once_while_calls_are_few() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, FEW);
    ask_at_once(&mut turning, &mut clients, b"");
    while let Some(request) = next(&mut turning.reactor) {
        answer(&mut turning.reactor, &request);
        assert!(!turning.reactor.has_waiting());
    }
    for client in &mut clients {
        assert_eq!(read_body(client), "ok");
    }
}

#[test]
fn answers_leave_at_once_between_longer_calls() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 2 * MANY);
    ask_at_once(&mut turning, &mut clients, &get());
    while let Some(request) = next(&mut turning.reactor) {
        call(Duration::from_micros(300));
        answer(&mut turning.reactor, &request);
        assert!(!turning.reactor.has_waiting());
    }
}

#[test]
fn an_answer_behind_which_no_request_is_at_hand_leaves_at_once() {
    let (mut turning, mut clients) = many(&get());
    for client in &mut clients[FEW..] {
        client.set_nonblocking(true).unwrap();
    }
    let mut last = None;
    while let Some(request) = next(&mut turning.reactor) {
        answer(&mut turning.reactor, &request);
        last = Some(clients[MANY - 1].read(&mut [0]).is_ok());
    }
    assert_eq!(last, Some(true));
}

#[test]
fn the_answer_to_a_request_that_changes_something_does_not_wait() {
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    while_the_clock_stands(|| leaves_alone(post, ANSWER));
}

#[test]
fn a_long_answer_does_not_wait() {
    let body = "x".repeat(16 * 1024);
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n{body}");
    while_the_clock_stands(|| leaves_alone(&get(), long.as_bytes()));
}

#[test]
fn an_answer_whose_request_has_more_of_its_body_to_come_does_not_wait() {
    let options = meinheld_reactor::Options {
        body: meinheld_reactor::BodyPolicy::Windowed(1024),
        ..options(patient())
    };
    while_the_clock_stands(|| {
        let mut turning = Turning::new(options.clone());
        let mut clients = clients(&mut turning, MANY);
        let unread = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx";
        ask_at_once(&mut turning, &mut clients, unread);
        let mut waited = false;
        for number in 0..MANY {
            answer_next(&mut turning);
            assert!(number != FEW || !is_quiet(&mut clients[FEW]));
            waited |= number > FEW && turning.reactor.has_waiting();
        }
        waited
    });
}

#[test]
fn the_answer_to_a_client_that_has_ended_its_side_leaves_alone() {
    while_the_clock_stands(|| {
        let mut turning = Turning::new(options(patient()));
        let mut clients = clients(&mut turning, MANY);
        ask(&mut clients[FEW], "/");
        turning.look(Duration::ZERO);
        clients[FEW].shutdown(Shutdown::Write).unwrap();
        ask_at_once(&mut turning, &mut clients[..FEW], b"");
        for client in &mut clients[FEW + 1..] {
            ask(client, "/");
        }
        turning.look(Duration::ZERO);
        // Its own comes first, and goes behind enough others for calls to be many.
        let ended = next(&mut turning.reactor).unwrap();
        for _ in 0..FEW {
            answer_next(&mut turning);
        }
        answer(&mut turning.reactor, &ended);
        assert_eq!(read_all(&mut clients[FEW]).as_bytes(), ANSWER);
        turning.reactor.has_waiting()
    });
}

#[test]
fn behind_a_call_that_goes_on_from_look_to_look_answers_leave() {
    while_the_clock_stands(|| {
        let (mut turning, mut clients) = many(&get());
        answer_next(&mut turning);
        let _long = next(&mut turning.reactor).unwrap();
        let waited = turning.reactor.has_waiting();
        assert!(turning.reactor.relieve() || !waited);
        let waits_on = is_quiet(&mut clients[FEW]);
        assert!(!turning.reactor.relieve());
        assert!(!turning.reactor.has_waiting());
        // Where it left before, an octet of it was read.
        if waits_on {
            assert_eq!(read_body(&mut clients[FEW]), "ok");
        }
        waited && waits_on
    });
}

#[test]
fn behind_short_calls_answers_wait_on_from_look_to_look() {
    while_the_clock_stands(|| {
        let (mut turning, mut clients) = many(&get());
        for _ in 0..2 {
            answer_next(&mut turning);
            turning.reactor.relieve();
        }
        let _third = next(&mut turning.reactor).unwrap();
        turning.reactor.relieve();
        is_quiet(&mut clients[FEW])
    });
}

#[test]
fn after_a_long_call_none_waits_for_a_while() {
    // That the while is over is tried again, too.
    while_the_clock_stands(|| {
        let (mut turning, mut clients) = many(&get());
        answer_next(&mut turning);
        let second = next(&mut turning.reactor).unwrap();
        let waited = turning.reactor.has_waiting();
        turning.reactor.relieve();
        turning.reactor.relieve();
        answer(&mut turning.reactor, &second);
        let last_but_one = &mut clients[MANY - 2];
        waited && !is_quiet(last_but_one)
    });
}

#[test]
fn kept_apart_no_answer_waits() {
    while_the_clock_stands(|| {
        let (mut turning, mut clients) = many(&get());
        answer_next(&mut turning);
        let waited = is_quiet(&mut clients[FEW]);
        turning.reactor.keep_apart();
        assert!(!turning.reactor.has_waiting());
        answer_next(&mut turning);
        assert_eq!(read_body(&mut clients[FEW + 1]), "ok");
        if waited {
            assert_eq!(read_body(&mut clients[FEW]), "ok");
        }
        waited
    });
}

#[test]
fn what_is_written_early_comes_behind_an_answer_that_waits() {
    assert_first(
        |reactor, id| assert_eq!(reactor.write(id, &[b"early"]), Progress::Accepted),
        b"early",
    );
    assert_first(
        |reactor, id| assert_eq!(reactor.try_write(id, &[IoSlice::new(b"early")]), Some(5)),
        b"early",
    );
}

#[test]
fn what_is_queued_comes_behind_an_answer_that_waits() {
    assert_first(
        |reactor, id| {
            reactor.queue_segment(id, Segment::Bytes(b"queued".to_vec()));
            reactor.flush(id);
        },
        b"queued",
    );
}

#[test]
fn an_answer_that_waits_leaves_before_the_connection_is_given_away() {
    assert_first(
        |reactor, id| {
            let detached = reactor.detach(id).unwrap();
            UnixStream::from(detached.socket)
                .write_all(b"taken")
                .unwrap();
        },
        b"taken",
    );
}

#[test]
fn an_answer_that_waits_leaves_before_others_write_to_the_descriptor() {
    assert_first(
        |reactor, id| {
            reactor.descriptor(id).unwrap();
            assert!(!reactor.has_waiting());
        },
        b"",
    );
}

#[test]
fn an_answer_that_waits_leaves_before_all_connections_end() {
    while_the_clock_stands(|| {
        let (mut turning, mut clients) = many(&get());
        answer_next(&mut turning);
        let waited = turning.reactor.has_waiting();
        turning.reactor.end();
        assert_eq!(read_body(&mut clients[FEW]), "ok");
        waited
    });
}

/// A client that has taken nothing yet of so many octets: the kernel has no room for the last answer,
/// which waited.
struct Stuck {
    turning: Turning,
    client: UnixStream,
    octets: usize,
}

impl Stuck {
    /// `None` where the clock moved.
    fn new() -> Option<Self> {
        let body = "x".repeat(16_000);
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n{body}");
        let mut turning = Turning::new(options(patient()));
        let mut clients = clients(&mut turning, MANY);
        let (mut octets, mut stuck, mut waited) = (0, false, false);
        while !stuck {
            ask_at_once(&mut turning, &mut clients, &get());
            octets += long.len();
            for _ in 0..MANY {
                let request = next(&mut turning.reactor).unwrap();
                if target(&request) != "/special" {
                    answer(&mut turning.reactor, &request);
                    continue;
                }
                turning.reactor.answer(request.id, long.as_bytes(), true);
                waited = turning.reactor.has_waiting();
                drop(turning.reactor.prepare_wait(Duration::ZERO));
                stuck = turning.reactor.want_room(request.id, 0) == Progress::Pending;
            }
            assert!(next(&mut turning.reactor).is_none());
            for (number, client) in clients.iter_mut().enumerate() {
                assert!(number == FEW || read_body(client) == "ok");
            }
        }
        waited.then(|| Self {
            turning,
            client: clients.remove(FEW),
            octets,
        })
    }

    /// Takes all that is there for it.
    fn read_all(&mut self) {
        let mut piece = vec![0; 1 << 20];
        while self.octets > 0 {
            let taken = self.client.read(&mut piece).unwrap();
            assert!(taken > 0, "{} octets are lost", self.octets);
            self.octets -= taken;
            self.turning.look(Duration::ZERO);
        }
    }
}

#[test]
fn a_client_that_ends_its_side_loses_nothing_of_an_answer_that_waited() {
    while_the_clock_stands(|| {
        let Some(mut stuck) = Stuck::new() else {
            return false;
        };
        stuck.client.shutdown(Shutdown::Write).unwrap();
        stuck.turning.look(Duration::ZERO);
        stuck.read_all();
        assert_eq!(read_all(&mut stuck.client), "");
        true
    });
}

#[test]
fn a_client_that_reads_an_answer_late_that_waited_may_ask_again() {
    while_the_clock_stands(|| {
        let Some(mut stuck) = Stuck::new() else {
            return false;
        };
        stuck.read_all();
        ask(&mut stuck.client, "/again");
        stuck.turning.look(Duration::ZERO);
        let events = stuck.turning.pending();
        let again =
            |event: &Event| matches!(event, Event::Request(request) if target(request) == "/again");
        assert!(events.iter().any(again), "{events:?}");
        true
    });
}
