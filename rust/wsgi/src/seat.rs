//! A worker's place on the scoreboard, for floor 4.

use std::time::Duration;

use meinheld_reactor::{Scoreboard as Board, Seat as Place, Standing, Verdict as Ruling};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What the workers of one arbiter know of each other.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Scoreboard(Board);

#[pymethods]
impl Scoreboard {
    /// Makes a board that processes forked from now on share.
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Board::new()?))
    }

    /// The arbiter has read its settings: the workers from `age` on come with them.
    fn reload(&self, age: u64) {
        self.0.reload(age);
    }

    /// A seat for the worker that is about to be forked: for the arbiter alone.
    fn enrol(&self, age: u64) -> PyResult<Seat> {
        if age == 0 {
            return Err(PyValueError::new_err("age: 0 is no worker's"));
        }
        Ok(Seat(self.0.enrol(age)?))
    }
}

fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("patience: {value} is not a time in seconds")))
}

/// One worker's place on the board.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Seat(pub(crate) Place);

/// What becomes of a worker that was told to leave.
#[pyclass(eq, frozen, module = "meinheld_worker._core")]
#[derive(PartialEq)]
pub enum Verdict {
    /// It accepts on, until its successors do.
    Stay,
    /// It goes.
    Leave,
    /// It serves on: its successors have died.
    Resume,
}

impl From<Ruling> for Verdict {
    fn from(ruling: Ruling) -> Self {
        match ruling {
            Ruling::Stay => Self::Stay,
            Ruling::Leave => Self::Leave,
            Ruling::Resume => Self::Resume,
        }
    }
}

#[pymethods]
impl Seat {
    /// The worker accepts from now on. False when it was told to leave before: then it must not.
    fn ready(&self) -> bool {
        self.0.ready()
    }

    /// The arbiter tells the worker to leave. A signal handler may call this.
    fn dismiss(&self) -> Verdict {
        self.0.dismiss().into()
    }

    /// Whether the worker was told to leave, and accepts until its successors do.
    #[getter]
    fn stays(&self) -> bool {
        self.0.standing() == Standing::Staying
    }

    /// What a worker that stays does next, with `patience` seconds for its successor.
    fn verdict(&self, patience: f64) -> PyResult<Verdict> {
        Ok(self.0.verdict(seconds(patience)?).into())
    }

    /// Whether the worker may leave though nobody told it to: one at a time. The arbiter forks a
    /// replacement within `patience` seconds, if it wants one.
    fn take_leave(&self, patience: f64) -> PyResult<bool> {
        Ok(self.0.take_leave(seconds(patience)?))
    }

    /// The worker accepts no more.
    fn leaving(&self) {
        self.0.leaving();
    }

    /// Whether another worker accepts.
    fn has_company(&self) -> bool {
        self.0.has_company()
    }

    /// The arbiter has reaped the worker.
    fn vacate(&self) {
        self.0.vacate();
    }
}
