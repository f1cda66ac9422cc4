// nll[row] = log(sum exp(logits[row])) - logits[row][target]. A workgroup has one row.
struct Params {
    width: u32,      // vocabulary
    first: u32,      // first row of targets and nll
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> nll: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;

var<workgroup> tops: array<f32, LANES>;
var<workgroup> sums: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * p.width;
    var top = -3.0e38;
    for (var i = lane; i < p.width; i += LANES) {
        top = max(top, logits[row + i]);
    }
    var sum = 0.0;
    for (var i = lane; i < p.width; i += LANES) {
        sum += exp(logits[row + i] - top);
    }
    tops[lane] = top;
    sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        var highest = tops[0];
        for (var l = 1u; l < LANES; l++) {
            highest = max(highest, tops[l]);
        }
        var total = 0.0;
        for (var l = 0u; l < LANES; l++) {
            total += sums[l] * exp(tops[l] - highest);
        }
        nll[p.first + group.x] = log(total) + highest - logits[row + targets[p.first + group.x]];
    }
}
