//! Who waits while the reactor is held is not late, and is not lost when it drains.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod common;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::turning::{
    Turning, ask, ask_in_order, clients, has_ended, ids, in_time, is_quiet, options, patient,
    target, targets,
};
use common::{read_all, read_body, respond};
use meinheld_reactor::{Event, Lifecycle, Rejection, Timeouts};

const BRIEF: Duration = Duration::from_millis(50);
/// Longer than any of a test's timeouts that are brief.
const LONG: Duration = Duration::from_millis(200);

// Nobody is late who waits

/// A new connection's first request comes while the reactor is held, and waits for longer than its
/// head may take.
fn waits_past_its_head_deadline(keep_alive: Duration) {
    let mut turning = Turning::new(options(Timeouts {
        head: BRIEF,
        keep_alive,
        ..Timeouts::default()
    }));
    let mut client = turning.accepted();
    turning.reactor.hold();
    ask(&mut client, "/waits");
    assert!(turning.pass(LONG).is_empty());
    assert!(is_quiet(&mut client));
    turning.reactor.release(1);
    let released = turning.pending();
    assert_eq!(targets(&released), ["/waits"]);
    respond(&mut turning.reactor, ids(&released)[0], "served", true);
    assert_eq!(read_body(&mut client), "served");
}

#[test]
fn a_client_that_waits_is_not_late() {
    in_time(|| waits_past_its_head_deadline(Duration::from_secs(60)));
}

#[test]
fn nor_is_it_where_connections_are_not_kept() {
    in_time(|| waits_past_its_head_deadline(Duration::ZERO));
}

#[test]
fn nor_is_one_whose_connection_was_idle_before() {
    in_time(|| {
        let mut turning = Turning::new(options(Timeouts {
            keep_alive: BRIEF,
            ..Timeouts::default()
        }));
        let mut client = turning.accepted();
        ask(&mut client, "/first");
        let first = turning.next_request();
        respond(&mut turning.reactor, first.id, "first", true);
        turning.reactor.hold();
        ask(&mut client, "/second");
        assert!(turning.pass(LONG).is_empty());
        turning.reactor.release(1);
        assert_eq!(targets(&turning.pending()), ["/second"]);
    });
}

#[test]
fn nor_is_one_that_had_begun_its_head_before() {
    in_time(|| {
        let mut turning = Turning::new(options(Timeouts {
            head: BRIEF,
            ..patient()
        }));
        let mut client = turning.accepted();
        client.write_all(b"GET /begun HTTP/1.1\r\n").unwrap();
        assert!(turning.turn().is_empty());
        turning.reactor.hold();
        client.write_all(b"Host: a\r\n\r\n").unwrap();
        assert!(turning.pass(LONG).is_empty());
        turning.reactor.release(1);
        assert_eq!(targets(&turning.pending()), ["/begun"]);
    });
}

/// It sends half a head, waits with it for longer than a head may take, and is released.
fn released_with_half_a_head(keep_alive: Duration) -> (Turning, UnixStream) {
    let mut turning = Turning::new(options(Timeouts {
        head: LONG,
        keep_alive,
        ..Timeouts::default()
    }));
    let mut client = turning.accepted();
    turning.reactor.hold();
    client.write_all(b"GET /late HTTP/1.1\r\n").unwrap();
    assert!(turning.pass(2 * LONG).is_empty());
    // Which sets the clock, as a turn does.
    turning.reactor.date();
    assert!(turning.reactor.release(1));
    (turning, client)
}

#[test]
fn after_the_release_it_has_its_whole_time_again() {
    for keep_alive in [Duration::ZERO, Duration::from_secs(60)] {
        in_time(move || {
            let (mut turning, mut client) = released_with_half_a_head(keep_alive);
            assert!(turning.pass(LONG / 2).is_empty());
            client.write_all(b"Host: a\r\n\r\n").unwrap();
            assert_eq!(target(&turning.next_request()), "/late");
        });
    }
}

#[test]
fn and_no_more_than_that() {
    for keep_alive in [Duration::ZERO, Duration::from_secs(60)] {
        in_time(move || {
            let (mut turning, mut client) = released_with_half_a_head(keep_alive);
            let events = turning.pass(2 * LONG);
            let [Event::Rejected { cause, .. }] = events.as_slice() else {
                panic!("expected it to be refused, not {events:?}");
            };
            assert!(matches!(cause, Rejection::Timeout("head")));
            assert!(read_all(&mut client).starts_with("HTTP/1.1 408 "));
        });
    }
}

// Leaving

#[test]
fn a_drain_loses_none_of_those_that_wait() {
    in_time(|| {
        let mut turning = Turning::new(options(Timeouts {
            drain_idle: BRIEF,
            ..patient()
        }));
        let mut waiting = clients(&mut turning, 3);
        let mut silent = turning.accepted();
        turning.reactor.hold();
        ask_in_order(&mut turning, &mut waiting);
        let mut outside = turning.connect();
        ask(&mut outside, "/outside");
        assert!(turning.turn().is_empty());
        turning.reactor.drain(true);
        // One that was in the backlog may come before it is released: nobody else will take it.
        let mut events = turning.pass(LONG);
        assert_eq!(read_all(&mut silent), "");
        while !turning.reactor.release(1) {
            events.extend(turning.turn());
        }
        events.extend(turning.turn());
        let mut asked = targets(&events);
        asked.sort();
        assert_eq!(asked, ["/0", "/1", "/2", "/outside"]);
        for id in ids(&events) {
            respond(&mut turning.reactor, id, "served", false);
        }
        waiting.push(outside);
        for client in &mut waiting {
            assert!(read_all(client).ends_with("served"));
        }
        drop((waiting, silent));
        turning.until_left(0);
        assert_eq!(turning.reactor.lifecycle(), Lifecycle::Gone);
        assert_eq!(turning.reactor.late_arrivals(), 0);
    });
}

#[test]
fn a_request_that_comes_between_the_drain_and_the_release_is_served() {
    in_time(|| {
        let mut turning = Turning::new(options(Timeouts {
            drain_idle: LONG,
            ..patient()
        }));
        let mut client = turning.accepted();
        turning.reactor.hold();
        turning.reactor.drain(true);
        ask(&mut client, "/between");
        assert!(turning.pass(2 * LONG).is_empty());
        turning.reactor.release(1);
        assert_eq!(targets(&turning.pending()), ["/between"]);
    });
}

#[test]
fn an_end_leaves_nobody_behind() {
    let mut turning = Turning::new(options(patient()));
    let mut client = turning.accepted();
    turning.reactor.hold();
    ask(&mut client, "/");
    assert!(turning.turn().is_empty());
    turning.reactor.end();
    assert_eq!(turning.reactor.lifecycle(), Lifecycle::Gone);
    assert!(has_ended(&mut client));
}
