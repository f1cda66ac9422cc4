// h[t, c] = keep * h[t, c] + gain * sum over samples of x[b, t, c]^2, for the channels that were computed. The running
// mean of the history, the sums of a calibration and those of a conversation are all this. Padding never counts.
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
    mean: u32,     // whether the sum is divided by the samples that have this token
    collapsed: u32, // whether every token falls into row 0 of h
    keep: f32,
    gain: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> kept: array<u32>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read_write> h: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let j = at.x;
    if j >= p.units * p.unit {
        return;
    }
    var c = j;
    if p.listed != 0u {
        c = kept[j / p.unit] * p.unit + j % p.unit;
    }
    var first = at.y;
    var last = at.y;
    if p.collapsed != 0u {
        first = 0u;
        last = p.length - 1u;
    }
    var sum = 0.0;
    var count = 0u;
    for (var t = first; t <= last; t++) {
        for (var b = 0u; b < p.samples; b++) {
            var real = true;
            if p.padded != 0u {
                real = t < lengths[b];
            }
            if real {
                let v = x[(p.x_row + b * p.length + t) * p.stride + j];
                sum += v * v;
                count += 1u;
            }
        }
    }
    if count > 0u {
        if p.mean != 0u {
            sum /= f32(count);
        }
        h[first * p.width + c] = p.keep * h[first * p.width + c] + p.gain * sum;
    }
}
