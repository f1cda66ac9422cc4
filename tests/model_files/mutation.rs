//! Random damage to valid files: opening one never panics, and never takes much more memory than the file.

use crate::common::tiny_model::{TinySpec, write_hf_folder};
use proptest::prelude::*;
use secateur::model::ModelFiles;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;

thread_local! {
    /// Bytes that this thread holds, and the most it held since the last reset.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counting for each thread.
struct Counting;

fn note(change: isize) {
    // While a thread ends its counter may be gone; what it frees then is nobody's measurement.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + change, most.max(now + change)));
    });
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: `pointer` came from `System` by `alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work` and returns the most bytes that it held beyond what was held before.
fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    work();
    HELD.with(|held| (held.get().1 - before).max(0) as usize)
}

/// Beyond a multiple of the file: decoded vocabularies and JSON trees are larger than their text, but not by much.
const SLACK: usize = 4 << 20;

/// Overwrites bytes, most of them where the structure is, then cuts the file.
fn damage(bytes: &mut Vec<u8>, flips: &[(usize, u8, bool)], cut: Option<usize>, head: usize) {
    for &(at, value, in_head) in flips {
        let span = if in_head { head.min(bytes.len()) } else { bytes.len() };
        bytes[at % span] = value;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut % (bytes.len() + 1));
    }
}

fn flips() -> impl Strategy<Value = Vec<(usize, u8, bool)>> {
    let value = prop_oneof![any::<u8>(), Just(0), Just(1), Just(0x7f), Just(0x80), Just(0xff)];
    prop::collection::vec((any::<usize>(), value, prop::bool::weighted(0.9)), 0..12)
}

fn small() -> TinySpec {
    TinySpec { hidden: 32, layers: 1, heads: 2, kv_heads: 1, channels: 32, vocab: 268, ..TinySpec::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_gguf(flips in flips(), cut in prop::option::weighted(0.3, any::<usize>())) {
        let mut bytes = small().gguf().to_bytes();
        // Metadata and tensor headers of this model take some 11 kB.
        damage(&mut bytes, &flips, cut, 11_000);
        let len = bytes.len();
        let held = peak(|| {
            if let Ok(model) = ModelFiles::from_gguf_bytes("damaged.gguf", bytes) {
                model.tensors().for_each(|tensor| assert_eq!(Some(tensor.bytes.len()), tensor.kind.row_bytes(tensor.cols).map(|row| row * tensor.rows)));
            }
        });
        prop_assert!(held <= 4 * len + SLACK, "{held} bytes held for a file of {len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_folder(
        file in prop::sample::select(vec!["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]),
        flips in flips(),
        cut in prop::option::weighted(0.3, any::<usize>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        write_hf_folder(dir.path(), &small());
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes, &flips, cut, 1_200);
        fs::write(&path, &bytes).unwrap();
        let held = peak(|| {
            if let Ok(model) = ModelFiles::open(dir.path()) {
                model.tensors().for_each(|tensor| assert!(!tensor.bytes.is_empty()));
            }
        });
        prop_assert!(held <= 4 * bytes.len() + SLACK, "{held} bytes held for a file of {}", bytes.len());
    }
}
