//! What cells and probes are called: the sentences of tooltips, headings and screen readers.

use crate::config::Method;
use crate::protocol::{Cause, Heat, UnitHeat};

/// A unit of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A query head.
    Head(usize),
    /// An MLP channel.
    Channel(usize),
}

/// A cell of the heatmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// From 0.
    pub layer: usize,
    /// Within that layer.
    pub unit: Unit,
}

impl Cell {
    /// "Layer 7, channel 312".
    pub fn name(&self) -> String {
        match self.unit {
            Unit::Head(head) => format!("Layer {}, head {head}", self.layer),
            Unit::Channel(channel) => format!("Layer {}, channel {channel}", self.layer),
        }
    }

    /// Whether a choice has such a cell.
    pub(super) fn lies_in(&self, heat: &Heat) -> bool {
        let unit = match self.unit {
            Unit::Head(head) => head < heat.heads,
            Unit::Channel(channel) => channel < heat.channels,
        };
        unit && self.layer < heat.layers.len()
    }

    /// The cell's block and its unit's number; `None` = the block is dense.
    fn block<'a>(&self, heat: &'a Heat) -> (Option<&'a UnitHeat>, u32) {
        let layer = heat.layers.get(self.layer);
        match self.unit {
            Unit::Head(head) => (layer.and_then(|layer| layer.heads.as_ref()), head as u32),
            Unit::Channel(channel) => (layer.and_then(|layer| layer.channels.as_ref()), channel as u32),
        }
    }
}

/// A number to four significant digits, without an exponent where that stays short.
pub(super) fn significant(value: f32) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".into()
    } else if (1e-4..1e6).contains(&magnitude) {
        let digits = 3 - magnitude.log10().floor() as i32;
        format!("{value:.*}", digits.max(0) as usize)
    } else {
        format!("{value:.3e}")
    }
}

/// All there is to say about a cell, a line each, without its name.
pub(super) fn describe(cell: Cell, heat: &Heat, against: Option<&Heat>) -> Vec<String> {
    let (now, unit) = cell.block(heat);
    let keeps = |block: Option<&UnitHeat>| block.is_none_or(|block| block.keeps(unit));
    let mut lines = Vec::new();
    if let Some(against) = against {
        let then = cell.block(against).0;
        let state = match (keeps(now), keeps(then)) {
            (true, true) => "Kept in both",
            (true, false) => "Kept only now",
            (false, true) => "Kept only then",
            (false, false) => "Dropped in both",
        };
        lines.push(state.to_owned());
    }
    let Some(block) = now else {
        lines.push("Dense: every unit is computed".into());
        return lines;
    };
    if against.is_none() {
        lines.push(if keeps(now) { "Kept" } else { "Dropped" }.into());
    }
    if let (Some(&score), Some(rank)) = (block.scores.get(unit as usize), block.rank(unit)) {
        lines.push(format!("Score {}, rank {rank} of {}", significant(score), block.scores.len()));
        lines.push(match block.from_history.get(unit as usize) {
            Some(history) => {
                let history = 100.0 * history.clamp(0.0, 1.0);
                format!("Statistic: {:.0} % probe, {history:.0} % history", 100.0 - history)
            }
            None => "No history: the probe alone".into(),
        });
    }
    lines
}

/// "896 of 1536 channels and 6 of 9 heads kept in 27 of 30 layers": means over the layers that are pruned.
pub(super) fn kept(heat: &Heat) -> String {
    let pruned = heat.layers.iter().filter(|layer| layer.heads.is_some() || layer.channels.is_some()).count();
    let mean = |blocks: Vec<&UnitHeat>| {
        let kept: usize = blocks.iter().map(|block| block.kept.len()).sum();
        (!blocks.is_empty()).then(|| (kept as f64 / blocks.len() as f64).round() as usize)
    };
    let channels = mean(heat.layers.iter().filter_map(|layer| layer.channels.as_ref()).collect());
    let heads = mean(heat.layers.iter().filter_map(|layer| layer.heads.as_ref()).collect());
    let units = match (channels, heads) {
        (None, None) => return format!("every unit kept in all {} layers", heat.layers.len()),
        (Some(channels), Some(heads)) => {
            format!("{channels} of {} channels and {heads} of {} heads", heat.channels, heat.heads)
        }
        (Some(channels), None) => format!("{channels} of {} channels and every head", heat.channels),
        (None, Some(heads)) => format!("every channel and {heads} of {} heads", heat.heads),
    };
    format!("{units} kept in {pruned} of {} layers", heat.layers.len())
}

