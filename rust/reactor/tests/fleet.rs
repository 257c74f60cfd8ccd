//! Who leaves when: the rules by which the workers of one arbiter take turns.

use std::time::Duration;

use meinheld_reactor::{Scoreboard, Seat, Standing, Verdict};

const PATIENCE: Duration = Duration::from_secs(3600);

/// An arbiter, which numbers its workers.
struct Arbiter {
    board: Scoreboard,
    age: u64,
}

impl Arbiter {
    fn new() -> Self {
        Self {
            board: Scoreboard::new().expect("a board"),
            age: 0,
        }
    }

    fn fork<const N: usize>(&mut self) -> [Seat; N] {
        std::array::from_fn(|_| {
            self.age += 1;
            self.board.enrol(self.age).expect("a seat")
        })
    }

    /// So many that are ready.
    fn workers<const N: usize>(&mut self) -> [Seat; N] {
        let workers = self.fork();
        assert!(workers.iter().all(|worker| worker.ready()));
        workers
    }

    /// HUP: so many new ones.
    fn reload<const N: usize>(&mut self) -> [Seat; N] {
        self.board.reload(self.age + 1);
        self.fork()
    }
}

/// Old workers that were told to leave, and stay for the new ones, which boot.
fn reloading<const OLD: usize, const NEW: usize>() -> (Arbiter, [Seat; OLD], [Seat; NEW]) {
    let mut arbiter = Arbiter::new();
    let old = arbiter.workers();
    let new = arbiter.reload();
    assert_eq!(old.map(Seat::dismiss), [Verdict::Stay; OLD]);
    (arbiter, old, new)
}

fn verdict(worker: Seat) -> Verdict {
    worker.verdict(PATIENCE)
}

#[test]
fn without_successors_a_worker_leaves_at_once() {
    let [first, second] = Arbiter::new().workers();
    assert_eq!(first.dismiss(), Verdict::Leave);
    assert_eq!(second.dismiss(), Verdict::Leave);
}

#[test]
fn the_oldest_leaves_when_one_successor_is_ready_and_the_next_when_two_are() {
    let (_, old, new) = reloading::<3, 3>();
    for ready in 0..3 {
        assert_eq!(verdict(old[ready]), Verdict::Stay);
        assert!(new[ready].ready());
        assert_eq!(verdict(old[ready]), Verdict::Leave);
        old[ready].leaving();
    }
}

#[test]
fn who_leaves_does_not_depend_on_who_has_been_told_and_has_left_already() {
    let mut arbiter = Arbiter::new();
    let old: [Seat; 2] = arbiter.workers();
    let new: [Seat; 2] = arbiter.reload();
    // The younger of the two is told first, and one successor is ready before anybody is.
    assert!(new[1].ready());
    assert_eq!(old[1].dismiss(), Verdict::Stay);
    assert_eq!(old[0].dismiss(), Verdict::Leave);
    old[0].leaving();
    old[0].vacate();
    assert_eq!(verdict(old[1]), Verdict::Stay);
    assert!(new[0].ready());
    assert_eq!(verdict(old[1]), Verdict::Leave);
}

#[test]
fn of_more_workers_than_will_be_the_last_leave_when_all_new_ones_are_ready() {
    let (_, old, new) = reloading::<3, 2>();
    assert!(new[0].ready());
    assert_eq!(
        old.map(verdict),
        [Verdict::Leave, Verdict::Stay, Verdict::Stay]
    );
    assert!(new[1].ready());
    assert_eq!(old.map(verdict), [Verdict::Leave; 3]);
}

#[test]
fn of_fewer_workers_than_will_be_each_leaves_when_as_many_are_ready() {
    let (_, [old], new) = reloading::<1, 3>();
    assert!(new[2].ready());
    assert_eq!(verdict(old), Verdict::Leave);
}

#[test]
fn to_be_told_again_changes_nothing() {
    let (_, [old], [new]) = reloading();
    assert_eq!(old.dismiss(), Verdict::Stay);
    assert!(old.standing().accepts());
    assert!(new.ready());
    assert_eq!(old.dismiss(), Verdict::Leave);
}

