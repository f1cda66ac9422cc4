// plane[i] = (hash of i and the seed, & mask) | pattern: words of a weight's plane in which some bits are drawn and the
// others given, such as the exponents of floats. Words come in periods, with one mask and pattern for the first of each and
// another for the rest.
struct Params {
    words: u32,
    row: u32, // workgroups of a row of the grid
    seed: u32,
    period: u32, // at least 1
    head: u32,   // words of a period that come first
    mask: u32,
    pattern: u32,
    rest_mask: u32,
    rest_pattern: u32,
}

@group(0) @binding(0) var<storage, read_write> plane: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

// PCG's output function (RXS-M-XS, 32 bits).
fn hash(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.y * p.row + group.x) * ${LANES}u + lane;
    if i >= p.words {
        return;
    }
    let first = i % p.period < p.head;
    plane[i] = (hash(i + hash(p.seed)) & select(p.rest_mask, p.mask, first)) | select(p.rest_pattern, p.pattern, first);
}
