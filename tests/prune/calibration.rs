//! What a calibration holds, how it is kept, and what is refused.

use super::{Bendable, CALIBRATED, model, theirs};
use crate::common::calibrations::{MODEL_SHA256, known, measured, recipe};
use crate::common::device::{Random, assert_close, tiny, tolerance};
use crate::common::reference::Reference;
use crate::common::reference::calibration::{Calibration as Exact, Statistics};
use safetensors::{Dtype, tensor::TensorView};
use secateur::Error;
use secateur::config::{HistoryKind, Method, PruneConfig, Statistic};
use secateur::engine::Engine;
use secateur::eval::calibrate;
use secateur::prune::{Calibration, Half, Knowledge, rows_of};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn samples(engine: &Engine) -> Vec<Vec<u32>> {
    Random(7).batch(&[CALIBRATED.1; CALIBRATED.0], engine.config().vocab_size)
}

fn pair(shape: usize) -> (Arc<Engine>, Reference) {
    tiny(&model(shape, 30 + shape as u64))
}

/// Every layer's halves.
fn halves(engine: &Engine) -> impl Iterator<Item = (usize, Half)> {
    (0..engine.config().num_hidden_layers).flat_map(|layer| Half::BOTH.map(|half| (layer, half)))
}

/// Fails unless both hold the same values to the bit.
fn assert_same(engine: &Engine, a: &Calibration, b: &Calibration) {
    assert_eq!(a.recipe(), b.recipe());
    for (layer, half) in halves(engine) {
        assert_eq!(a.measured(layer, half).unwrap(), b.measured(layer, half).unwrap(), "layer {layer}, {half:?}");
    }
}

#[test]
fn a_calibration_is_what_dense_runs_say() {
    for shape in 0..3 {
        let (engine, reference) = pair(shape);
        let samples = samples(&engine);
        let exact = Exact::measure(&reference, &samples);
        let allowed = tolerance(engine.config(), CALIBRATED.1);
        // One sample a pass, an even number, and passes that do not divide them.
        for batch in [1, 2, 4, 6] {
            let found = measured(&engine, &samples, batch, HistoryKind::Exact);
            assert_eq!((found.recipe().measured, found.recipe().samples), (6, 6));
            for (&site, exact) in &exact.sites {
                let case = format!("shape {shape}, {batch} a pass, {site:?}");
                let found = found.measured(site.layer, theirs(site.half)).unwrap();
                let Statistics { mean, fluctuation, means, mean_squares } = exact;
                // A mean is small beside what it is a mean of: values err relative to the largest of those.
                let largest = mean_squares.concat().into_iter().fold(0.0f64, f64::max).sqrt();
                for (what, found, exact) in [("mean", &found.mean, mean), ("means", &found.means, &means.concat())] {
                    for (found, exact) in found.iter().zip(exact) {
                        let off = (f64::from(*found) - exact).abs();
                        assert!(off <= 2.0 * allowed * largest, "{case}: {what}: {found}, should be {exact}");
                    }
                }
                assert_close(&found.mean_squares, &mean_squares.concat(), 4.0 * allowed, &case);
                assert_close(&found.fluctuation, fluctuation, 8.0 * allowed, &format!("{case}: fluctuation"));
            }
        }
    }
}

/// Rows that are derived from those of every position are those that are measured at once.
#[test]
fn coarser_rows_follow_from_finer_ones() {
    let (engine, _) = pair(0);
    let samples = samples(&engine);
    let of = |positions| measured(&engine, &samples, 3, positions);
    let (fine, ranges, one) = (of(HistoryKind::Exact), of(HistoryKind::Buckets), of(HistoryKind::Collapsed));
    for statistic in [Statistic::Energy, Statistic::Fluctuation] {
        for (kind, direct, derived) in [
            (HistoryKind::Buckets, &ranges, &fine),
            (HistoryKind::Collapsed, &one, &fine),
            (HistoryKind::Collapsed, &one, &ranges),
        ] {
            let rows = rows_of(kind, CALIBRATED.1);
            for (layer, half) in halves(&engine) {
                let [direct, derived] = [direct, derived].map(|c| c.history(layer, half, rows, statistic).unwrap());
                assert_eq!(direct.len(), rows.total() * half.width(engine.config()));
                // Both are sums of the same 240 values, in other orders; centred ones of differences.
                let exact: Vec<f64> = direct.iter().map(|&value| f64::from(value)).collect();
                assert_close(&derived, &exact, 5e-6, &format!("{kind:?}, {statistic:?}, layer {layer}, {half:?}"));
            }
        }
    }
    // Finer ones do not follow from coarser ones.
    for (kind, coarse) in [(HistoryKind::Exact, &ranges), (HistoryKind::Exact, &one), (HistoryKind::Buckets, &one)] {
        let error = coarse.history(0, Half::Mlp, rows_of(kind, CALIBRATED.1), Statistic::Energy).unwrap_err();
        assert!(error.is_user_fault() && error.to_string().contains("--positions exact"), "{error}");
        let prune =
            PruneConfig { method: Method::Pp, ratio: 0.4, history: kind, dense_layers: 1, ..Default::default() };
        let known = Knowledge { calibration: Some(Arc::new(of(coarse.recipe().positions))), masks: None };
        assert!(engine.chooser(&prune, &known, CALIBRATED.1).is_err());
    }
    // Nor for other lengths.
    let error = fine.history(0, Half::Mlp, rows_of(HistoryKind::Exact, 41), Statistic::Energy).unwrap_err();
    assert!(error.to_string().contains("40 positions"), "{error}");
}

