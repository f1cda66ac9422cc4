// h[row(t), c] = keep * h[row(t), c] + gain * sum over samples and the row's tokens of (x[b, t, c] - mean[c])^2, or of x itself,
// for the channels that were computed. The running mean of the history, the sums of a calibration and those of a conversation
// are all this. Padding never counts.
struct Params {
    samples: u32,
    length: u32,   // tokens of a sample in x
    units: u32,    // units in x
    unit: u32,     // channels of a unit
    width: u32,    // channels of h
    stride: u32,   // columns of a row of x
    x_row: u32,    // first row of x
    listed: u32,   // whether `kept` names the units in x
    padded: u32,   // whether `lengths` holds
    average: u32,  // whether the sum is divided by the number of its tokens
    kind: u32,     // rows of h: 0 one for all tokens, 1 one for each, 2 ranges of tokens that double (history_row.wgsl)
    rows: u32,
    value: u32,    // what is summed: 0 x^2, 1 (x - mean)^2, 2 x
    keep: f32,
    gain: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> kept: array<u32>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> h: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let j = at.x;
    let row = at.y;
    if j >= p.units * p.unit {
        return;
    }
    var c = j;
    if p.listed != 0u {
        c = kept[j / p.unit] * p.unit + j % p.unit;
    }
    var first = row;
    var end = row + 1u;
    if p.kind == 0u {
        first = 0u;
        end = p.length;
    }
    if p.kind == 2u {
        first = (1u << row) >> 1u;
        end = select(1u << row, p.length, row + 1u == p.rows);
    }
    end = min(end, p.length);
    var centre = 0.0;
    if p.value == 1u {
        centre = mean[c];
    }
    var sum = 0.0;
    var count = 0u;
    // One loop, for a loop inside another costs llvmpipe 1.6 ms a dispatch, however short both are.
    let terms = (max(first, end) - first) * p.samples;
    var t = first;
    var b = 0u;
    for (var i = 0u; i < terms; i++) {
        var real = true;
        if p.padded != 0u {
            real = t < lengths[b];
        }
        if real {
            let v = x[(p.x_row + b * p.length + t) * p.stride + j] - centre;
            sum += select(v * v, v, p.value == 2u);
            count += 1u;
        }
        b += 1u;
        t += u32(b == p.samples);
        b = select(b, 0u, b == p.samples);
    }
    if count > 0u {
        if p.average != 0u {
            sum /= f32(count);
        }
        h[row * p.width + c] = p.keep * h[row * p.width + c] + p.gain * sum;
    }
}
