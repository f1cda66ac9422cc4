//! How important a weight is by a Taylor expansion of the loss, and how the weights of a unit add up: LLM-Pruner's
//! `TaylorImportance` (Ma, Fang, Wang: arXiv 2305.11627, sections 3.2 and 3.3; the names are those of its code).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Importance of the weights `w` of a row or a column.
///
/// `g` is the gradient of the mean loss of all samples, `F` the mean over samples of the squared gradient of each sample's own
/// loss, which stands for the second derivative (the diagonal of Fisher's information). A unit that goes changes the loss by
/// about `-w g + w F w / 2` a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taylor {
    /// `|sum w g|`: the row or column as one vector.
    Vectorize,
    /// `sum |w g|`: element by element, to the first order.
    ParamFirst,
    /// `sum |w F w|`: the second order alone.
    ParamSecond,
    /// `sum |w g - w F w / 2|`: both.
    ParamMix,
}

impl Taylor {
    /// Every one, in the order of the paper.
    pub const ALL: [Taylor; 4] = [Taylor::Vectorize, Taylor::ParamFirst, Taylor::ParamSecond, Taylor::ParamMix];

    /// The name of LLM-Pruner's `--taylor`.
    pub fn name(self) -> &'static str {
        match self {
            Taylor::Vectorize => "vectorize",
            Taylor::ParamFirst => "param_first",
            Taylor::ParamSecond => "param_second",
            Taylor::ParamMix => "param_mix",
        }
    }

    /// Whether `g` is read.
    pub fn uses_mean(self) -> bool {
        self != Taylor::ParamSecond
    }

    /// Whether `F` is read.
    pub fn uses_squares(self) -> bool {
        matches!(self, Taylor::ParamSecond | Taylor::ParamMix)
    }

    /// Sums over `axis` of a matrix `w`, `[in, out]` like its moments `g` and `F`; `None` where one is missing that is read.
    pub(super) fn sums(
        self,
        w: Tensor<2>,
        (g, f): (Option<Tensor<2>>, Option<Tensor<2>>),
        axis: usize,
    ) -> Option<Tensor<2>> {
        let first = |w: Tensor<2>| g.map(|g| w * g);
        let second = |w: Tensor<2>| f.map(|f| w.clone() * f * w);
        Some(match self {
            Taylor::Vectorize => first(w)?.sum_dim(axis).abs(),
            Taylor::ParamFirst => first(w)?.abs().sum_dim(axis),
            Taylor::ParamSecond => second(w)?.abs().sum_dim(axis),
            Taylor::ParamMix => (first(w.clone())? - second(w)? * 0.5).abs().sum_dim(axis),
        })
    }
}

/// How the coupled matrices of a unit become one number: element by element, before the elements of a head are summed.
///
/// LLM-Pruner's mean is its sum divided by the number of matrices, the same for all units that are compared: it chooses alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// Their product.
    Prod,
}

impl Reduction {
    /// The name of LLM-Pruner's `--grouping_strategy`.
    pub fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "sum",
            Reduction::Max => "max",
            Reduction::Prod => "prod",
        }
    }

    /// Of lists of one length.
    pub(super) fn reduce(self, members: &[Vec<f64>]) -> Vec<f64> {
        let pair = |a: f64, b: f64| match self {
            Reduction::Sum => a + b,
            Reduction::Max => a.max(b),
            Reduction::Prod => a * b,
        };
        let mut members = members.iter();
        let first = members.next().cloned().unwrap_or_default();
        members.fold(first, |sum, member| sum.iter().zip(member).map(|(&a, &b)| pair(a, b)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_reduced_element_by_element() {
        let members = [vec![1.0, 5.0], vec![2.0, 3.0], vec![4.0, 0.5]];
        assert_eq!(Reduction::Sum.reduce(&members), [7.0, 8.5]);
        assert_eq!(Reduction::Max.reduce(&members), [4.0, 5.0]);
        assert_eq!(Reduction::Prod.reduce(&members), [8.0, 7.5]);
    }

    #[test]
    fn every_order_reads_what_it_says() {
        use burn::tensor::Device;
        let matrix = |values: [[f32; 2]; 2]| Tensor::<2>::from_data(values, &Device::flex());
        let w = || matrix([[1.0, -2.0], [3.0, 4.0]]);
        let (g, f) = (matrix([[2.0, 1.0], [-1.0, 0.5]]), matrix([[1.0, 2.0], [0.0, 3.0]]));
        for (taylor, over_rows) in [
            // w g = [[2, -2], [-3, 2]], w F w = [[1, 8], [0, 48]].
            (Taylor::Vectorize, [1.0, 0.0]),
            (Taylor::ParamFirst, [5.0, 4.0]),
            (Taylor::ParamSecond, [1.0, 56.0]),
            (Taylor::ParamMix, [4.5, 28.0]),
        ] {
            let sums = taylor.sums(w(), (Some(g.clone()), Some(f.clone())), 0).unwrap();
            assert_eq!(sums.try_into_vec_as::<f32>().unwrap(), over_rows, "{taylor:?}");
            assert_eq!(taylor.sums(w(), (None, Some(f.clone())), 0).is_none(), taylor.uses_mean());
            assert_eq!(taylor.sums(w(), (Some(g.clone()), None), 0).is_none(), taylor.uses_squares());
        }
    }
}
