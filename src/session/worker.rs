//! The session's work: one command after another, until nobody sends any more.

use super::load::{self, Model};
use super::{compare, masks, talk};
use crate::config::PruneConfig;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::protocol::{Command, Event, Load, Request};
use async_channel::{Receiver, Sender};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use web_time::Instant;

/// Shortest time between two reports of a load.
const REPORT: Duration = Duration::from_millis(50);

/// Where events go.
#[derive(Clone)]
pub(super) struct Outbox {
    pub events: Sender<Event>,
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl Outbox {
    fn post(&self, event: Event) {
        // Nobody listens when the program ends.
        let _ = self.events.try_send(event);
        (self.wake)();
    }
}

/// What the session owns.
pub(super) struct Worker {
    inbox: Receiver<(u64, Command)>,
    /// Commands that came while another ran.
    waiting: VecDeque<(u64, Command)>,
    outbox: Outbox,
    stopped: Arc<AtomicU64>,
    /// The request that is being answered.
    request: Option<u64>,
    model: Option<Model>,
    /// How `model` was loaded.
    loaded: Option<Load>,
    /// Its device.
    device: Arc<Mutex<Weak<Gpu>>>,
}

impl Worker {
    pub fn new(
        inbox: Receiver<(u64, Command)>,
        outbox: Outbox,
        stopped: Arc<AtomicU64>,
        device: Arc<Mutex<Weak<Gpu>>>,
    ) -> Worker {
        Worker { inbox, waiting: VecDeque::new(), outbox, stopped, request: None, model: None, loaded: None, device }
    }

    /// Runs until nobody sends any more, whatever panics on the way.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run_to_the_end(mut self) {
        use std::panic::{AssertUnwindSafe, catch_unwind};
        while catch_unwind(AssertUnwindSafe(|| pollster::block_on(self.work()))).is_err() {
            // Whatever it was doing is given up with the engine it was done on.
            self.model = None;
            let error = "internal error: the engine gave up; please report it with the log".to_string();
            if let Some(id) = self.request.take() {
                self.outbox.post(Event::Failed { id, error: error.clone() });
            }
            let model = self.loaded.take().map_or_else(String::new, |load| load.model);
            self.outbox.post(Event::LoadFailed { model, error: Some(error) });
        }
    }

    /// Runs until nobody sends any more. A page that panics is gone.
    #[cfg(target_arch = "wasm32")]
    pub async fn run(mut self) {
        self.work().await;
    }

    async fn work(&mut self) {
        loop {
            let next = match self.waiting.pop_front() {
                Some(next) => Some(next),
                None => self.inbox.recv().await.ok(),
            };
            let Some((number, command)) = next else { return };
            self.request = match &command {
                Command::Answer(request) | Command::Compare(request) => Some(request.id),
                _ => None,
            };
            self.handle(number, command).await;
        }
    }

    async fn handle(&mut self, number: u64, command: Command) {
        match command {
            Command::Devices => self.outbox.post(Event::Devices(load::devices().await)),
            Command::Load(load) => self.load(number, load, None).await,
            Command::Pull { name, load } => self.load(number, load, Some(name)).await,
            Command::Delete(name) => {
                let error = load::delete(&name).await.err().map(|error| error.to_string());
                self.outbox.post(Event::Deleted { name, error });
            }
            Command::Answer(request) => self.answer(number, &request).await,
            Command::Compare(request) => self.compare(number, &request).await,
            // Its answer has ended; the next request brings its settings along.
            Command::Prune { .. } => {}
            Command::ReadMasks(path) => self.outbox.post(match masks::open(&path) {
                Ok(file) => Event::Masks(Box::new(file)),
                Err(error) => Event::MasksFailed { error: error.to_string() },
            }),
        }
    }

