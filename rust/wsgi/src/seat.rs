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

    /// A seat for the worker that is about to be forked: for the arbiter alone.
    fn enrol(&self, age: u64, generation: u64) -> PyResult<Seat> {
        if age == 0 {
            return Err(PyValueError::new_err("age: 0 is no worker's"));
        }
        Ok(Seat(self.0.enrol(age, generation)?))
    }
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
    /// The worker runs, as this process.
    fn begin(&self) {
        self.0.begin(std::process::id());
    }

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

    /// What a worker that stays does next, with `patience` seconds for its successors.
    fn verdict(&self, patience: f64) -> PyResult<Verdict> {
        let patience = Duration::try_from_secs_f64(patience)
            .map_err(|_| PyValueError::new_err(format!("patience: {patience} is no time")))?;
        Ok(self.0.verdict(patience).into())
    }

    /// Whether the worker may leave though nobody told it to: one at a time.
    fn take_leave(&self) -> bool {
        self.0.take_leave()
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
