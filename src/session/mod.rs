//! An engine at work in the background, with a device of its own: commands in, events out, nobody waits for anybody.

mod planned;

pub use planned::{Planned, planned};

use crate::protocol::{Command, Event};

/// A running session. Dropping it ends the session.
pub struct Handle {}

impl Handle {
    /// Starts a session; `wake` is called, on its thread, after every event.
    pub fn start(wake: impl Fn() + Send + Sync + 'static) -> Handle {
        let _ = wake;
        todo!()
    }

    /// Queues a command. [`Command::Prune`] is heard in the middle of an answer.
    pub fn send(&self, command: Command) {
        let _ = command;
        todo!()
    }

    /// Ends everything that was sent so far: a download, a load, an answer. What an answer has said stays.
    pub fn stop(&self) {
        todo!()
    }

    /// The events since the last call, oldest first; never waits.
    pub fn drain(&self) -> Vec<Event> {
        todo!()
    }
}
