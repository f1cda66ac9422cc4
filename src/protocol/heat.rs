//! One choice of units, of every layer: what the heatmap shows.

use crate::config::Method;
use serde::{Deserialize, Serialize};

/// What made the engine choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A prompt, or a batch of an evaluation.
    Prompt,
    /// A re-probe in the middle of an answer.
    Renewal,
}

/// The units of every layer that one probe kept, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// The request's id; a batch's number in a masks file.
    pub id: u64,
    /// 0 for the first probe of this answer.
    pub index: usize,
    /// What made the engine choose.
    pub cause: Cause,
    /// Tokens of the sequence when it chose: the masks serve from this position on.
    pub at: usize,
    /// Method that was in force.
    pub method: Method,
    /// Wished mean ratio that was in force.
    pub ratio: f64,
    /// Query heads of a layer.
    pub heads: usize,
    /// MLP channels of a layer.
    pub channels: usize,
    /// In order.
    pub layers: Vec<LayerHeat>,
}

/// One layer's choice; `None` = dense, every unit is computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerHeat {
    /// Query heads.
    pub heads: Option<UnitHeat>,
    /// MLP channels.
    pub channels: Option<UnitHeat>,
}

/// The units of one block.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnitHeat {
    /// Kept units, ascending.
    pub kept: Vec<u32>,
    /// Score by unit; empty where it is not known.
    pub scores: Vec<f32>,
    /// By unit, the share of its statistic that came from history, 0 to 1; empty where there was no history.
    pub from_history: Vec<f32>,
    /// Positions that were probed, ascending; empty = every token so far.
    pub probed: Vec<u32>,
}

impl Heat {
    /// Kept units of all layers and what there are: heads, then channels. Dense blocks count as kept whole.
    pub fn kept(&self) -> [(usize, usize); 2] {
        let of = |block: fn(&LayerHeat) -> &Option<UnitHeat>, total: usize| {
            let kept = self.layers.iter().map(|layer| block(layer).as_ref().map_or(total, |units| units.kept.len()));
            (kept.sum(), total * self.layers.len())
        };
        [of(|layer| &layer.heads, self.heads), of(|layer| &layer.channels, self.channels)]
    }

    /// The share of this choice's kept channels that `other` keeps too, over the layers where both prune; `None` where no
    /// layer does.
    pub fn overlap(&self, other: &Heat) -> Option<f64> {
        let (mut both, mut mine) = (0, 0);
        for (a, b) in self.layers.iter().zip(&other.layers) {
            if let (Some(a), Some(b)) = (&a.channels, &b.channels) {
                both += a.kept.iter().filter(|&&unit| b.keeps(unit)).count();
                mine += a.kept.len();
            }
        }
        (mine > 0).then(|| both as f64 / mine as f64)
    }
}

impl UnitHeat {
    /// Whether `unit` is computed.
    pub fn keeps(&self, unit: u32) -> bool {
        self.kept.binary_search(&unit).is_ok()
    }

    /// The place of `unit` when scores are sorted from the highest (1), ties to the lower unit; `None` without scores.
    pub fn rank(&self, unit: u32) -> Option<usize> {
        let mine = *self.scores.get(unit as usize)?;
        let ahead = |(other, &score): (usize, &f32)| score > mine || (score == mine && other < unit as usize);
        Some(1 + self.scores.iter().enumerate().filter(|&pair| ahead(pair)).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heat(kept: &[u32]) -> Heat {
        let channels = UnitHeat { kept: kept.to_vec(), scores: vec![0.5, 2.0, 0.5, 1.0], ..UnitHeat::default() };
        let layers = vec![LayerHeat::default(), LayerHeat { heads: None, channels: Some(channels) }];
        let (cause, method) = (Cause::Prompt, Method::Pp);
        Heat { id: 1, index: 0, cause, at: 5, method, ratio: 0.4, heads: 2, channels: 4, layers }
    }

    #[test]
    fn dense_blocks_count_as_kept_whole() {
        assert_eq!(heat(&[1, 3]).kept(), [(4, 4), (6, 8)]);
    }

    #[test]
    fn the_overlap_counts_pruned_layers_alone() {
        assert_eq!(heat(&[1, 3]).overlap(&heat(&[0, 1])), Some(0.5));
        let mut dense = heat(&[1]);
        dense.layers[1].channels = None;
        assert_eq!(dense.overlap(&heat(&[1])), None);
    }

    #[test]
    fn ranks_break_ties_as_the_choice_does() {
        let heat = heat(&[1, 3]);
        let units = heat.layers[1].channels.as_ref().unwrap();
        assert_eq!([0, 1, 2, 3, 4].map(|unit| units.rank(unit)), [Some(3), Some(1), Some(4), Some(2), None]);
        assert!(units.keeps(3) && !units.keeps(2));
    }
}
