// y[i] = x[i]: the plainest way through memory. An invocation moves STEPS vectors, its neighbours' beside each of them.
struct Params {
    count: u32, // vectors, at least 1
    row: u32,   // workgroups of a row of the grid
}

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const STEPS = ${STEPS}u;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = (group.y * p.row + group.x) * LANES * STEPS + lane;
    for (var i = 0u; i < STEPS; i++) {
        // Past the end the last vector is moved again: a condition would cost more.
        let at = min(first + i * LANES, p.count - 1u);
        y[at] = x[at];
    }
}
