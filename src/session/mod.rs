//! An engine at work in the background, with a device of its own: commands in, events out, nobody waits for anybody. It has a
//! thread of its own, and in a browser it is a task of the page's.
//!
//! - [`Handle`] is what a face of the program holds: it sends commands, drains events, stops what runs;
//! - [`Writer`] is the loop that turns a prompt into text, for the session and for the command line alike.
//!
//! Invariants: commands run one after another, in order; a stop reaches whatever runs within one pass of the model; an
//! engine that failed is given up and made anew, and the thread outlives it.

mod answer;
mod catalogue;
mod compare;
mod fit;
mod load;
mod masks;
mod planned;
mod talk;
mod worker;

pub use answer::{Listener, Writer, Written};
pub use catalogue::CatalogueItem;
#[cfg(not(target_arch = "wasm32"))]
pub use catalogue::catalogue;
#[cfg(target_arch = "wasm32")]
pub use catalogue::{give, on_the_page};
pub use planned::{Planned, planned};

use crate::gpu::Gpu;
use crate::protocol::{Command, Event};
use async_channel::{Receiver, Sender};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
#[cfg(not(target_arch = "wasm32"))]
use std::thread::JoinHandle;
use worker::{Outbox, Worker};

/// A running session. Dropping it ends the session and waits for the pass that runs.
pub struct Handle {
    commands: Sender<(u64, Command)>,
    events: Receiver<Event>,
    /// Commands up to this number are to end.
    stopped: Arc<AtomicU64>,
    sent: AtomicU64,
    #[cfg(not(target_arch = "wasm32"))]
    thread: Option<JoinHandle<()>>,
    device: Arc<Mutex<Weak<Gpu>>>,
}

impl Handle {
    /// Starts a session; `wake` is called, on its thread, after every event.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where the system gives no thread.
    pub fn start(wake: impl Fn() + Send + Sync + 'static) -> crate::Result<Handle> {
        let (commands, inbox) = async_channel::unbounded();
        let (outbox, events) = async_channel::unbounded();
        let stopped = Arc::new(AtomicU64::new(0));
        let outbox = Outbox { events: outbox, wake: Arc::new(wake) };
        let device = Arc::<Mutex<Weak<Gpu>>>::default();
        let worker = Worker::new(inbox, outbox, stopped.clone(), device.clone());
        #[cfg(target_arch = "wasm32")]
        wasm_bindgen_futures::spawn_local(worker.run());
        #[cfg(not(target_arch = "wasm32"))]
        let thread = {
            let thread = std::thread::Builder::new().name("session".into()).spawn(move || worker.run_to_the_end());
            Some(thread.map_err(crate::Error::io("start", "the session's thread"))?)
        };
        Ok(Handle {
            commands,
            events,
            stopped,
            sent: AtomicU64::new(0),
            #[cfg(not(target_arch = "wasm32"))]
            thread,
            device,
        })
    }

    /// Queues a command. [`Command::Prune`] is heard in the middle of an answer.
    pub fn send(&self, command: Command) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        // The session ends with this handle alone.
        let _ = self.commands.try_send((number, command));
    }

    /// Ends everything that was sent so far: a download, a load, an answer. What an answer has said stays.
    pub fn stop(&self) {
        self.stopped.store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Has the device fail in the middle of whatever it does, as a driver that crashes would: for tests of what follows.
    pub fn lose_device(&self) {
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(gpu) = device {
            gpu.lose();
        }
    }

    /// The events since the last call, oldest first; never waits.
    pub fn drain(&self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stopped.store(u64::MAX, Ordering::Relaxed);
        self.commands.close();
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(thread) = self.thread.take() {
            // A panic in it was told as an event.
            let _ = thread.join();
        }
    }
}
