//! What kernels write into a buffer with a mirror is what others then fetch from it.

use super::Manner;
use super::harness::{Device, Random, summing};
use secateur::gpu::{Buffer, Contents, Recorder, Tier};
use secateur::kernels::history_update::{Update, Value};
use secateur::kernels::layer_norm::Place;
use secateur::kernels::{self, HistoryRows, Rows};

const FIRST: usize = 3;

/// A buffer with a mirror for `tokens` rows behind the [`FIRST`], the others NaN.
fn mirrored(device: &Device, tokens: usize, width: usize) -> Buffer {
    let values = vec![f32::NAN; (FIRST + tokens) * width];
    device.gpu.mirrored("rows", Contents::Bytes(bytemuck::cast_slice(&values))).expect("a buffer")
}

/// Sums of columns, fetched by a kernel, are those of what lies in the buffer itself.
fn same_in_both(device: &Device, what: &str, rows: &Buffer, (tokens, width): (usize, usize)) {
    let sums = device.gpu.upload("sums", &vec![0.0f32; width]).expect("a buffer");
    let one = HistoryRows::One;
    let update =
        Update { samples: 1, length: tokens, width, stride: width, average: false, rows: one, keep: 0.0, gain: 1.0 };
    device.run(&what, |recorder| {
        let rows = Rows { buffer: rows, first: FIRST as u32 };
        kernels::history_update::record(recorder, (rows, Value::Plain), None, None, &sums, update)
    });
    let values: Vec<f32> = device.gpu.read(rows, (FIRST + tokens) * width).expect("values");
    let values = &values[FIRST * width..];
    assert!(values.iter().all(|value| value.is_finite()), "{what}: rows that were not written");
    let sums: Vec<f32> = device.gpu.read(&sums, width).expect("sums");
    for (column, sum) in sums.iter().enumerate() {
        let column = || values.chunks_exact(width).map(|row| f64::from(row[column]));
        let (expected, size) = (column().sum::<f64>(), column().map(f64::abs).sum::<f64>());
        assert!(
            (f64::from(*sum) - expected).abs() <= summing(tokens) * size,
            "{what}: {sum} fetched, {expected} there"
        );
    }
}

/// On hardware a mirror is nothing, and the same holds.
#[test]
fn norms_keep_the_mirrors_of_what_they_write() {
    let mut random = Random(26);
    for tier in [Tier::Software, Tier::Gpu] {
        let device = super::device(tier, Manner::Trusted);
        // More than a row of the texture as well, with rows that lie across two.
        for (tokens, width) in [(1, 576), (2, 64), (7, 2052), (9, 1024)] {
            let x = device.in_out(&random.values(tokens * width, 1.0), 0);
            let weight = device.input(&random.values(2 * width, 1.0), 0);
            let norms = device.output::<f32>(tokens, 0);
            let shape = (tokens, width, 1e-5);
            for what in ["rms_norm", "layer_norm"] {
                let y = mirrored(device, tokens, width);
                assert_eq!(y.is_mirrored(), tier == Tier::Software);
                let rows = Rows { buffer: &y, first: FIRST as u32 };
                device.run(&what, |recorder| match what {
                    "rms_norm" => kernels::rms_norm::record(recorder, (&x).into(), None, &weight, rows, &norms, shape),
                    _ => {
                        let (nothing, norm) = ((None, None), (&weight, Place::Before));
                        kernels::layer_norm::record(recorder, (&x).into(), nothing, norm, rows, &norms, shape)
                    }
                });
                same_in_both(device, what, &y, (tokens, width));
            }
        }
    }
}

/// Of one query, of some, and of many, which take different variants.
#[test]
fn attention_keeps_the_mirror_of_what_it_writes() {
    use secateur::kernels::Cache;
    use secateur::kernels::attention::{Members, Queries};
    let mut random = Random(27);
    for tier in [Tier::Software, Tier::Gpu] {
        let device = super::device(tier, Manner::Trusted);
        for (length, heads, kv_heads, head_dim) in [(1, 9, 3, 64), (3, 9, 3, 64), (33, 9, 3, 64), (1, 2, 1, 8)] {
            let (width, capacity) = (heads * head_dim, length);
            let q = device.input(&random.values(length * width, 1.0), 0);
            let cache = device.input(&random.values(capacity * Cache::slot(kv_heads, head_dim), 1.0), 0);
            let places: Vec<[u32; 2]> = (0..length as u32).map(|at| [at; 2]).collect();
            let places = device.pairs(&places);
            let out = mirrored(device, length, width);
            let what = format!("attention of {length} with {heads} heads of {head_dim}");
            device.run(&what, |recorder| {
                let queries = Queries {
                    q: &q,
                    stride: heads,
                    places: &places,
                    samples: 1,
                    length,
                    heads,
                    model_heads: heads,
                    members: Members::All,
                    window: None,
                    gathered: false,
                };
                let cache = Cache { buffer: &cache, kv_heads, capacity, fresh: 0, filled: length, head_dim };
                kernels::attention::record(recorder, queries, cache, Rows { buffer: &out, first: FIRST as u32 })
            });
            same_in_both(device, &what, &out, (length, width));
        }
    }
}

