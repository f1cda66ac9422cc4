// y[t] = x[t] / sqrt(mean(x[t]^2) + eps) * weight, and norms[t] = ||x[t]||: the residual importance costs nothing more.
// A workgroup has one row.
struct Params {
    width: u32, // columns / 4
    x_row: u32,
    y_row: u32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;
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
        let v = x[from_ + i];
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
        y[to + i] = x[from_ + i] * scale * weight[i];
    }
    if lane == 0u {
        norms[row] = sqrt(total);
    }
}