    /// Loads a model in place of the one there is, after downloading it where `download` names it.
    async fn load(&mut self, number: u64, load: Load, download: Option<String>) {
        let (outbox, stopped, model) = (self.outbox.clone(), self.stopped.clone(), load.model.clone());
        let mut reported: Option<(String, Instant)> = None;
        let mut progress = |stage: &str, share: Option<f32>| {
            if stopped.load(Ordering::Relaxed) >= number {
                return Err(Error::Cancelled);
            }
            let fresh = reported.as_ref().is_some_and(|(last, at)| last == stage && at.elapsed() < REPORT);
            if !fresh {
                reported = Some((stage.to_string(), Instant::now()));
                outbox.post(Event::Loading { model: model.clone(), stage: stage.to_string(), share });
            }
            Ok(())
        };
        let found = match &download {
            Some(name) => load::download(name, &mut progress).await,
            None => Ok(()),
        };
        let made = match found {
            Ok(()) => {
                // Two models at once may not fit.
                (self.model, self.loaded) = (None, None);
                load::load(&load, &mut progress).await
            }
            Err(error) => Err(error),
        };
        match made {
            Ok(model) => {
                let gpu = Arc::downgrade(model.engine.gpu());
                *self.device.lock().unwrap_or_else(PoisonError::into_inner) = gpu;
                self.outbox.post(Event::Loaded(Box::new(model.info.clone())));
                (self.model, self.loaded) = (Some(model), Some(load));
            }
            Err(error) => {
                let error = (!matches!(error, Error::Cancelled)).then(|| error.to_string());
                self.outbox.post(Event::LoadFailed { model: load.model, error });
                // A download that failed left the old model where it was.
                if let Some(model) = &self.model {
                    self.outbox.post(Event::Loaded(Box::new(model.info.clone())));
                }
            }
        }
    }

    async fn answer(&mut self, number: u64, request: &Request) {
        let made = match self.at_work(number, request.id) {
            Ok((model, mut wire)) => talk::answer(model, request, &mut wire).await,
            Err(error) => Err(error),
        };
        match made {
            Ok((stop, figures)) => self.outbox.post(Event::Finished { id: request.id, stop, figures }),
            Err(error) => self.fail(request.id, &error).await,
        }
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(model) = &self.model {
            model.engine.gpu().keep_pipelines();
        }
    }

    async fn compare(&mut self, number: u64, request: &Request) {
        let made = match self.at_work(number, request.id) {
            Ok((model, mut wire)) => compare::compare(model, request, &mut wire).await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            self.fail(request.id, &error).await;
        }
    }

    /// The model, and the line of a command that works with it.
    fn at_work(&mut self, number: u64, id: u64) -> Result<(&mut Model, Wire<'_>)> {
        let Worker { inbox, waiting, outbox, stopped, model, .. } = self;
        let model = model.as_mut().ok_or_else(|| Error::Setting("no model is loaded: open one first".into()))?;
        Ok((model, Wire { number, id, inbox, waiting, outbox, stopped }))
    }

    /// Tells what went wrong; a device that failed is opened anew, with the model.
    async fn fail(&mut self, id: u64, error: &Error) {
        let text = error.to_string();
        tracing::warn!(error = text, "an answer failed");
        let lost = matches!(error, Error::Device(_));
        if lost {
            self.outbox.post(Event::DeviceLost { error: text.clone() });
        }
        self.outbox.post(Event::Failed { id, error: text });
        if let Some(load) = self.loaded.clone().filter(|_| lost) {
            // Only the end of the session stops this: whoever stopped the answer wants to go on afterwards.
            self.load(u64::MAX, load, None).await;
        }
    }
}

/// The line of the command that runs.
struct Wire<'w> {
    number: u64,
    /// The request's.
    id: u64,
    inbox: &'w Receiver<(u64, Command)>,
    waiting: &'w mut VecDeque<(u64, Command)>,
    outbox: &'w Outbox,
    stopped: &'w AtomicU64,
}

impl talk::Line for Wire<'_> {
    fn post(&mut self, event: Event) {
        self.outbox.post(event);
    }

    fn stopped(&mut self) -> bool {
        self.stopped.load(Ordering::Relaxed) >= self.number
    }

    fn retuned(&mut self) -> Option<PruneConfig> {
        self.waiting.extend(std::iter::from_fn(|| self.inbox.try_recv().ok()));
        let mut newest = None;
        // What is meant for other answers waits for them, in its place.
        self.waiting.retain(|(_, command)| match command {
            Command::Prune { id, prune } if *id == self.id => {
                match prune.validate() {
                    Ok(()) => newest = Some(prune.clone()),
                    Err(error) => tracing::warn!(%error, "settings were ignored"),
                }
                false
            }
            _ => true,
        });
        newest
    }
}