/// Of one token and two, whose kernels keep the mirror themselves where they make whole rows, and of three.
#[test]
fn matmuls_by_rows_keep_the_mirror_of_what_they_write() {
    use secateur::format::{HostTensor, Layout, Weight, WeightFormat};
    use secateur::kernels::Kept;
    const ROWS: usize = 900;
    const COLS: usize = 128;
    let mut random = Random(28);
    for tier in [Tier::Software, Tier::Gpu] {
        let device = super::device(tier, Manner::Trusted);
        for (tokens, rows_per_shard, kept) in [
            (1, ROWS, None),
            (1, ROWS, Some(356)),
            (2, ROWS, Some(12)),
            (2, 400, None),
            (1, 400, Some(356)),
            (3, ROWS, None),
        ] {
            let mut weight = |name| {
                let values: Vec<f32> = random.values(ROWS * COLS, 1.0);
                let bytes = bytemuck::cast_slice(&values);
                let tensor = HostTensor { name, format: WeightFormat::F32, rows: ROWS, cols: COLS, bytes };
                Weight::upload(&device.gpu, tensor, Layout::Rows, rows_per_shard).expect("a weight")
            };
            let (gate, up) = (weight("gate"), weight("up"));
            let bias = device.input(&random.values(ROWS, 1.0), 0);
            let x = device.input(&random.values(tokens * COLS, 1.0), 0);
            let list = kept.map(|count| (device.input(&random.subset(ROWS, count), 0), count));
            let kept = || list.as_ref().map(|(list, count)| Kept { list, count: *count, unit: 1 });
            let width = kept().map_or(ROWS, |kept| kept.count);
            for what in ["gate_up", "fc1"] {
                let y = mirrored(device, tokens, width);
                let rows = Rows { buffer: &y, first: FIRST as u32 };
                let case = format!("{what} of {tokens} tokens, {width} outputs, {rows_per_shard} to a shard");
                device.run(&case, |recorder| match what {
                    "gate_up" => kernels::gate_up::record(recorder, (&x).into(), (&gate, &up), kept(), rows, tokens),
                    _ => kernels::fc1::record(recorder, (&x).into(), (&gate, &bias), kept(), rows, tokens),
                });
                same_in_both(device, &case, &y, (tokens, width));
            }
        }
    }
}

/// What is fetched twice in one list is what lies there each time, also where it was written in between.
#[test]
fn what_is_fetched_again_is_what_was_written_last() {
    let (tokens, width) = (9, 64);
    let one = HistoryRows::One;
    let update =
        Update { samples: 1, length: tokens, width, stride: width, average: false, rows: one, keep: 0.0, gain: 1.0 };
    for tier in [Tier::Software, Tier::Gpu] {
        let device = super::device(tier, Manner::Trusted);
        let rows = |value: f32| device.gpu.upload("rows", &vec![value; tokens * width]).expect("a buffer");
        let (x, other) = (rows(1.0), rows(2.0));
        let sums: Vec<Buffer> = (0..4).map(|_| device.gpu.zeros("sums", width).expect("a buffer")).collect();
        device.run(&"fetched again", |recorder| {
            let sum = |recorder: &mut Recorder<'_>, from: &Buffer, into: usize| {
                let from = (Rows { buffer: from, first: 0 }, Value::Plain);
                kernels::history_update::record(recorder, from, None, None, &sums[into], update)
            };
            sum(recorder, &x, 0)?;
            sum(recorder, &x, 1)?;
            kernels::copy::record(recorder, &other, &x, tokens * width)?;
            sum(recorder, &x, 2)?;
            sum(recorder, &other, 3)
        });
        let found: Vec<f32> = sums.iter().map(|sums| device.gpu.read(sums, width).expect("sums")[width - 1]).collect();
        assert_eq!(found, [1.0, 1.0, 2.0, 2.0].map(|value| value * tokens as f32), "{tier:?}");
    }
}
