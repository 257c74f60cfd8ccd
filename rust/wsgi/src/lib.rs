//! Floor 3: the WSGI gateway, the extension module `meinheld_worker._core`.
//!
//! It owns the loop: it pulls events out of the reactor, builds `environ`, calls the application,
//! and answers. What it knows of gunicorn is the `face` object that floor 4 hands it.

// `std` features that floor 1 must not ask for itself; see Cargo.toml.
use {httparse as _, memchr as _};

use pyo3::prelude::*;

mod arriving;
mod body;
mod callables;
mod disconnected;
mod environ;
mod exchange;
mod face;
mod facts;
mod failure;
mod ffi;
mod flusher;
mod gateway;
mod given;
mod green;
mod green_request;
mod green_turns;
mod input;
mod names;
mod objects;
mod options;
mod outgoing;
mod pool;
mod recent;
mod report;
mod seat;
mod serve;
mod shed;
mod socket;
mod status;
mod telling;
mod watchdog;
mod watcher;
mod way;
mod websocket;
mod websocket_channel;
mod worker;

/// The native half of the meinheld worker.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::callables::EarlyHints;
    #[pymodule_export]
    use crate::callables::StartResponse;
    #[pymodule_export]
    use crate::callables::Write;
    #[pymodule_export]
    use crate::disconnected::Disconnected;
    #[pymodule_export]
    use crate::facts::Fields;
    #[pymodule_export]
    use crate::green_request::Served;
    #[pymodule_export]
    use crate::green_turns::Turns;
    #[pymodule_export]
    use crate::input::Input;
    #[pymodule_export]
    use crate::options::Options;
    #[pymodule_export]
    use crate::seat::Scoreboard;
    #[pymodule_export]
    use crate::seat::Seat;
    #[pymodule_export]
    use crate::seat::Verdict;
    #[pymodule_export]
    use crate::socket::ClientSocket;
    #[pymodule_export]
    use crate::status::Status;
    #[pymodule_export]
    use crate::websocket::WebSocket;
    #[pymodule_export]
    use crate::worker::Loop;
}