/// A measurement that was cut short anywhere goes on, from memory or from a file, to the very bits of one that was not.
#[test]
fn a_measurement_goes_on_where_it_stopped() {
    let (engine, _) = pair(1);
    let (samples, dir) = (samples(&engine), tempfile::tempdir().unwrap());
    for positions in [HistoryKind::Exact, HistoryKind::Buckets, HistoryKind::Collapsed] {
        let begin = || recipe(samples.len(), CALIBRATED.1, positions);
        let (mut parts, mut heard) = (Vec::new(), Vec::new());
        let whole = calibrate::measure(&engine, begin(), (&samples, 2), None, &mut |step| {
            heard.push((step.done, step.total));
            parts.push(step.read()?);
            Ok(())
        })
        .unwrap();
        assert_eq!(heard, [(0, 6), (2, 6), (4, 6), (6, 6)]);
        for (index, part) in parts.into_iter().enumerate() {
            let path = dir.path().join(format!("{positions:?}{index}"));
            part.save(&path).unwrap();
            let part = Calibration::open_partial(&path).unwrap();
            assert_eq!(part.recipe().measured, 2 * index);
            assert!(part.recipe().same(whole.recipe()));
            let again = calibrate::measure(&engine, begin(), (&samples, 2), Some(&part), &mut |_| Ok(())).unwrap();
            assert_same(&engine, &again, &whole);
        }
    }
    // What is heard may end it.
    let begin = recipe(samples.len(), CALIBRATED.1, HistoryKind::Exact);
    let ended = calibrate::measure(&engine, begin.clone(), (&samples, 2), None, &mut |step| match step.done {
        0 => Ok(()),
        _ => Err(Error::Cancelled),
    });
    assert!(matches!(ended, Err(Error::Cancelled)));
    assert!(matches!(
        calibrate::measure(&engine, begin.clone(), (&[], 2), None, &mut |_| Ok(())),
        Err(Error::Setting(_))
    ));
    assert!(matches!(calibrate::measure(&engine, begin, (&samples, 0), None, &mut |_| Ok(())), Err(Error::Setting(_))));
}

/// A sound calibration of a tiny model in a file.
fn saved(engine: &Arc<Engine>) -> (tempfile::TempDir, PathBuf, Calibration) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let calibration = measured(engine, &samples(engine), 3, HistoryKind::Exact);
    calibration.save(&path).unwrap();
    (dir, path, calibration)
}

#[test]
fn what_is_saved_is_what_is_opened() {
    let (engine, _) = pair(2);
    let (dir, path, calibration) = saved(&engine);
    let opened = Calibration::open(&path).unwrap();
    assert_same(&engine, &opened, &calibration);
    opened.check_model(engine.config(), MODEL_SHA256).unwrap();
    assert_eq!(opened.bytes(), fs::metadata(&path).unwrap().len());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    // Over an older file, while that is in use.
    calibration.save(&path).unwrap();
    assert_same(&engine, &opened, &calibration);
    let nowhere = dir.path().join("nowhere").join("a");
    assert!(matches!(calibration.save(&nowhere), Err(Error::Io { path, .. }) if path == nowhere));
    // A folder of that name cannot be replaced, and nothing is left behind.
    fs::create_dir_all(dir.path().join("folder").join("full")).unwrap();
    assert!(matches!(calibration.save(&dir.path().join("folder")), Err(Error::Io { .. })));
    assert!(!dir.path().join("folder.writing").exists());
}

/// Writes the file anew with its tensors and recipe changed.
fn bent(path: &Path, bend: impl FnOnce(&mut Vec<Bendable>, &mut serde_json::Value)) -> PathBuf {
    let bent = path.with_extension("bent");
    fs::write(&bent, super::bent(&fs::read(path).unwrap(), bend)).unwrap();
    bent
}