/// "probe 3, 896 of 1536 channels and 6 of 9 heads kept in 27 of 30 layers".
pub(super) fn summary(heat: &Heat) -> String {
    format!("probe {}, {}", heat.index + 1, kept(heat))
}

/// "Re-probe at token 148, probe pruning at ratio 0.40".
pub(super) fn origin(heat: &Heat) -> String {
    let cause = match heat.cause {
        Cause::Prompt => "Prompt of",
        Cause::Renewal => "Re-probe at",
    };
    let tokens = match heat.cause {
        Cause::Prompt => format!("{} tokens", heat.at),
        Cause::Renewal => format!("token {}", heat.at),
    };
    format!("{cause} {tokens}, {} at ratio {:.2}", method(heat.method).to_lowercase(), heat.ratio)
}

/// A method's name for people.
pub(super) fn method(method: Method) -> &'static str {
    match method {
        Method::Dense => "Dense",
        Method::FullBatch => "Full-batch probing",
        Method::Pp => "Probe pruning",
        Method::WandaSp => "Wanda-sp",
        Method::Flap => "FLAP",
        Method::Masks => "Masks of a file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::LayerHeat;

    fn heat() -> Heat {
        let channels = UnitHeat {
            kept: vec![1, 3],
            scores: vec![0.5, 2.0, 0.123_456, 1.0],
            from_history: vec![0.0, 0.37, 1.0, 0.5],
            probed: vec![],
        };
        let heads = UnitHeat { kept: vec![0], ..UnitHeat::default() };
        let pruned = LayerHeat { heads: Some(heads), channels: Some(channels) };
        let layers = vec![LayerHeat::default(), pruned.clone(), pruned];
        let (cause, method) = (Cause::Renewal, Method::Pp);
        Heat { id: 1, index: 2, cause, at: 148, method, ratio: 0.4, heads: 2, channels: 4, layers }
    }

    #[test]
    fn numbers_have_four_digits() {
        let words = [0.012_345_6, 1234.56, 123_456.0, 0.0, 1e-7, 2.0].map(significant);
        assert_eq!(words, ["0.01235", "1235", "123456", "0", "1.000e-7", "2.000"]);
    }

    #[test]
    fn a_probe_is_summed_up() {
        assert_eq!(summary(&heat()), "probe 3, 2 of 4 channels and 1 of 2 heads kept in 2 of 3 layers");
        assert_eq!(origin(&heat()), "Re-probe at token 148, probe pruning at ratio 0.40");
        let mut dense = heat();
        dense.layers = vec![LayerHeat::default(); 3];
        assert_eq!(kept(&dense), "every unit kept in all 3 layers");
    }

    #[test]
    fn a_cell_says_what_was_decided_and_why() {
        let heat = heat();
        let lines = |layer, unit| describe(Cell { layer, unit }, &heat, None);
        assert_eq!(
            lines(1, Unit::Channel(1)),
            ["Kept", "Score 2.000, rank 1 of 4", "Statistic: 63 % probe, 37 % history"]
        );
        assert_eq!(lines(1, Unit::Head(1)), ["Dropped"], "without scores there is no rank");
        assert_eq!(lines(0, Unit::Channel(1)), ["Dense: every unit is computed"]);
        let mut then = heat.clone();
        then.layers[1].channels = Some(UnitHeat { kept: vec![0], ..UnitHeat::default() });
        let cell = Cell { layer: 1, unit: Unit::Channel(1) };
        assert_eq!(describe(cell, &heat, Some(&then))[0], "Kept only now");
        then.layers[1].channels.as_mut().unwrap().scores = vec![1.0; 4];
        assert_eq!(describe(cell, &then, None)[2], "No history: the probe alone");
    }
}
