//! From batches to rows.

use super::*;
use secateur::eval::table::{Row, rows};

fn table() -> Vec<Row> {
    rows(&fingerprint(), &lines(), &kept(), &[&Text, &Task]).unwrap()
}

fn row<'a>(rows: &'a [Row], name: &str, quality: QualityName) -> &'a Row {
    rows.iter().find(|row| row.name == name && row.quality.quality == quality).expect("the row")
}

#[test]
fn there_is_a_row_for_every_arm_and_quality_in_order() {
    let rows = table();
    let names: Vec<_> = arms().iter().map(|arm| arm.name.clone()).collect();
    assert_eq!(rows.len(), 3 * names.len());
    assert!(rows.iter().zip(names.iter().cycle()).all(|(row, name)| row.name == *name));
    let of: Vec<_> =
        rows.iter().step_by(names.len()).map(|row| (row.data.data.as_str(), row.quality.quality)).collect();
    assert_eq!(
        of,
        [("wikitext2", QualityName::Perplexity), ("piqa", QualityName::Acc), ("piqa", QualityName::AccNorm)]
    );
}

#[test]
fn quality_is_that_of_the_first_round_and_times_are_of_all() {
    let mut lines = lines();
    for line in lines.iter_mut().filter(|line| line.round == 1 && line.arm == 1) {
        line.result.scores[0] += 1.0;
        line.result.seconds *= 3.0;
    }
    let (changed, rows_before) = (rows(&fingerprint(), &lines, &kept(), &[&Text, &Task]).unwrap(), table());
    let (now, before) = (&changed[1], &rows_before[1]);
    assert_eq!(now.quality, before.quality);
    assert_eq!((now.rounds_agree, before.rounds_agree), (Some(false), Some(true)));
    assert_eq!(now.seconds_by_batch.len(), 8);
    assert_eq!(now.seconds_by_batch[4..], before.seconds_by_batch[4..].iter().map(|s| 3.0 * s).collect::<Vec<_>>());
    assert_eq!(now.flops, 4.0 * (1e9 * 0.8 + 2e7), "of one round");
}

#[test]
fn runtimes_are_medians_of_shares_of_the_same_batch() {
    // Batch b takes dense 1 s times 10^b, so that only shares within a batch mean anything.
    let mut lines = lines();
    for line in lines.iter_mut().filter(|line| line.data == 0) {
        let share = [0.5, 0.6, 0.7, 0.8][line.batch] + 0.01 * line.round as f64;
        line.result.seconds = 10f64.powi(line.batch as i32) * if line.arm == 0 { 1.0 } else { share };
    }
    let rows = rows(&fingerprint(), &lines, &kept(), &[&Text, &Task]).unwrap();
    let pruned = row(&rows, "pp 0.4", QualityName::Perplexity);
    // Of 0.5 0.51 0.6 0.61 0.7 0.71 0.8 0.81: places 1.75, 3.5 and 5.25.
    for (found, want) in [(pruned.runtime_low, 0.5775), (pruned.runtime, 0.655), (pruned.runtime_high, 0.7325)] {
        assert!((found - want).abs() < 1e-12, "{found} for {want}");
    }
    let dense = row(&rows, "dense", QualityName::Perplexity);
    assert_eq!((dense.runtime, dense.prr, dense.prr_flops), (1.0, None, None));
    let loss = pruned.quality.value - dense.quality.value;
    assert!(loss > 0.0 && pruned.value_dense == dense.quality.value);
    assert!((pruned.prr.unwrap() - loss / 0.345).abs() < 1e-9 * loss);
    // 0.6 of the FLOPs and 0.02 for the probes.
    assert!((pruned.prr_flops.unwrap() - loss / 0.38).abs() < 1e-9 * loss);
}

#[test]
fn accuracy_that_is_lost_counts_as_loss_and_slower_runs_have_no_ratio() {
    let mut lines = lines();
    for line in lines.iter_mut().filter(|line| line.arm == 2) {
        line.result.seconds = 5.0;
    }
    let rows = rows(&fingerprint(), &lines, &kept(), &[&Text, &Task]).unwrap();
    let (dense, pruned) = (row(&rows, "dense", QualityName::Acc), row(&rows, "full-batch 0.4", QualityName::Acc));
    assert!(dense.quality.value > pruned.quality.value, "{} {}", dense.quality.value, pruned.quality.value);
    assert_eq!(pruned.prr, None);
    let want = (dense.quality.value - pruned.quality.value) / 0.38;
    assert!((pruned.prr_flops.unwrap() - want).abs() < 1e-12);
}

#[test]
fn a_log_with_holes_makes_no_table() {
    let mut lines = lines();
    lines.pop();
    let error = rows(&fingerprint(), &lines, &kept(), &[&Text, &Task]).unwrap_err();
    assert!(error.to_string().contains("3 of 4"), "{error}");
}
