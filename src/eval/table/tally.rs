//! From the results of batches to rows.

use super::log::{BatchLine, BatchResult, Fingerprint};
use super::schema::{Quality, Row, loss_per_saving};
use crate::error::{Error, Result};
use crate::prune::LayerPlan;

/// What the scores of a data set amount to.
pub trait Measure {
    /// Qualities from the results of all batches of one round, in order; one or more, and always as many.
    ///
    /// # Errors
    /// Its own.
    fn qualities(&self, batches: &[&BatchResult]) -> Result<Vec<Quality>>;
}

/// The rows of a whole log. `kept` are the units that each arm keeps, by layer; `measures` belong to the data sets.
///
/// # Errors
/// [`Error::Internal`] for a log that is not whole, and those of the measures.
pub fn rows(
    fingerprint: &Fingerprint,
    lines: &[BatchLine],
    kept: &[Vec<LayerPlan>],
    measures: &[&dyn Measure],
) -> Result<Vec<Row>> {
    let Fingerprint { data, arms, .. } = fingerprint;
    let mut rows = Vec::new();
    for (index, measure) in measures.iter().enumerate() {
        let runs: Vec<Run<'_>> = (0..arms.len()).map(|arm| Run::of(lines, index, arm)).collect();
        let expected = data[index].data_batches * fingerprint.protocol.rounds;
        if let Some((arm, run)) = runs.iter().enumerate().find(|(_, run)| run.batches.len() != expected) {
            let found = run.batches.len();
            let what = format!("{found} of {expected} batches of arm {arm} on data set {index} are known");
            return Err(Error::Internal(what));
        }
        let qualities: Vec<Vec<Quality>> =
            runs.iter().map(|run| measure.qualities(&run.first_round())).collect::<Result<_>>()?;
        for (which, dense) in qualities[0].iter().enumerate() {
            for arm in 0..arms.len() {
                let parts = (&runs[arm], &runs[0], qualities[arm][which], *dense);
                rows.push(row(fingerprint, (index, arm), &kept[arm], parts));
            }
        }
    }
    Ok(rows)
}

/// One arm on one data set.
struct Run<'a> {
    /// By round, then batch.
    batches: Vec<(usize, &'a BatchResult)>,
}

impl<'a> Run<'a> {
    fn of(lines: &'a [BatchLine], data: usize, arm: usize) -> Run<'a> {
        let own = lines.iter().filter(|line| line.data == data && line.arm == arm);
        Run { batches: own.map(|line| (line.round, &line.result)).collect() }
    }

    fn first_round(&self) -> Vec<&'a BatchResult> {
        self.round(0).collect()
    }

    fn round(&self, round: usize) -> impl Iterator<Item = &'a BatchResult> {
        self.batches.iter().filter(move |(of, _)| *of == round).map(|(_, batch)| *batch)
    }

    /// Whether every round scored as the first.
    fn rounds_agree(&self, rounds: usize) -> Option<bool> {
        let same = |round| self.round(round).map(|b| &b.scores).eq(self.round(0).map(|b| &b.scores));
        (rounds > 1).then(|| (1..rounds).all(same))
    }
}

fn row(
    fingerprint: &Fingerprint,
    (data, arm): (usize, usize),
    kept: &[LayerPlan],
    (run, dense, quality, of_dense): (&Run<'_>, &Run<'_>, Quality, Quality),
) -> Row {
    let shares = run.batches.iter().zip(&dense.batches).map(|((_, own), (_, dense))| own.seconds / dense.seconds);
    let [low, runtime, high] = quartiles(shares.collect());
    let speeds = run.batches.iter().map(|(_, batch)| batch.tokens as f64 / batch.seconds);
    let [_, tokens_per_second, _] = quartiles(speeds.collect());
    let sum = |of: fn(&BatchResult) -> f64| run.round(0).map(of).sum::<f64>();
    let flops_probe = sum(|batch| batch.flops_probe);
    let (flops, flops_dense) = (sum(|batch| batch.flops_pass) + flops_probe, sum(|batch| batch.flops_dense));
    let spec = &fingerprint.arms[arm];
    let loss = quality.quality.loss(quality.value, of_dense.value);
    // Dense saves nothing of itself, whatever the clock says.
    let saving = |share: f64| if arm == 0 { None } else { loss_per_saving(loss, share) };
    Row {
        name: spec.name.clone(),
        series: spec.series.clone(),
        method: spec.prune.method,
        ratio: spec.prune.ratio,
        data: fingerprint.data[data].clone(),
        quality,
        value_dense: of_dense.value,
        prr: saving(runtime),
        prr_flops: saving(flops / flops_dense),
        runtime,
        runtime_low: low,
        runtime_high: high,
        tokens_per_second,
        seconds_by_batch: run.batches.iter().map(|(_, batch)| batch.seconds).collect(),
        flops,
        flops_dense,
        flops_probe,
        kept_heads: kept.iter().map(|layer| layer.heads).collect(),
        kept_mlp: kept.iter().map(|layer| layer.channels).collect(),
        rounds_agree: run.rounds_agree(fingerprint.protocol.rounds),
        prune: spec.prune.clone(),
        tuned: spec.tuned.clone(),
        protocol: fingerprint.protocol.clone(),
    }
}

/// First quartile, median and third quartile, between neighbours in proportion; zeros of nothing.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|share| {
        let place = share * values.len().saturating_sub(1) as f64;
        let at = |index: f64| values.get(index as usize).copied().unwrap_or(0.0);
        let (below, above) = (at(place.floor()), at(place.ceil()));
        below + (above - below) * place.fract()
    })
}

#[cfg(test)]
mod tests {
    use super::quartiles;

    #[test]
    fn quartiles_lie_between_neighbours_in_proportion() {
        assert_eq!(quartiles(vec![]), [0.0; 3]);
        assert_eq!(quartiles(vec![2.0]), [2.0; 3]);
        assert_eq!(quartiles(vec![4.0, 1.0, 3.0, 2.0]), [1.75, 2.5, 3.25]);
        assert_eq!(quartiles(vec![5.0, 1.0, 2.0, 4.0, 3.0]), [2.0, 3.0, 4.0]);
    }
}
