//! The choices of a whole conversation, or of a masks file, in the order they were made; which one is looked at, and which
//! two are compared.
//!
//! Invariants: `at` and the pins are places in `heats`, 0 where there are none; while live, `at` is the newest.

use crate::protocol::Heat;
use std::sync::Arc;

/// A place that is remembered, to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// The first: "then" of a comparison.
    A,
    /// The second: "now" of a comparison.
    B,
}

/// What the curves say about one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Share of all channels that is kept, 0 to 1.
    pub kept: f32,
    /// Share of the kept channels that the step before kept too, 0 to 1; `None` for the first, and where a model changed.
    pub overlap: Option<f32>,
}

/// Choices over time, and the one that is looked at.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    heats: Vec<Arc<Heat>>,
    points: Vec<Point>,
    at: usize,
    live: bool,
    pins: [Option<usize>; 2],
    comparing: bool,
}

impl Timeline {
    /// Empty, and live: the first choice will be shown.
    pub fn new() -> Timeline {
        Timeline { live: true, ..Timeline::default() }
    }

    /// The batches of a masks file, or a conversation's choices: the last is shown where `live`, else the first.
    pub fn of(heats: Vec<Arc<Heat>>, live: bool) -> Timeline {
        let mut timeline = Timeline { live, ..Timeline::default() };
        heats.into_iter().for_each(|heat| timeline.push(heat));
        timeline
    }

    /// Adds the newest choice. What is looked at stays, unless live.
    pub fn push(&mut self, heat: Arc<Heat>) {
        let [_, (kept, all)] = heat.kept();
        let overlap =
            self.heats.last().filter(|before| same_shape(before, &heat)).and_then(|before| heat.overlap(before));
        let kept = if all > 0 { kept as f32 / all as f32 } else { 1.0 };
        self.points.push(Point { kept, overlap: overlap.map(|share| share as f32) });
        self.heats.push(heat);
        if self.live {
            self.at = self.heats.len() - 1;
        }
    }

    /// How many choices there are.
    pub fn len(&self) -> usize {
        self.heats.len()
    }

    /// Whether nothing was chosen yet.
    pub fn is_empty(&self) -> bool {
        self.heats.is_empty()
    }

    /// All choices, oldest first.
    pub fn heats(&self) -> &[Arc<Heat>] {
        &self.heats
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }

    /// The place of the choice that is looked at, from 0.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The choice that is looked at.
    pub fn current(&self) -> Option<&Arc<Heat>> {
        self.heats.get(self.at)
    }

    /// What a heatmap has to show: a choice, and the one it is compared with. While pins are compared, both pins, or the
    /// only one and what is looked at. Choices of different models are not compared.
    pub fn shown(&self) -> Option<(Arc<Heat>, Option<Arc<Heat>>)> {
        let (then, now) = self.compared().unwrap_or((self.at, self.at));
        let now = self.heats.get(now)?;
        let then = self.heats.get(then).filter(|then| self.comparing && same_shape(then, now));
        Some((now.clone(), then.cloned()))
    }

    /// Places of "then" and "now" of the comparison that is shown.
    pub fn compared(&self) -> Option<(usize, usize)> {
        match self.pins {
            _ if !self.comparing => None,
            [Some(a), Some(b)] => Some((a, b)),
            [Some(only), None] | [None, Some(only)] => Some((only, self.at)),
            [None, None] => None,
        }
    }

    /// Looks at a place; places behind the last are the last. Live ends, unless it is the newest that live shows anyway.
    pub fn seek(&mut self, place: usize) {
        let newest = self.heats.len().saturating_sub(1);
        self.at = place.min(newest);
        self.live &= self.at == newest;
    }

    /// Looks at a neighbour, `by` places on; stops at both ends.
    pub fn step(&mut self, by: isize) {
        self.seek(self.at.saturating_add_signed(by));
    }

    /// Looks at the first choice of an answer, by [`Heat::id`]; `false` where it has none.
    pub fn seek_answer(&mut self, id: u64) -> bool {
        let found = self.heats.iter().position(|heat| heat.id == id);
        found.inspect(|&place| self.seek(place)).is_some()
    }

    /// Whether the newest choice is followed.
    pub fn live(&self) -> bool {
        self.live
    }

    /// Follows the newest choice, from now on; or stays.
    pub fn set_live(&mut self, live: bool) {
        self.live = live;
        if live {
            self.at = self.heats.len().saturating_sub(1);
        }
    }

    /// Where a pin is.
    pub fn pinned(&self, pin: Pin) -> Option<usize> {
        self.pins[pin as usize]
    }

