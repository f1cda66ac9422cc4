// The probe: row (i, j) of y is row tokens[j] of sample samples[i] of x. It keeps its position and takes slot j.
struct Params {
    width: u32,         // columns / 4
    length: u32,        // tokens of a sample in x
    probe_tokens: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> samples: array<u32>;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
@group(0) @binding(3) var<storage, read> places: array<vec2<u32>>; // position and slot of every token of x
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> probe_places: array<vec2<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let source = samples[row / p.probe_tokens] * p.length + tokens[row % p.probe_tokens];
    for (var i = lane; i < p.width; i += LANES) {
        y[row * p.width + i] = x[source * p.width + i];
    }
    if lane == 0u {
        probe_places[row] = vec2<u32>(places[source].x, row % p.probe_tokens);
    }
}
