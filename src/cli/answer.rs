//! An answer in words: what it took, and what pruning cost and saved.

use secateur::protocol::Cost;
use secateur::prune::Flops;
use secateur::session::Written;

/// One line for people.
pub fn summary(made: &Written) -> String {
    let mut line = format!(
        "prompt: {} tokens, {:.1} tokens/s; answer: {} tokens, {:.1} tokens/s",
        made.prefilled,
        made.prefill_rate(),
        made.ids.len(),
        made.decode_rate()
    );
    for (name, cost) in [("prompt", made.prefill), ("answer", made.decode)] {
        if cost.flops < cost.flops_dense || cost.flops_probe > 0.0 {
            line.push_str(&format!("; FLOPs of the {name}: {}", removed(flops(cost))));
        }
    }
    line
}

/// What to say where a pruned prompt cost more than a dense one.
pub fn prefill_warning(made: &Written) -> Option<String> {
    let Flops { pass, dense, probe } = flops(made.prefill);
    (pass + probe > dense).then(|| {
        format!(
            "the pruned prompt cost {:.0} % of the FLOPs of a dense one (its probe alone {:.0} %): with one sequence, \
             a probe pays only at high ratios or with a smaller --probe-tokens; without --lead-tokens 0 the prompt's \
             first tokens choose, and cost nothing",
            100.0 * (pass + probe) / dense,
            100.0 * probe / dense
        )
    })
}

fn flops(cost: Cost) -> Flops {
    Flops { pass: cost.flops, dense: cost.flops_dense, probe: cost.flops_probe }
}

/// The share of dense FLOPs that was saved, probes counted as cost, in words.
pub fn removed(flops: Flops) -> String {
    if flops.dense == 0.0 {
        return "none".into();
    }
    let percent = |part: f64| 100.0 * part / flops.dense;
    let saved = percent(flops.dense - flops.pass - flops.probe);
    let (amount, word) = (saved.abs(), if saved < 0.0 { "added" } else { "removed" });
    match flops.probe > 0.0 {
        true => format!("{amount:.1} % {word} (probes cost {:.1} %)", percent(flops.probe)),
        false => format!("{amount:.1} % {word}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_counts_the_probe_as_cost() {
        assert_eq!(removed(Flops { pass: 80.0, dense: 100.0, probe: 0.0 }), "20.0 % removed");
        assert_eq!(removed(Flops { pass: 80.0, dense: 100.0, probe: 5.0 }), "15.0 % removed (probes cost 5.0 %)");
        assert_eq!(removed(Flops { pass: 85.0, dense: 100.0, probe: 29.0 }), "14.0 % added (probes cost 29.0 %)");
        assert_eq!(removed(Flops::default()), "none");
    }
}
