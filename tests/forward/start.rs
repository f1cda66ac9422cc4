//! What a device keeps for the next start.

use super::{TinySpec, files, gpu, load};
use secateur::engine::Scorer;
use secateur::gpu::{Gpu, GpuOptions, Tier};
use secateur::kernels::matrix;
use secateur::kernels::shapes::Shaped;
use secateur::prune::Dense;
use std::path::{Path, PathBuf};

/// What a model says on a device that keeps things in `folder`, and which shapes it took: those of software adapters, which all add
/// in one order.
fn run(folder: &Path) -> (Vec<Vec<f32>>, [usize; 3]) {
    let (cache, tier) = (Some(folder.to_path_buf()), Some(Tier::Software));
    let gpu = Gpu::open(&GpuOptions { cache, tier, ..GpuOptions::default() }).expect("a device");
    let engine = load(&gpu, &files(&TinySpec::default().gguf()));
    let mut scorer = Scorer::new(&engine, 1, 8).unwrap();
    let nll = scorer.nll(&[(1..9).collect()], &mut Dense).unwrap();
    (nll, [0, 1, 2].map(|slot| gpu.choice(slot)))
}

fn kept(folder: &Path, kind: &str) -> PathBuf {
    let all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let is = |path: &&PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(kind);
    let [found] = all.iter().filter(is).collect::<Vec<_>>()[..] else { panic!("one {kind} of one adapter: {all:?}") };
    found.clone()
}

/// Compiled pipelines are kept where the driver has such a cache, and a damaged file is replaced without a word.
#[test]
fn pipelines_are_kept_and_a_damaged_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path());
    if gpu().info().backend != "Vulkan" {
        // No other driver hands its pipelines over.
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| name.to_str().unwrap().starts_with("shapes")));
        return;
    }
    let file = kept(folder.path(), "wgpu_pipeline_cache");
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.len() > 32);
    assert_eq!(run(folder.path()), first);
    for damaged in [&bytes[..bytes.len() / 2], b"", &[&bytes[..], b"more"].concat()] {
        std::fs::write(&file, damaged).unwrap();
        assert_eq!(run(folder.path()), first);
        assert_eq!(kept(folder.path(), "wgpu_pipeline_cache"), file);
        assert!(std::fs::read(&file).unwrap().len() > 32, "written anew");
    }
}

/// Kernel shapes are measured once; a file that is not theirs is measured anew, and a candidate that does not exist is the last.
#[test]
fn shapes_are_measured_once() {
    let folder = tempfile::tempdir().unwrap();
    let (nll, measured) = run(folder.path());
    let file = kept(folder.path(), "shapes");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{measured:?}"));
    std::fs::write(&file, "[1, 2, 0]").unwrap();
    assert_eq!(
        run(folder.path()),
        (nll.clone(), [1, 2, 0]),
        "the shapes of the file, and the same results on any of them"
    );
    std::fs::write(&file, "[1, 2").unwrap();
    assert_eq!(run(folder.path()).0, nll);
    assert_eq!(serde_json::from_str::<[usize; 3]>(&std::fs::read_to_string(&file).unwrap()).unwrap().len(), 3);
    std::fs::write(&file, "[99, 99, 99]").unwrap();
    assert_eq!(run(folder.path()).0, nll);
    // A device without a folder measures nothing.
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    load(&gpu, &files(&TinySpec::default().gguf()));
    assert_eq!(Shaped::ALL.map(|shaped| gpu.choice(shaped as usize)), [0; 3]);
}

/// What runs on matrix units is found out once too; where there are none, nothing is kept of them.
#[test]
fn matrix_units_are_measured_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let (cache, tier) = (Some(folder.path().to_path_buf()), Some(Tier::Gpu));
        let gpu = Gpu::open(&GpuOptions { cache, tier, ..GpuOptions::default() }).expect("a device");
        load(&gpu, &files(&TinySpec::default().gguf()));
        (gpu.matrix_units().is_some(), matrix::choice(&gpu))
    };
    let (has_them, measured) = run();
    if !has_them {
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_str().unwrap().starts_with("matrix")));
        return;
    }
    let file = kept(folder.path(), "matrix");
    let written = || serde_json::from_str::<matrix::Choice>(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(written(), measured);
    let other = [vec!["Q8_0".to_string()], vec![], vec!["F32".to_string()]];
    std::fs::write(&file, serde_json::to_string(&other).unwrap()).unwrap();
    assert_eq!(run().1, other, "those of the file");
    std::fs::write(&file, "[[").unwrap();
    let (_, again) = run();
    assert_eq!(written(), again, "measured anew");
}
