//! The reactor's door for other threads: commands in, and a wake-up.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::event::ConnId;
use crate::outbox::Segment;
use crate::selector::Selector;

/// What another thread may ask of the reactor.
#[derive(Debug)]
pub enum Command {
    /// Send a piece of an answer.
    Send(ConnId, Segment),
    /// The answer is complete; keep the connection if the flag says so.
    Finish(ConnId, bool),
    /// The answer failed after its head had left: the client must see that.
    Abort(ConnId),
    /// End the wait, nothing more.
    Wake,
}

/// A handle that any thread may hold and clone.
#[derive(Clone)]
pub struct Remote {
    commands: Sender<Command>,
    selector: Arc<Selector>,
}

impl Remote {
    pub(crate) fn new(selector: Arc<Selector>) -> (Self, Receiver<Command>) {
        let (commands, queue) = channel();
        (Self { commands, selector }, queue)
    }

    /// Queues `command` and ends the reactor's wait. After the reactor is gone it does nothing.
    pub fn submit(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.selector.wake();
        }
    }
}
