// x[t] += sum over parts of added[part][t], y[t] = x[t] / sqrt(mean(x[t]^2) + eps) * weight, and norms[t] = ||x[t]||: the residual
// importance costs nothing more. A workgroup has one row.
struct Params {
    width: u32, // columns / 4
    x_row: u32,
    y_row: u32,
    eps: f32,
    parts: u32,       // of what is added; 0 = x stays as it is
    part_stride: u32, // from one part to the next, / 4
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> added: array<vec4<f32>>; // [parts][tokens][width]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> norms: array<f32>;
#store beside 5
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let from_ = (p.x_row + row) * p.width;
    let to = (p.y_row + row) * p.width;
    var sum = 0.0;
    for (var i = lane; i < p.width; i += LANES) {
        var v = x[from_ + i];
        if p.parts > 0u {
            for (var part = 0u; part < p.parts; part++) {
                v += added[part * p.part_stride + row * p.width + i];
            }
            x[from_ + i] = v;
        }
        sum += dot(v, v);
    }
    partial[lane] = sum;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        if lane < width {
            partial[lane] += partial[lane + width];
        }
        workgroupBarrier();
    }
    let total = partial[0];
    let scale = 1.0 / sqrt(total / f32(p.width * 4u) + p.eps);
    for (var i = lane; i < p.width; i += LANES) {
        let normed = x[from_ + i] * scale * weight[i];
        y[to + i] = normed;
        beside(to + i, normed);
    }
    if lane == 0u {
        norms[row] = sqrt(total);
    }
}
