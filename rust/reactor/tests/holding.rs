//! Backpressure: what goes on while the reactor is held, what waits, and who comes first when it is
//! released.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use common::turning::{
    Turning, ask, ask_in_order, clients, ids, is_quiet, options, patient, target, targets,
};
use common::{read_all, read_body, respond};
use meinheld_reactor::{BodyPart, BodyPolicy, Event, Options, Progress, Segment};

const BRIEF: Duration = Duration::from_millis(50);

// What waits

#[test]
fn while_held_no_connection_is_accepted() {
    let mut turning = Turning::new(options(patient()));
    turning.reactor.hold();
    let mut client = turning.connect();
    ask(&mut client, "/");
    // Some of the reactor's pauses in accepting end meanwhile.
    assert!(turning.pass(BRIEF).is_empty());
    assert_eq!(turning.reactor.connections(), 0);
    assert!(turning.reactor.release(1));
    assert_eq!(target(&turning.next_request()), "/");
}

#[test]
fn while_held_no_request_is_yielded_that_was_not_read_before() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 3);
    turning.reactor.hold();
    ask_in_order(&mut turning, &mut clients);
    assert!(turning.pass(BRIEF).is_empty());
    assert!(clients.iter_mut().all(is_quiet));
}

#[test]
fn a_connection_that_waits_costs_no_turns() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    turning.reactor.hold();
    ask(&mut client, "/");
    assert!(turning.turn().is_empty());
    // The listeners apart, which are looked at now and then, nothing is ready.
    let mut wait = turning.reactor.prepare_wait(Duration::from_secs(60));
    assert!(wait.may_block());
    wait.run().unwrap();
    turning.reactor.absorb(wait);
    assert!(turning.pending().is_empty());
}

#[test]
fn a_pipelined_request_waits_behind_the_one_that_is_answered() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    ask(&mut client, "/first");
    ask(&mut client, "/second");
    let first = turning.next_request();
    turning.reactor.hold();
    respond(&mut turning.reactor, first.id, "first", true);
    assert_eq!(read_body(&mut client), "first");
    assert!(turning.pass(BRIEF).is_empty());
    turning.reactor.release(1);
    assert_eq!(targets(&turning.pending()), ["/second"]);
}

#[test]
fn the_rest_of_a_head_waits_too() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    client.write_all(b"GET /half HTTP/1.1\r\n").unwrap();
    assert!(turning.turn().is_empty());
    turning.reactor.hold();
    client.write_all(b"Host: a\r\n\r\n").unwrap();
    assert!(turning.pass(BRIEF).is_empty());
    turning.reactor.release(1);
    assert_eq!(targets(&turning.pending()), ["/half"]);
}

// What goes on

#[test]
fn a_request_that_was_read_before_is_still_yielded() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    ask(&mut client, "/read");
    let mut wait = turning.reactor.prepare_wait(Duration::ZERO);
    wait.run().unwrap();
    turning.reactor.absorb(wait);
    turning.reactor.hold();
    assert_eq!(targets(&turning.pending()), ["/read"]);
}

#[test]
fn an_answer_that_was_begun_is_sent_to_its_end() {
    const SIZE: usize = 8 << 20;
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    ask(&mut client, "/");
    let id = turning.next_request().id;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
    turning.reactor.write(id, &[head.as_bytes()]);
    turning
        .reactor
        .queue_segment(id, Segment::Bytes(vec![b'x'; SIZE]));
    assert_eq!(turning.reactor.flush(id), Progress::Pending);
    assert_eq!(turning.reactor.want_room(id, 0), Progress::Pending);
    turning.reactor.hold();
    let reading = std::thread::spawn(move || read_body(&mut client).len());
    assert!(matches!(turning.next(), Event::Room(of) if of == id));
    turning.reactor.finish(id, true);
    assert_eq!(reading.join().unwrap(), SIZE);
}

#[test]
fn a_body_that_was_begun_arrives() {
    let mut turning = Turning::new(Options {
        body: BodyPolicy::Windowed(1000),
        ..options(patient())
    });
    let mut client = turning.accepted();
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nfir")
        .unwrap();
    let id = turning.next_request().id;
    turning.reactor.hold();
    assert!(matches!(turning.reactor.take_body(id), BodyPart::Octets(octets) if octets == b"fir"));
    assert!(matches!(turning.reactor.take_body(id), BodyPart::Later));
    client.write_all(b"st.").unwrap();
    assert!(matches!(turning.next(), Event::BodyReady(of) if of == id));
    assert!(matches!(turning.reactor.take_body(id), BodyPart::Octets(octets) if octets == b"st."));
    assert!(matches!(turning.reactor.take_body(id), BodyPart::End));
}

#[test]
fn a_client_that_leaves_while_it_is_answered_is_noticed() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    ask(&mut client, "/");
    let id = turning.next_request().id;
    // A turn, so that it is watched.
    assert!(turning.turn().is_empty());
    turning.reactor.hold();
    drop(client);
    assert!(matches!(turning.next(), Event::Gone(of) if of == id));
}

// Who comes first

#[test]
fn a_release_lets_as_many_come_as_it_says_those_first_that_have_waited_longest() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 5);
    turning.reactor.hold();
    ask_in_order(&mut turning, &mut clients);
    assert!(!turning.reactor.release(2));
    assert_eq!(targets(&turning.pending()), ["/0", "/1"]);
    assert!(turning.pass(BRIEF).is_empty());
    assert!(!turning.reactor.release(2));
    assert_eq!(targets(&turning.pending()), ["/2", "/3"]);
    assert!(turning.reactor.release(2));
    assert_eq!(targets(&turning.pending()), ["/4"]);
}

