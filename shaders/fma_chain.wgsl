// out[i] = the sum of CHAINS chains that take a = a * factor + summand, UNROLL * rounds times: nothing but arithmetic. The
// chains start apart and do not wait for each other; the sum is written so that none can be left out.
struct Params {
    count: u32,  // vectors of out
    row: u32,    // workgroups of a row of the grid
    rounds: u32, // of UNROLL steps each
    factor: f32,
    summand: f32,
}

@group(0) @binding(0) var<storage, read_write> out: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const CHAINS = ${CHAINS}u;
const UNROLL = ${UNROLL}u;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.y * p.row + group.x) * LANES + lane;
    let factor = vec4<f32>(p.factor);
    let summand = vec4<f32>(p.summand);
    var a: array<vec4<f32>, CHAINS>;
    for (var c = 0u; c < CHAINS; c++) {
        a[c] = vec4<f32>(0.0, 0.25, 0.5, 0.75) + f32(i % 64u + c);
    }
    for (var round = 0u; round < p.rounds; round++) {
        for (var u = 0u; u < UNROLL; u++) {
            for (var c = 0u; c < CHAINS; c++) {
                a[c] = fma(a[c], factor, summand);
            }
        }
    }
    var sum = vec4<f32>();
    for (var c = 0u; c < CHAINS; c++) {
        sum += a[c];
    }
    if i < p.count {
        out[i] = sum;
    }
}
