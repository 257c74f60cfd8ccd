//! The thread that sends answers which wait for each other while the application takes its time.
//!
//! It needs no interpreter, and is there from the first answer on that has waited; with nothing to
//! look after it sleeps.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use meinheld_reactor::{Reactor, block_signals};

use crate::gateway::Gateway;

/// From look to look: each interrupts the application. An answer waits for a call that takes long for twice this time at most.
const INTERVAL: Duration = Duration::from_millis(5);
/// Looks without anything that waits, after which it sleeps until it is woken, which costs more than a look.
const PATIENCE: u32 = 20;

#[derive(Default)]
pub(crate) struct Flusher {
    /// It looks. Changed with the reactor locked only.
    awake: AtomicBool,
    /// `None` where there can be no thread.
    thread: OnceLock<Option<Thread>>,
}

impl Flusher {
    /// Has the answers looked after that wait in `reactor`, the gateway's.
    pub(crate) fn rouse(&self, gateway: &Arc<Gateway>, reactor: &mut Reactor) {
        if self.awake.load(Relaxed) {
            return;
        }
        match self.thread.get_or_init(|| spawn(Arc::downgrade(gateway))) {
            Some(thread) => {
                self.awake.store(true, Relaxed);
                thread.unpark();
            }
            None => reactor.keep_apart(),
        }
    }
}

fn spawn(gateway: Weak<Gateway>) -> Option<Thread> {
    let thread = thread::Builder::new().name("meinheld-flush".into());
    let spawned = thread.spawn(move || look_after(&gateway));
    spawned.ok().map(|handle| handle.thread().clone())
}

/// Until the gateway is gone.
fn look_after(gateway: &Weak<Gateway>) {
    block_signals();
    let mut quiet = 0;
    while let Some(gateway) = gateway.upgrade() {
        let mut reactor = gateway.reactor();
        quiet = if reactor.relieve() { 0 } else { quiet + 1 };
        let sleeps = quiet >= PATIENCE;
        if sleeps {
            gateway.flusher.awake.store(false, Relaxed);
        }
        drop(reactor);
        drop(gateway);
        if sleeps {
            quiet = 0;
            thread::park();
        } else {
            thread::sleep(INTERVAL);
        }
    }
}
