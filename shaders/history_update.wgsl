// h[row(t), c] = keep * h[row(t), c] + gain * sum over samples and the row's tokens of (x[b, t, c] - mean[c])^2, or of x itself,
// for the channels that were computed. The running mean of the history, the sums of a calibration and those of a conversation
// are all this. Padding never counts. An invocation has four columns of x, and on hardware a share of the tokens.
struct Params {
    samples: u32,
    length: u32,   // tokens of a sample in x
    units: u32,    // units in x
    unit: u32,     // channels of a unit: 1, or a multiple of 4 where there is a list
    width: u32,    // channels of h
    stride: u32,   // columns of a row of x, a multiple of 4
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

#fetch x 0 vec4<f32>
@group(0) @binding(1) var<storage, read> kept: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> h: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

// The channels of h that four columns of x are, j the first. Columns past the last are padding: they stand for the last, and are not
// written.
fn channels_of(j: u32, columns: u32) -> vec4<u32> {
    let last = columns - 1u;
    if p.listed == 0u {
        return min(vec4<u32>(j) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    }
    if p.unit == 1u {
        return min(kept[min(j, last) / 4u], vec4<u32>(p.width - 1u));
    }
    // Units have a multiple of four channels.
    let entry = min(j, last) / p.unit;
    return vec4<u32>(kept[entry / 4u][entry % 4u] * p.unit + min(j, columns - 4u) - entry * p.unit) + vec4<u32>(0u, 1u, 2u, 3u);
}

const LC = ${LC}u; // invocations along columns
const LT = ${LT}u; // invocations along tokens, which share the columns

var<workgroup> partial: array<vec4<f32>, LC * LT>;
var<workgroup> counts: array<u32, LC * LT>;

@compute @workgroup_size(LC * LT)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let columns = p.units * p.unit;
    let quad = group.x * LC + lane % LC;
    let j = quad * 4u;
    let row = group.y;
    let channels = channels_of(j, columns);
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
    // Of a single sample the real tokens are the first, and nothing has to be looked up for each.
    let alone = p.samples == 1u;
    if p.padded != 0u && alone {
        end = min(end, lengths[0]);
    }
    var centre = vec4<f32>();
    if p.value == 1u {
        centre = vec4<f32>(mean[channels.x], mean[channels.y], mean[channels.z], mean[channels.w]);
    }
    var sum = vec4<f32>();
    var count = 0u;
    // One loop, for a loop inside another costs llvmpipe 1.6 ms a dispatch, however short both are.
    let terms = (max(first, end) - first) * p.samples;
    let column = min(quad, p.stride / 4u - 1u);
    let begun = lane / LC;
    var t = first + begun / p.samples;
    var b = begun % p.samples;
    let tokens_on = LT / p.samples;
    let samples_on = LT % p.samples;
    for (var i = begun; i < terms; i += LT) {
        var real = true;
        if p.padded != 0u && !alone {
            real = t < lengths[b];
        }
        if real {
            let v = x((p.x_row + b * p.length + t) * (p.stride / 4u) + column) - centre;
            sum += select(v * v, v, p.value == 2u);
            count += 1u;
        }
        t += tokens_on;
        b += samples_on;
        t += u32(b >= p.samples);
        b = select(b, b - p.samples, b >= p.samples);
    }
    if LT > 1u {
        partial[lane] = sum;
        counts[lane] = count;
        workgroupBarrier();
        for (var width = LT / 2u; width > 0u; width /= 2u) {
            if begun < width {
                partial[lane] += partial[lane + width * LC];
                counts[lane] += counts[lane + width * LC];
            }
            workgroupBarrier();
        }
        sum = partial[lane];
        count = counts[lane];
    }
    if begun == 0u && count > 0u && j < columns {
        if p.average != 0u {
            sum /= f32(count);
        }
        for (var n = 0u; n < min(columns - j, 4u); n++) {
            let to = row * p.width + channels[n];
            h[to] = p.keep * h[to] + p.gain * sum[n];
        }
    }
}
