//! What a device keeps for the next start.

use super::{TinySpec, files, load};
use secateur::engine::Scorer;
use secateur::gpu::{Gpu, GpuOptions};
use secateur::prune::Dense;
use std::path::Path;

fn run(folder: &Path) -> Vec<Vec<f32>> {
    let gpu = Gpu::open(&GpuOptions { cache: Some(folder.to_path_buf()), ..GpuOptions::default() }).expect("a device");
    let engine = load(&gpu, &files(&TinySpec::default().gguf()));
    let mut scorer = Scorer::new(&engine, 1, 8).unwrap();
    scorer.nll(&[(1..9).collect()], &mut Dense).unwrap()
}

/// Compiled pipelines are kept where the driver has such a cache, and a damaged file is replaced without a word.
#[test]
fn pipelines_are_kept_and_a_damaged_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let kept_files =
        || -> Vec<_> { std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let first = run(folder.path());
    let [file] = &kept_files()[..] else { panic!("one file for one adapter: {:?}", kept_files()) };
    let kept = std::fs::read(file).unwrap();
    assert!(kept.len() > 32);
    assert_eq!(run(folder.path()), first);
    for damaged in [&kept[..kept.len() / 2], b"", &[&kept[..], b"more"].concat()] {
        std::fs::write(file, damaged).unwrap();
        assert_eq!(run(folder.path()), first);
        assert!(std::fs::read(file).unwrap().len() > 32, "written anew");
        assert_eq!(kept_files().len(), 1);
    }
}