#[test]
fn patience_ends() {
    let (_, [old], [_]) = reloading();
    assert_eq!(old.verdict(Duration::ZERO), Verdict::Leave);
}

#[test]
fn for_each_successor_that_dies_one_worker_serves_on() {
    let (_, old, new) = reloading::<2, 2>();
    new[0].vacate();
    assert_eq!(old.map(verdict), [Verdict::Stay, Verdict::Resume]);
    assert_eq!(old[1].standing(), Standing::Ready);
    // It is nobody's successor.
    assert_eq!(verdict(old[0]), Verdict::Stay);
    new[1].vacate();
    assert_eq!(verdict(old[0]), Verdict::Resume);
}

#[test]
fn a_worker_that_serves_on_leaves_on_a_stop() {
    let (mut arbiter, [old], [new]) = reloading();
    new.vacate();
    assert_eq!(verdict(old), Verdict::Resume);
    let _fails_as_well: [Seat; 1] = arbiter.fork();
    assert_eq!(old.dismiss(), Verdict::Leave);
}

#[test]
fn a_worker_that_serves_on_leaves_after_the_next_reload() {
    let (mut arbiter, [old], [fails]) = reloading();
    fails.vacate();
    assert_eq!(verdict(old), Verdict::Resume);
    let [new] = arbiter.reload();
    assert_eq!(old.dismiss(), Verdict::Stay);
    assert!(new.ready());
    assert_eq!(verdict(old), Verdict::Leave);
}

#[test]
fn a_worker_that_is_told_only_when_its_successor_has_died_serves_on() {
    let mut arbiter = Arbiter::new();
    let [old] = arbiter.workers();
    let [new] = arbiter.reload();
    new.vacate();
    assert_eq!(old.dismiss(), Verdict::Stay);
    assert_eq!(verdict(old), Verdict::Resume);
}

#[test]
fn a_stop_does_not_wait_for_a_replacement_that_boots() {
    let mut arbiter = Arbiter::new();
    let [old] = arbiter.workers();
    let _replacement: [Seat; 1] = arbiter.fork();
    assert_eq!(old.dismiss(), Verdict::Leave);
}

#[test]
fn when_everybody_is_told_everybody_leaves_whoever_is_told_first() {
    for order in [[0, 1], [1, 0]] {
        let mut arbiter = Arbiter::new();
        let old: [Seat; 2] = arbiter.workers();
        let new: [Seat; 2] = arbiter.reload();
        assert!(new[0].ready());
        assert_eq!(old[1].dismiss(), Verdict::Stay);
        for worker in order {
            assert_ne!(verdict(old[1]), Verdict::Resume);
            assert_eq!(new[worker].dismiss(), Verdict::Leave);
        }
        assert_eq!(verdict(old[1]), Verdict::Leave);
        new.into_iter().for_each(Seat::vacate);
        assert_eq!(verdict(old[1]), Verdict::Leave);
    }
}

#[test]
fn where_only_a_successor_is_told_its_worker_serves_on() {
    let (_, old, new) = reloading::<2, 2>();
    assert_eq!(new[0].dismiss(), Verdict::Leave);
    assert_eq!(old.map(verdict), [Verdict::Stay; 2]);
    new[0].vacate();
    assert_eq!(old.map(verdict), [Verdict::Stay, Verdict::Resume]);
}

#[test]
fn a_worker_that_was_told_to_leave_while_it_booted_is_never_ready() {
    let mut arbiter = Arbiter::new();
    let [worker] = arbiter.fork();
    assert_eq!(worker.dismiss(), Verdict::Leave);
    assert!(!worker.ready());
    assert!(!worker.standing().accepts());
}

#[test]
fn a_reload_within_a_reload_has_one_generation_of_successors() {
    let (mut arbiter, [first], [second]) = reloading();
    let [third] = arbiter.reload();
    assert_eq!(second.dismiss(), Verdict::Leave);
    assert_eq!(first.dismiss(), Verdict::Stay);
    second.vacate();
    assert_eq!(verdict(first), Verdict::Stay);
    assert!(third.ready());
    assert_eq!(verdict(first), Verdict::Leave);
}

