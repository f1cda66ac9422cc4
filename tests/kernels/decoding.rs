//! What shaders make of blocks is what GGML makes of them, to the bit, in both layouts.

use super::harness::{Device, Manner, exact};
use secateur::format::{HostTensor, Layout, Weight, WeightFormat};
use secateur::gpu::Tier;
use secateur::kernels::{self, matmul_columns};
use std::path::Path;

/// Blocks of random bytes and their values, as the fixtures' script wrote them.
struct Fixture {
    format: WeightFormat,
    blocks: Vec<Vec<u8>>,
    values: Vec<Vec<f32>>,
}

/// Every quantised format.
fn fixtures() -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quants");
    let quantised = WeightFormat::ALL.into_iter().filter(|format| format.block().0 > 1);
    let read = |format: WeightFormat| {
        let (elements, size) = format.block();
        let bytes = std::fs::read(folder.join(format!("{}.bin", format.name()))).expect("a fixture of every format");
        let (count, rest) = bytes.split_at(4);
        let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]) as usize;
        let (blocks, values) = rest.split_at(count * size);
        let values: Vec<f32> = values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!(values.len(), count * elements, "{}", format.name());
        Fixture {
            format,
            blocks: blocks.chunks_exact(size).map(<[u8]>::to_vec).collect(),
            values: values.chunks_exact(elements).map(<[f32]>::to_vec).collect(),
        }
    };
    quantised.map(read).collect()
}

impl Fixture {
    /// A tensor of these blocks, in an order that no two neighbours share, and its values.
    fn tensor(&self, rows: usize, cols: usize) -> (Vec<u8>, Vec<f32>) {
        let per_row = cols / self.format.block().0;
        let places = (0..rows * per_row).map(|at| {
            let (row, block) = (at / per_row, at % per_row);
            (row * 37 + row * row / 8 + block * 3) % self.blocks.len()
        });
        let (blocks, values) =
            places.map(|at| (&self.blocks[at][..], &self.values[at][..])).unzip::<_, _, Vec<_>, Vec<_>>();
        (blocks.concat(), values.concat())
    }

    fn upload(
        &self,
        device: &Device,
        layout: Layout,
        (rows, cols): (usize, usize),
        at_once: usize,
    ) -> (Weight, Vec<f32>) {
        let (bytes, values) = self.tensor(rows, cols);
        let tensor = HostTensor { name: "test", format: self.format, rows, cols, bytes: &bytes };
        (Weight::upload(&device.gpu, tensor, layout, at_once).expect("an upload"), values)
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn bytes_are_decoded_on_the_cpu() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), WeightFormat::ALL.len() - 3, "all but floats");
    for Fixture { format, blocks, values } in fixtures {
        assert_eq!(bits(&format.dequantise(&blocks.concat())), bits(&values.concat()), "{}", format.name());
    }
}

#[test]
fn no_value_exceeds_what_its_block_may_hold() {
    for Fixture { format, blocks, values } in fixtures() {
        for (block, values) in blocks.iter().zip(&values) {
            let (bound, most) =
                (format.largest(block), values.iter().fold(0.0, |most: f32, value| most.max(value.abs())));
            assert!(bound.is_finite() && most <= bound, "{}: {most} of {bound}", format.name());
        }
    }
}

#[test]
fn rows_are_decoded_on_the_device() {
    for tier in [Tier::Gpu, Tier::Software] {
        let device = crate::device(tier, Manner::Trusted);
        for fixture in fixtures() {
            // An odd number of the widest blocks too.
            for (rows, cols) in [(33, 512), (7, 768)] {
                let case = (fixture.format, rows, cols);
                let (weight, values) = fixture.upload(device, Layout::Rows, (rows, cols), 20);
                let ids: Vec<u32> = (0..rows as u32).collect();
                let (ids, x) = (device.input(&ids, 0), device.output::<f32>(rows * cols, 0));
                device.run(&case, |recorder| kernels::embed::record(recorder, &ids, &weight, &x, rows));
                device.compare(&case, "x", (&x, 0), &values, exact);
            }
        }
    }
}

/// Products with single channels.
#[test]
fn columns_are_decoded_on_the_device() {
    for tier in [Tier::Gpu, Tier::Software] {
        let device = crate::device(tier, Manner::Trusted);
        for fixture in fixtures() {
            let (rows, cols) = (96, 512);
            let (weight, values) = fixture.upload(device, Layout::Columns, (rows, cols), 64);
            for channel in (0..cols).step_by(13).chain([cols - 1]) {
                let case = (fixture.format, channel);
                let mut a = vec![0.0f32; cols];
                a[channel] = 1.0;
                let (input, y) = (device.input(&a, 0), device.output::<f32>(rows, 0));
                device.run(&case, |recorder| {
                    let into = matmul_columns::Product::Set((&y).into());
                    matmul_columns::record(recorder, (&input).into(), &weight, None, into, 1)
                });
                let expected: Vec<f32> = (0..rows).map(|row| values[row * cols + channel]).collect();
                device.compare(&case, "y", (&y, 0), &expected, exact);
            }
        }
    }
}

/// Planes are as large as is said before they are made, and no larger than the file but for what the formats' own words admit.
#[test]
fn planes_hold_what_the_file_holds() {
    for fixture in fixtures() {
        let (rows, cols, format) = (96, 768, fixture.format);
        let (bytes, _) = fixture.tensor(rows, cols);
        for layout in [Layout::Rows, Layout::Columns] {
            let planes = format.pack(layout, &bytes, rows, cols);
            let made = [planes.quants, planes.scales].map(|plane| 4 * plane.len() as u64);
            assert_eq!(made, format.plane_bytes(layout, rows, cols), "{} {layout:?}", format.name());
            let more = match (format, layout) {
                (WeightFormat::Q3K, Layout::Rows) => rows * cols / 256 * 2,
                (WeightFormat::Q6K, Layout::Rows) => rows * 2,
                _ => 0,
            };
            assert_eq!(format.bytes(layout, rows, cols), (bytes.len() + more) as u64, "{} {layout:?}", format.name());
        }
    }
}

/// A block with a factor that is infinite or no number is named by its first element.
#[test]
fn factors_that_are_not_finite_are_found() {
    for fixture in fixtures() {
        let (format, (elements, size)) = (fixture.format, fixture.format.block());
        let mut bytes = fixture.blocks.concat();
        assert_eq!(format.first_not_finite(&bytes), None, "{}", format.name());
        let places: &[usize] = match format {
            WeightFormat::Q2K => &[80, 82],
            WeightFormat::Q3K => &[108],
            WeightFormat::Q6K => &[208],
            WeightFormat::Q4_1 | WeightFormat::Q5_1 | WeightFormat::Q4K | WeightFormat::Q5K => &[0, 2],
            _ => &[0],
        };
        for &at in places {
            for bad in [half::f16::INFINITY, half::f16::NAN] {
                let field = 3 * size + at..3 * size + at + 2;
                let before = bytes[field.clone()].to_vec();
                bytes[field.clone()].copy_from_slice(&bad.to_le_bytes());
                let (index, value) = format.first_not_finite(&bytes).expect("a finding");
                assert_eq!((index, value.is_finite()), (3 * elements, false), "{} {at}", format.name());
                bytes[field].copy_from_slice(&before);
            }
        }
    }
}
