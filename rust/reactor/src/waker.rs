//! How another thread ends the reactor's wait.

use std::sync::Arc;

use crate::selector::Selector;

/// A handle that any thread may hold and clone.
#[derive(Clone)]
pub struct Waker {
    selector: Arc<Selector>,
}

impl Waker {
    pub(crate) fn new(selector: Arc<Selector>) -> Self {
        Self { selector }
    }

    /// Ends the present wait, or else the next one. After the reactor is gone it does nothing.
    pub fn wake(&self) {
        self.selector.wake();
    }
}
