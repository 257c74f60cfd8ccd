//! How workers that share a listener share its connections.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use meinheld_reactor::{Options, Reactor, Scoreboard, Seat};

/// Workers of one arbiter, which turn when they are told to.
struct Workers {
    board: Scoreboard,
    address: SocketAddr,
    reactors: Vec<Reactor>,
    seats: Vec<Seat>,
}

impl Workers {
    fn new(count: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let board = Scoreboard::new().unwrap();
        let mut workers = Self {
            board,
            address: listener.local_addr().unwrap(),
            reactors: Vec::new(),
            seats: Vec::new(),
        };
        for age in 1..=count {
            let seat = board.enrol(age).unwrap();
            let mut reactor = Reactor::new(Options::default()).unwrap();
            reactor.listen(&listener).unwrap();
            reactor.sit(seat);
            assert!(seat.ready());
            workers.reactors.push(reactor);
            workers.seats.push(seat);
            // It watches the listener from its first wait on.
            workers.turn(age as usize - 1);
        }
        workers
    }

    /// One turn of one worker, which waits for `patience` at most.
    fn turn_for(&mut self, worker: usize, patience: Duration) {
        let reactor = &mut self.reactors[worker];
        while reactor.poll().is_some() {}
        let mut wait = reactor.prepare_wait(patience);
        wait.run().unwrap();
        reactor.absorb(wait);
    }

    fn turn(&mut self, worker: usize) {
        self.turn_for(worker, Duration::ZERO);
    }

    fn connect<const N: usize>(&self) -> [TcpStream; N] {
        std::array::from_fn(|_| TcpStream::connect(self.address).unwrap())
    }

    fn connections(&self) -> Vec<usize> {
        self.reactors.iter().map(Reactor::connections).collect()
    }
}

#[test]
fn a_worker_takes_no_more_than_two_beyond_the_others() {
    let mut workers = Workers::new(2);
    let _clients: [TcpStream; 9] = workers.connect();
    workers.turn(0);
    workers.turn(0);
    assert_eq!(workers.connections(), [2, 0]);
}

#[test]
fn all_take_as_many() {
    let mut workers = Workers::new(3);
    let _clients: [TcpStream; 30] = workers.connect();
    for worker in [0, 1, 2].into_iter().cycle() {
        workers.turn(worker);
        if workers.connections().iter().sum::<usize>() == 30 {
            break;
        }
    }
    // Where the machine stood still meanwhile, who was next could not wait for the others.
    let counts = workers.connections();
    assert!(
        counts.iter().all(|count| (8..=12).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn a_worker_with_fewer_catches_up() {
    let mut workers = Workers::new(2);
    workers.seats[1].leaving();
    let _first: [TcpStream; 8] = workers.connect();
    workers.turn(0);
    assert_eq!(workers.connections(), [8, 0]);
    workers.seats[1] = workers.board.enrol(3).unwrap();
    assert!(workers.seats[1].ready());
    workers.reactors[1].sit(workers.seats[1]);
    let _second: [TcpStream; 8] = workers.connect();
    for _ in 0..3 {
        // The one woken takes what it was woken for, and no more.
        workers.turn(0);
        workers.turn(1);
    }
    assert_eq!(workers.connections(), [9, 7]);
}

#[test]
fn what_nobody_else_takes_is_taken_a_moment_later() {
    let mut workers = Workers::new(2);
    let _clients: [TcpStream; 5] = workers.connect();
    // The other one waits all the time, as far as anybody can see.
    while workers.connections() != [5, 0] {
        workers.turn_for(0, Duration::from_secs(5));
    }
}

#[test]
fn a_worker_that_accepts_nothing_is_not_waited_for() {
    let mut workers = Workers::new(2);
    workers.seats[1].leaving();
    let _clients: [TcpStream; 5] = workers.connect();
    workers.turn(0);
    assert_eq!(workers.connections(), [5, 0]);
}