#[test]
fn one_less_of_several_leaves_at_once() {
    let [oldest, _, _] = Arbiter::new().workers();
    assert_eq!(oldest.dismiss(), Verdict::Leave);
}

#[test]
fn one_worker_at_a_time_leaves_of_its_own_accord() {
    let mut arbiter = Arbiter::new();
    let [first, second] = arbiter.workers();
    assert!(first.take_leave(PATIENCE));
    assert!(first.take_leave(PATIENCE));
    assert!(!second.take_leave(PATIENCE));
    first.leaving();
    assert!(!second.take_leave(PATIENCE));
    first.vacate();
    // The arbiter has yet to fork its replacement.
    assert!(!second.take_leave(PATIENCE));
    let [replacement] = arbiter.fork();
    assert!(!second.take_leave(PATIENCE));
    assert!(replacement.ready());
    assert!(second.take_leave(PATIENCE));
}

#[test]
fn a_lease_is_free_again_when_a_worker_is_ready_that_replaces_a_later_one() {
    let mut arbiter = Arbiter::new();
    let [first, second] = arbiter.workers();
    assert!(first.take_leave(PATIENCE));
    first.vacate();
    let [dies, lives] = arbiter.fork();
    dies.vacate();
    assert!(!second.take_leave(PATIENCE));
    assert!(lives.ready());
    assert!(second.take_leave(PATIENCE));
}

#[test]
fn while_a_worker_boots_nobody_leaves_of_its_own_accord() {
    let mut arbiter = Arbiter::new();
    let [worker] = arbiter.workers();
    let [other] = arbiter.fork();
    assert!(!worker.take_leave(PATIENCE));
    assert!(other.ready());
    assert!(worker.take_leave(PATIENCE));
}

#[test]
fn a_lease_runs_out_when_nobody_comes_instead() {
    let [first, second] = Arbiter::new().workers();
    assert!(first.take_leave(PATIENCE));
    assert!(!second.take_leave(Duration::ZERO));
    first.vacate();
    assert!(!second.take_leave(PATIENCE));
    assert!(second.take_leave(Duration::ZERO));
}

#[test]
fn inside_a_reload_nobody_leaves_of_its_own_accord() {
    let mut arbiter = Arbiter::new();
    let [old] = arbiter.workers();
    let [new] = arbiter.reload();
    assert!(new.ready());
    old.leaving();
    assert!(!new.take_leave(Duration::ZERO));
    old.vacate();
    assert!(new.take_leave(PATIENCE));
}

#[test]
fn a_worker_that_serves_on_does_not_leave_of_its_own_accord() {
    let (_, [old], [new]) = reloading();
    new.vacate();
    assert_eq!(verdict(old), Verdict::Resume);
    assert!(!old.take_leave(PATIENCE));
}

#[test]
fn company_is_who_accepts() {
    let mut arbiter = Arbiter::new();
    let [worker, other] = arbiter.fork();
    assert!(!worker.has_company());
    assert!(other.ready());
    assert!(worker.has_company());
    other.leaving();
    assert!(!worker.has_company());
}

#[test]
fn a_seat_is_given_again() {
    let mut arbiter = Arbiter::new();
    let [keeps] = arbiter.workers();
    for _ in 0..3000 {
        let [seat] = arbiter.fork();
        assert!(seat.ready());
        assert!(keeps.has_company());
        seat.vacate();
        assert!(!keeps.has_company());
    }
}

#[test]
fn workers_beyond_the_seats_are_on_their_own() {
    let mut arbiter = Arbiter::new();
    let crowd: [Seat; 1025] = arbiter.workers();
    assert!(crowd[0].has_company());
    assert!(!crowd[1024].has_company());
    assert_eq!(crowd[1024].dismiss(), Verdict::Leave);
}
