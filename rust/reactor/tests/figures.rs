//! What a worker counts, and what of it stays when it has gone.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::turning::Turning;
use meinheld_reactor::{InFlight, Options, Scoreboard, Seat, Snapshot, Tally};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const LIMIT: Option<Duration> = Some(Duration::from_secs(3600));

/// A worker that counts, and whose application is the test.
struct Counting {
    turning: Turning,
    in_flight: InFlight,
    board: Scoreboard,
    seat: Seat,
    tally: Tally,
}

impl Counting {
    fn on(board: Scoreboard, age: u64) -> Self {
        let seat = board.enrol(age).unwrap();
        seat.introduce();
        let tally = seat.tally(1);
        let mut turning = Turning::new(Options::default());
        turning.reactor.count(tally);
        Self {
            turning,
            in_flight: InFlight::new(1, Some(tally)),
            board,
            seat,
            tally,
        }
    }

    fn new() -> Self {
        Self::on(Scoreboard::new().unwrap(), 1)
    }

    fn now(&self) -> Snapshot {
        self.board.snapshot()
    }

    /// Serves the next request, which somebody has sent.
    fn serve(&mut self) {
        let request = self.turning.next_request();
        self.in_flight.enter(0, &request);
        let reactor = &mut self.turning.reactor;
        reactor.count_answer(request.id, ANSWER);
        reactor.write(request.id, &[ANSWER]);
        self.in_flight.leave(0);
        reactor.finish(request.id, true);
    }

    fn ask(&mut self, client: &mut UnixStream) {
        client.write_all(REQUEST).unwrap();
        self.serve();
        client.read_exact(&mut [0; ANSWER.len()]).unwrap();
    }
}

#[test]
fn a_request_moves_its_figures() {
    let mut worker = Counting::new();
    let mut client = worker.turning.accepted();
    worker.ask(&mut client);
    let totals = worker.now().totals;
    assert_eq!(totals.answers, [0, 1, 0, 0, 0]);
    assert_eq!(totals.accepted, 1);
    assert_eq!(totals.received, REQUEST.len() as u64);
    assert_eq!(totals.sent, ANSWER.len() as u64);
    assert_eq!(totals.duration.buckets.iter().sum::<u64>(), 1);
    assert_eq!(totals.queue.buckets.iter().sum::<u64>(), 1);
}

#[test]
fn a_request_that_is_refused_is_counted_and_not_timed() {
    let mut worker = Counting::new();
    let mut client = worker.turning.accepted();
    client.write_all(b"nonsense\r\n\r\n").unwrap();
    worker.turning.next();
    let totals = worker.now().totals;
    assert_eq!(totals.answers, [0, 0, 0, 1, 0]);
    assert_eq!(totals.duration.buckets.iter().sum::<u64>(), 0);
    assert!(totals.sent > 0);
}

#[test]
fn connections_are_active_or_idle() {
    let mut worker = Counting::new();
    let counts = |worker: &Counting| {
        let doing = worker.now().workers[0].doing.clone();
        (doing.active, doing.idle)
    };
    let mut client = worker.turning.accepted();
    assert_eq!(counts(&worker), (0, 1));
    client.write_all(REQUEST).unwrap();
    let request = worker.turning.next_request();
    assert_eq!(counts(&worker), (1, 0));
    worker.turning.reactor.write(request.id, &[ANSWER]);
    worker.turning.reactor.finish(request.id, true);
    assert_eq!(counts(&worker), (0, 1));
    client.shutdown(Shutdown::Both).unwrap();
    worker
        .turning
        .until(|reactor| (reactor.connections() == 0).then_some(()));
    assert_eq!(counts(&worker), (0, 0));
}

#[test]
fn a_request_in_flight_is_seen_with_its_age() {
    let mut worker = Counting::new();
    let mut client = worker.turning.accepted();
    client.write_all(REQUEST).unwrap();
    let request = worker.turning.next_request();
    worker.in_flight.enter(0, &request);
    let doing = worker.now().workers[0].doing.clone();
    assert_eq!(doing.in_flight, 1);
    let later = worker.now().workers[0].doing.clone();
    assert!(later.oldest >= doing.oldest && later.busy >= doing.busy);
    worker.in_flight.leave(0);
    let doing = worker.now().workers[0].doing.clone();
    assert_eq!((doing.in_flight, doing.oldest), (0, None));
}

#[test]
fn what_an_ended_worker_has_counted_stays() {
    let mut worker = Counting::new();
    let mut client = worker.turning.accepted();
    worker.ask(&mut client);
    let before = worker.now().totals;
    worker.seat.vacate();
    let after = worker.now();
    assert_eq!(after.totals, before);
    assert!(after.workers.is_empty());
    // Whoever gets the seat begins with nothing, and adds to it.
    let mut next = Counting::on(worker.board, 2);
    assert_eq!(next.now().totals, before);
    assert_eq!(next.now().workers[0].doing.answers, [0; 5]);
    assert_eq!(next.now().workers[0].doing.idle, 0);
    let mut client = next.turning.accepted();
    next.ask(&mut client);
    assert_eq!(next.now().totals.answers, [0, 2, 0, 0, 0]);
    assert_eq!(next.now().started, 2);
}

#[test]
fn one_killed_in_the_middle_of_a_request_leaves_none_in_flight() {
    let mut worker = Counting::new();
    let mut client = worker.turning.accepted();
    client.write_all(REQUEST).unwrap();
    let request = worker.turning.next_request();
    worker.in_flight.enter(0, &request);
    worker.seat.vacate();
    let next = Counting::on(worker.board, 2);
    assert_eq!(next.now().workers[0].doing.in_flight, 0);
}

#[test]
fn workers_are_told_the_oldest_first() {
    let board = Scoreboard::new().unwrap();
    let first = board.enrol(1).unwrap();
    let second = board.enrol(2).unwrap();
    first.vacate();
    let third = board.enrol(3).unwrap();
    assert!(second.ready());
    third.introduce();
    second.introduce();
    let standings: Vec<_> = board
        .snapshot()
        .workers
        .iter()
        .map(|w| w.standing)
        .collect();
    assert_eq!(standings, [second.standing(), third.standing()]);
}

#[test]
fn the_fleet_is_ready_while_one_accepts_and_alive_until_the_last_has_gone() {
    let worker = Counting::new();
    let state = || {
        let now = worker.now();
        (now.is_ready(LIMIT), now.is_alive(LIMIT))
    };
    assert_eq!(state(), (false, false));
    assert!(worker.seat.ready());
    assert_eq!(state(), (true, true));
    worker.seat.leaving();
    assert_eq!(state(), (false, true));
    worker.seat.vacate();
    assert_eq!(state(), (false, false));
}

#[test]
fn a_heart_that_is_silent_for_too_long_is_no_sign_of_life() {
    let worker = Counting::new();
    assert!(worker.seat.ready());
    let mut now = worker.now();
    now.workers[0].doing.silent = 3001;
    let limit = Some(Duration::from_secs(3));
    assert_eq!((now.is_ready(limit), now.is_alive(limit)), (false, false));
    // Without gunicorn's timeout it may be as silent as it likes.
    assert_eq!((now.is_ready(None), now.is_alive(None)), (true, true));
    now.workers[0].doing.silent = 3000;
    assert_eq!((now.is_ready(limit), now.is_alive(limit)), (true, true));
    worker.tally.beat();
    assert!(worker.now().workers[0].doing.silent < 3000);
}
