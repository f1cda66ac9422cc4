// x[t] += sum over parts of added[part][t] + bias, y[t] = (x[t] - mean) / sqrt(variance + eps) * scale + shift, and norms[t] = ||x[t]||.
// In a model whose norms follow its blocks the normed row is the residual stream as well, and the norm is that row's; where the first
// block is not preceded by a norm, y is x. A workgroup has one row.
struct Params {
    width: u32, // columns / 4
    x_row: u32,
    y_row: u32,
    eps: f32,
    parts: u32,       // of what is added; 0 = nothing is
    part_stride: u32, // from one part to the next, / 4
    biased: u32,      // whether `bias` is added too
    place: u32,       // 0 = no norm, 1 = the residual stream stays, 2 = it becomes the normed row
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> added: array<vec4<f32>>; // [parts][tokens][width]
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> norm: array<vec4<f32>>; // scale, then shift
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> norms: array<f32>;
#store beside 6
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;

var<workgroup> partial: array<f32, LANES>;

// The sum over the workgroup, for each of its invocations.
fn total(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        if lane < width {
            partial[lane] += partial[lane + width];
        }
        workgroupBarrier();
    }
    let sum = partial[0];
    workgroupBarrier(); // before `partial` is written again
    return sum;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let from_ = (p.x_row + row) * p.width;
    let to = (p.y_row + row) * p.width;
    let columns = f32(p.width * 4u);
    var sum = 0.0;
    for (var i = lane; i < p.width; i += LANES) {
        var v = x[from_ + i];
        for (var part = 0u; part < p.parts; part++) {
            v += added[part * p.part_stride + row * p.width + i];
        }
        if p.biased != 0u {
            v += bias[i];
        }
        if p.parts + p.biased != 0u {
            x[from_ + i] = v;
        }
        sum += v.x + v.y + v.z + v.w;
    }
    let mean = total(lane, sum) / columns;
    var squares = 0.0;
    for (var i = lane; i < p.width; i += LANES) {
        let off = x[from_ + i] - mean;
        squares += dot(off, off);
    }
    let scale = 1.0 / sqrt(total(lane, squares) / columns + p.eps);
    var length = 0.0;
    for (var i = lane; i < p.width; i += LANES) {
        var v = x[from_ + i];
        var normed = v;
        if p.place != 0u {
            normed = (v - mean) * scale * norm[i] + norm[p.width + i];
        }
        if p.place == 2u {
            v = normed;
            x[from_ + i] = v;
        }
        y[to + i] = normed;
        beside(to + i, normed);
        length += dot(v, v);
    }
    length = total(lane, length);
    if lane == 0u {
        norms[row] = sqrt(length);
    }
}
