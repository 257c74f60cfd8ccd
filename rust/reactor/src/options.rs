//! What a reactor is made with.

use std::path::PathBuf;
use std::time::Duration;

use meinheld_protocol::Policy;

use crate::peer::Trust;
use crate::proxy::ProxyProtocol;

/// How request bodies reach the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPolicy {
    /// A request is handed over once its body is complete.
    Whole,
    /// A request is handed over with its head; at most about this many octets of its body wait
    /// for the caller, then the client is stopped through TCP.
    Windowed(usize),
}

/// How long a client is waited for. Zero for `keep_alive` closes after each answer.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a whole request head, from its first octet, and for that octet on a new connection.
    pub head: Duration,
    /// That a body may fall behind the slowest rate that is served.
    pub body: Duration,
    /// That a client may fall behind it in taking an answer.
    pub send: Duration,
    /// For the next request on a connection (gunicorn `keepalive`).
    pub keep_alive: Duration,
    /// As `keep_alive`, once the worker drains.
    pub drain_idle: Duration,
    /// For the client's FIN after the last answer.
    pub linger: Duration,
}

impl Default for Timeouts {
    /// As nginx waits (`client_header_timeout`, `client_body_timeout`, `send_timeout`), gunicorn's
    /// `keepalive`, and gunicorn's graceful close.
    fn default() -> Self {
        Self {
            head: Duration::from_secs(60),
            body: Duration::from_secs(60),
            send: Duration::from_secs(60),
            keep_alive: Duration::from_secs(2),
            drain_idle: Duration::from_secs(2),
            linger: Duration::from_secs(2),
        }
    }
}

/// What a reactor is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What a request may look like.
    pub policy: Policy,
    /// Whom to believe.
    pub trust: Trust,
    /// Whether connections may begin with a PROXY header, and whose.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How bodies are handed over.
    pub body: BodyPolicy,
    /// Octets of one body that are kept in memory.
    pub body_memory: usize,
    /// The folder for longer bodies; the system's own where `None`.
    pub body_folder: Option<PathBuf>,
    /// How long a client is waited for.
    pub timeouts: Timeouts,
    /// Connections at once (gunicorn `worker_connections`).
    pub max_connections: usize,
    /// How long a request may wait for the application: after more it is answered with 503.
    pub queue_timeout: Option<Duration>,
    /// The product named in the Server field of the reactor's own answers.
    pub server: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            trust: Trust::Networks(Vec::new()),
            proxy_protocol: None,
            body: BodyPolicy::Whole,
            body_memory: 512 * 1024,
            body_folder: None,
            timeouts: Timeouts::default(),
            max_connections: 1000,
            queue_timeout: None,
            server: "meinheld",
        }
    }
}