    /// Pins what is looked at.
    pub fn pin(&mut self, pin: Pin) {
        if !self.is_empty() {
            self.pins[pin as usize] = Some(self.at);
        }
    }

    /// Whether pins are compared.
    pub fn comparing(&self) -> bool {
        self.comparing
    }

    /// Compares the pins, where there are any; or shows one choice again.
    pub fn set_comparing(&mut self, comparing: bool) {
        self.comparing = comparing && self.pins.iter().any(Option::is_some);
    }

    /// Removes both pins.
    pub fn clear_pins(&mut self) {
        self.pins = [None; 2];
        self.comparing = false;
    }

    /// The number of the answer at a place, from 1: how many different answers began up to there.
    pub(super) fn answer(&self, place: usize) -> usize {
        let until = &self.heats[..self.heats.len().min(place + 1)];
        until.windows(2).filter(|pair| pair[0].id != pair[1].id).count() + 1
    }
}

fn same_shape(a: &Heat, b: &Heat) -> bool {
    (a.layers.len(), a.heads, a.channels) == (b.layers.len(), b.heads, b.channels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Method;
    use crate::protocol::{Cause, LayerHeat, UnitHeat};

    fn heat(id: u64, index: usize, kept: &[u32]) -> Arc<Heat> {
        let channels = UnitHeat { kept: kept.to_vec(), ..UnitHeat::default() };
        let layers = vec![LayerHeat { heads: None, channels: Some(channels) }];
        let (cause, method) = (Cause::Prompt, Method::Pp);
        Arc::new(Heat { id, index, cause, at: 5, method, ratio: 0.4, heads: 2, channels: 4, layers })
    }

    fn three() -> Timeline {
        Timeline::of(vec![heat(1, 0, &[0, 1]), heat(1, 1, &[1, 2]), heat(2, 0, &[1, 2])], true)
    }

    #[test]
    fn live_follows_the_newest_and_scrubbing_does_not() {
        let mut timeline = three();
        assert_eq!((timeline.at(), timeline.live()), (2, true));
        timeline.step(-1);
        timeline.push(heat(2, 1, &[0]));
        assert_eq!((timeline.at(), timeline.live()), (1, false));
        timeline.set_live(true);
        timeline.push(heat(2, 2, &[0]));
        assert_eq!(timeline.at(), 4);
    }

    #[test]
    fn steps_stop_at_both_ends() {
        let mut timeline = three();
        timeline.step(-9);
        assert_eq!(timeline.at(), 0);
        timeline.step(9);
        assert_eq!((timeline.at(), timeline.live()), (2, false), "live is a wish, not a place");
        let mut empty = Timeline::new();
        empty.step(1);
        empty.pin(Pin::A);
        empty.set_comparing(true);
        assert_eq!((empty.at(), empty.shown(), empty.pinned(Pin::A)), (0, None, None));
    }

    #[test]
    fn two_pins_are_compared_whatever_is_looked_at() {
        let mut timeline = three();
        timeline.seek(0);
        timeline.pin(Pin::A);
        timeline.seek(1);
        timeline.set_comparing(true);
        assert_eq!(timeline.compared(), Some((0, 1)), "one pin is compared with what is looked at");
        timeline.pin(Pin::B);
        timeline.seek(2);
        assert_eq!(timeline.shown(), Some((heat(1, 1, &[1, 2]), Some(heat(1, 0, &[0, 1])))));
        timeline.clear_pins();
        assert_eq!(timeline.shown(), Some((heat(2, 0, &[1, 2]), None)));
    }

    #[test]
    fn choices_of_different_models_are_not_compared() {
        let other = Arc::new(Heat { channels: 8, ..(*heat(3, 0, &[1])).clone() });
        let mut timeline = three();
        timeline.pin(Pin::A);
        timeline.push(other);
        timeline.set_comparing(true);
        assert_eq!(timeline.shown().map(|(_, then)| then), Some(None));
        assert_eq!(timeline.points()[3].overlap, None);
    }

    #[test]
    fn the_curves_are_shares() {
        let points = three().points().to_vec();
        assert_eq!(points.iter().map(|point| point.kept).collect::<Vec<_>>(), [0.5; 3]);
        assert_eq!(points.iter().map(|point| point.overlap).collect::<Vec<_>>(), [None, Some(0.5), Some(1.0)]);
    }

    #[test]
    fn answers_are_found_and_numbered() {
        let mut timeline = three();
        assert_eq!([0, 1, 2].map(|place| timeline.answer(place)), [1, 1, 2]);
        assert!(timeline.seek_answer(1) && !timeline.seek_answer(7));
        assert_eq!(timeline.at(), 0);
    }
}
