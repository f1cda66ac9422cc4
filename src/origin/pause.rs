//! Giving the page its turn, and waiting.

use super::js;
use js_sys::{Function, Promise};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use wasm_bindgen::prelude::*;
use web_sys::MessageChannel;

/// Milliseconds of work between two turns of the event loop: well below a frame of 16.
const SLICE: f64 = 6.0;

/// A channel to ourselves: its messages come as tasks, behind input and frames that wait, and unlike timers they are not
/// slowed down in a tab that is not seen.
struct Channel {
    channel: MessageChannel,
    waiting: Rc<RefCell<VecDeque<Function>>>,
    _listener: Closure<dyn FnMut()>,
}

thread_local! {
    static CHANNEL: Option<Channel> = Channel::open();
}

impl Channel {
    fn open() -> Option<Channel> {
        let channel = MessageChannel::new().ok()?;
        let waiting: Rc<RefCell<VecDeque<Function>>> = Rc::default();
        let queue = waiting.clone();
        let listener = Closure::<dyn FnMut()>::new(move || {
            let next = queue.borrow_mut().pop_front();
            if let Some(resolve) = next {
                // A promise's own function throws nothing.
                let _ = resolve.call0(&JsValue::UNDEFINED);
            }
        });
        channel.port1().set_onmessage(Some(listener.as_ref().unchecked_ref()));
        Some(Channel { channel, waiting, _listener: listener })
    }

    /// Has `resolve` called in a task of its own.
    fn call(&self, resolve: Function) -> Result<(), Function> {
        match self.channel.port2().post_message(&JsValue::NULL) {
            Ok(()) => {
                self.waiting.borrow_mut().push_back(resolve);
                Ok(())
            }
            Err(_) => Err(resolve),
        }
    }
}

/// Gives the event loop a turn: input, frames and other tasks run before this goes on.
pub async fn pause() {
    let turn = Promise::new(&mut |resolve, _| {
        let through_channel = CHANNEL.with(|channel| match channel {
            Some(channel) => channel.call(resolve),
            None => Err(resolve),
        });
        if let Err(resolve) = through_channel {
            later(&resolve, 0.0);
        }
    });
    let _ = turn.await;
}

/// Waits; a tab that is not seen may be made to wait longer.
pub async fn sleep(time: Duration) {
    let _ = after(time).await;
}

/// A promise of `undefined` after some time.
pub(super) fn after(time: Duration) -> Promise {
    Promise::new(&mut |resolve, _| later(&resolve, time.as_secs_f64() * 1e3))
}

fn later(resolve: &Function, milliseconds: f64) {
    if js::set_timeout(resolve, milliseconds).is_err() {
        // Rather no pause at all than one without end.
        let _ = resolve.call0(&JsValue::UNDEFINED);
    }
}

/// Work in slices: [`Slices::turn`] after every little step, and the page stays alive.
#[derive(Debug)]
pub struct Slices {
    /// When the event loop last had its turn, in milliseconds.
    since: f64,
}

impl Default for Slices {
    fn default() -> Slices {
        Slices { since: js::now() }
    }
}

impl Slices {
    /// Gives the event loop a turn where the last one is some milliseconds ago; otherwise returns at once.
    pub async fn turn(&mut self) {
        if js::now() - self.since >= SLICE {
            pause().await;
            self.since = js::now();
        }
    }
}