#[test]
fn what_is_not_taken_yet_does_not_count_as_released() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 4);
    turning.reactor.hold();
    ask_in_order(&mut turning, &mut clients);
    assert!(!turning.reactor.release(1));
    assert!(!turning.reactor.release(1));
    assert_eq!(targets(&turning.pending()), ["/0", "/1"]);
}

#[test]
fn once_none_waits_everything_goes_on_as_before() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 2);
    turning.reactor.hold();
    ask_in_order(&mut turning, &mut clients);
    assert!(turning.reactor.release(3));
    let released = turning.pending();
    assert_eq!(targets(&released), ["/0", "/1"]);
    for (id, client) in ids(&released).into_iter().zip(&mut clients) {
        respond(&mut turning.reactor, id, "done", true);
        assert_eq!(read_body(client), "done");
        ask(client, "/again");
        assert_eq!(target(&turning.next_request()), "/again");
    }
    let mut late = turning.connect();
    ask(&mut late, "/late");
    assert_eq!(target(&turning.next_request()), "/late");
}

#[test]
fn half_a_head_takes_no_place_of_a_request() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 2);
    turning.reactor.hold();
    clients[0].write_all(b"GET /half HTTP/1.1\r\n").unwrap();
    assert!(turning.turn().is_empty());
    ask(&mut clients[1], "/whole");
    assert!(turning.turn().is_empty());
    assert!(!turning.reactor.release(1));
    assert_eq!(targets(&turning.pending()), ["/whole"]);
    // It is still held, and the rest waits for the next release.
    clients[0].write_all(b"Host: a\r\n\r\n").unwrap();
    assert!(turning.pass(BRIEF).is_empty());
    turning.reactor.release(1);
    assert_eq!(targets(&turning.pending()), ["/half"]);
}

#[test]
fn a_head_that_comes_in_pieces_gets_its_turn_although_others_wait_for_ever() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 2);
    clients[0].write_all(b"GET /pieces HTTP/1.1\r\n").unwrap();
    assert!(turning.turn().is_empty());
    turning.reactor.hold();
    clients[0].write_all(b"Host: a\r\n\r\n").unwrap();
    assert!(turning.turn().is_empty());
    for _ in 0..3 {
        ask(&mut clients[1], "/busy");
        assert!(turning.turn().is_empty());
        turning.reactor.release(1);
        let events = turning.pending();
        if targets(&events) == ["/pieces"] {
            return;
        }
        respond(&mut turning.reactor, ids(&events)[0], "done", true);
        assert_eq!(read_body(&mut clients[1]), "done");
    }
    panic!("others are served again and again, and it is not");
}

#[test]
fn what_is_no_request_is_refused_when_it_is_released_and_takes_no_place() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 2);
    turning.reactor.hold();
    clients[0].write_all(b"nonsense\r\n\r\n").unwrap();
    assert!(turning.turn().is_empty());
    assert!(is_quiet(&mut clients[0]));
    ask(&mut clients[1], "/whole");
    assert!(turning.turn().is_empty());
    turning.reactor.release(2);
    let events = turning.pending();
    assert!(matches!(events[0], Event::Rejected { .. }), "{events:?}");
    assert_eq!(targets(&events[1..]), ["/whole"]);
    assert!(read_all(&mut clients[0]).starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_client_that_half_closes_while_it_waits_is_answered() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    turning.reactor.hold();
    ask(&mut client, "/half-closed");
    client.shutdown(Shutdown::Write).unwrap();
    assert!(turning.pass(BRIEF).is_empty());
    turning.reactor.release(1);
    let id = ids(&turning.pending())[0];
    respond(&mut turning.reactor, id, "done", true);
    assert_eq!(read_body(&mut client), "done");
    // Its FIN is read when it is its turn again.
    assert!(turning.turn().is_empty());
    turning.reactor.release(1);
    turning.until_left(0);
    assert_eq!(read_all(&mut client), "");
}

#[test]
fn a_client_that_ends_an_idle_connection_takes_no_place() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 2);
    turning.reactor.hold();
    clients[0].shutdown(Shutdown::Write).unwrap();
    assert!(turning.turn().is_empty());
    ask(&mut clients[1], "/asks");
    assert!(turning.turn().is_empty());
    turning.reactor.release(1);
    assert_eq!(targets(&turning.pending()), ["/asks"]);
    assert_eq!(read_all(&mut clients[0]), "");
}

#[test]
fn nor_does_one_that_has_gone() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 3);
    turning.reactor.hold();
    // Nothing that could be answered.
    clients[0].write_all(b"GET /gone HTTP/1.1\r\n").unwrap();
    assert!(turning.turn().is_empty());
    ask(&mut clients[1], "/stays");
    assert!(turning.turn().is_empty());
    drop(clients.remove(0));
    assert!(turning.pass(BRIEF).is_empty());
    assert!(!turning.reactor.release(1));
    assert_eq!(targets(&turning.pending()), ["/stays"]);
    assert!(turning.reactor.release(1));
    turning.until_left(2);
}

#[test]
fn nor_does_one_that_has_gone_behind_its_request() {
    let mut turning = Turning::new(options(patient()));
    let mut clients = clients(&mut turning, 2);
    turning.reactor.hold();
    ask_in_order(&mut turning, &mut clients);
    drop(clients.remove(0));
    assert!(turning.pass(BRIEF).is_empty());
    turning.reactor.release(1);
    assert_eq!(targets(&turning.pending()), ["/1"]);
}