#[test]
fn damaged_files_are_refused() {
    let (engine, _) = pair(0);
    let (dir, path, _) = saved(&engine);
    let bytes = fs::read(&path).unwrap();
    let refused = |path: &PathBuf| {
        let error = Calibration::open(path).unwrap_err();
        assert!(error.is_user_fault(), "{error}");
        assert!(error.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "names the file: {error}");
        error.to_string()
    };
    let cut = dir.path().join("cut");
    for length in [0, 1, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&cut, &bytes[..length]).unwrap();
        refused(&cut);
    }
    fs::write(&cut, [&bytes[..], b"more"].concat()).unwrap();
    refused(&cut);
    fs::write(&cut, "not a calibration at all").unwrap();
    refused(&cut);
    assert!(refused(&dir.path().join("missing")).contains("open"));
    let other = dir.path().join("other.safetensors");
    let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
    fs::write(&other, safetensors::serialize([("a", view)], None).unwrap()).unwrap();
    assert!(refused(&other).contains("calibrate"));
    for (field, value, word) in [
        ("measured", serde_json::json!(4), "4 of its 6"),
        ("format", serde_json::json!(99), "99"),
        ("seq_len", serde_json::json!("x"), "calibration"),
        ("samples", serde_json::Value::Null, "calibration"),
    ] {
        let found = refused(&bent(&path, |_, recipe| recipe[field] = value.clone()));
        assert!(found.contains(word), "{field}: {found}");
    }
    let partial = bent(&path, |_, recipe| recipe["measured"] = 4.into());
    assert_eq!(Calibration::open_partial(&partial).unwrap().recipe().measured, 4);
}

#[test]
fn calibrations_of_something_else_are_refused() {
    let (engine, _) = pair(0);
    let (_dir, path, calibration) = saved(&engine);
    let error = calibration.check_model(engine.config(), &"b".repeat(64)).unwrap_err().to_string();
    assert!(error.contains("tiny") && error.contains(MODEL_SHA256) && error.contains(&"b".repeat(64)), "{error}");
    let (other, _) = pair(1);
    assert!(matches!(calibration.check_model(other.config(), MODEL_SHA256), Err(Error::TensorShape { .. })));
    let check = |path: &PathBuf| Calibration::open(path).unwrap().check_model(engine.config(), MODEL_SHA256);
    check(&path).unwrap();
    let name = "layers.2.down_proj.mean_squares";
    let missing = bent(&path, |tensors, _| tensors.retain(|tensor| tensor.0 != name));
    assert!(matches!(check(&missing), Err(Error::TensorMissing { name: found, .. }) if found == name));
    let shape = bent(&path, |_, recipe| recipe["seq_len"] = 39.into());
    assert!(matches!(check(&shape), Err(Error::TensorShape { .. })));
    for bad in [f32::NAN, f32::INFINITY] {
        let damaged = bent(&path, |tensors, _| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap();
            tensor.3[20..24].copy_from_slice(&bad.to_le_bytes());
        });
        let damaged = Calibration::open(&damaged).unwrap();
        let found = damaged.measured(2, Half::Mlp);
        assert!(matches!(found, Err(Error::TensorNotFinite { index: 5, .. })), "{found:?}");
        // Methods that use it say so too.
        let known = known(&Arc::new(damaged));
        for method in [Method::Pp, Method::WandaSp] {
            let prune = PruneConfig { method, ratio: 0.4, dense_layers: 1, tile: 8, ..PruneConfig::default() };
            let error = engine.chooser(&prune, &known, CALIBRATED.1).err().expect("a damaged calibration");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

/// Settings that need what is not there say what to give.
#[test]
fn what_needs_a_calibration_says_so() {
    let (engine, _) = pair(0);
    let base = PruneConfig { method: Method::Pp, ratio: 0.4, dense_layers: 1, tile: 8, ..PruneConfig::default() };
    let threshold = secateur::config::LayerRatios::Threshold;
    for prune in [
        PruneConfig { method: Method::WandaSp, ..base.clone() },
        PruneConfig { method: Method::Flap, ..base.clone() },
        PruneConfig { statistic: Statistic::Fluctuation, ..base.clone() },
        PruneConfig { compensate: true, method: Method::FullBatch, ..base.clone() },
        PruneConfig { layer_ratios: threshold, ..base.clone() },
    ] {
        assert!(prune.needs_calibration());
        let error = engine.chooser(&prune, &Knowledge::default(), 10).err().expect("no calibration");
        assert!(matches!(error, Error::Setting(_)) && error.to_string().contains("--calibration"), "{error}");
    }
    assert!(!base.needs_calibration() && base.uses_calibration());
    engine.chooser(&base, &Knowledge::default(), 10).unwrap();
    // Samples longer than an exact history are refused by name and number.
    let known = known(&Arc::new(measured(&engine, &samples(&engine), 3, HistoryKind::Exact)));
    let mut chooser = engine.chooser(&base, &known, 41).unwrap();
    let error = chooser.prepare(2, 41).err().expect("41 tokens do not fit 40 positions").to_string();
    assert!(error.contains("40") && error.contains("41") && error.contains("buckets"), "{error}");
    chooser.prepare(2, 40).unwrap();
}
