//! Floor 2: sockets, readiness, deadlines, spooling and drain.
//!
//! The [`Reactor`] is *pulled*: [`Reactor::poll`] yields what happened, the caller answers through
//! [`ConnId`] handles, and [`Reactor::prepare_wait`] hands out the wait so that it can run with no
//! borrow held. It calls nobody back, so an application that re-enters it finds nothing borrowed.
//!
//! ```no_run
//! # use meinheld_reactor::{Event, Reactor, Options};
//! # fn main() -> std::io::Result<()> {
//! let mut reactor = Reactor::new(Options::default())?;
//! loop {
//!     while let Some(event) = reactor.poll() {
//!         if let Event::Request(request) = event {
//!             reactor.write(request.id, &[b"HTTP/1.1 204 No Content\r\n\r\n"]);
//!             reactor.finish(request.id, true);
//!         }
//!     }
//!     let mut wait = reactor.prepare_wait(std::time::Duration::from_secs(1));
//!     wait.run()?;
//!     reactor.absorb(wait);
//! }
//! # }
//! ```

mod accept;
mod answer;
mod balance;
mod clock;
mod deadline;
mod departed;
mod drain;
mod ending;
mod event;
mod exposition;
mod figures;
mod foreign;
mod hold;
mod idle;
mod in_flight;
mod lease;
mod options;
mod outbox;
mod peer;
pub mod proxy;
mod reactor;
mod receive;
mod scoreboard;
mod selector;
mod shed;
mod snapshot;
mod spool;
mod status;
mod succession;
mod sys;
mod timers;
mod together;
mod transport;
mod waker;
mod window;

mod client;

pub use accept::Listener;
pub use answer::{Progress, Stage};
pub use clock::uptime;
pub use drain::Lifecycle;
pub use ending::Detached;
pub use event::{ConnId, Event, ForeignId, Rejection, Request, TimerId};
pub use exposition::{Beside, exposition};
pub use figures::{BOUNDS, Doing, Histogram, Tally, Totals};
pub use in_flight::{Fate, InFlight, Record};
pub use options::{BodyPolicy, Options, Timeouts};
pub use outbox::{Payload, Segment};
pub use peer::{Peer, Trust};
pub use reactor::Reactor;
pub use scoreboard::{Scoreboard, Seat, Standing};
pub use selector::{Readiness, Wait};
pub use snapshot::{Snapshot, Worker};
pub use spool::Body;
pub use status::Status;
pub use succession::Verdict;
pub use sys::{HandledSignal, Process, SignalMask, block_signals, local_time, watch_forks};
pub use waker::Waker;
pub use window::{BodyFault, BodyPart};
