// What matmuls by columns share: parameters, and which channel an input is. The shader declares `p` and `kept`.
struct Params {
    tokens: u32,   // rows of a and y
    inputs: u32,   // kept inputs: columns of a
    channels: u32, // inputs of the whole weight
    a_row: u32,    // first row of a
    a_stride: u32, // columns of a row of a, a multiple of 4
    y_row: u32,    // first row of y
    y_stride: u32, // columns of a row of y / 4
    y_column: u32, // first column of y / 4
    blocks: u32,   // outputs of this shard / 32
    block_quants: u32, // see column_block
    block_scales: u32,
    parts: u32,    // shares of the channels that stay apart
    part_stride: u32, // from one part of y to the next, / 4
    unit: u32,     // inputs of an entry of `kept`: 1, or a multiple of 4; 0 = no list: input j is channel j
    add: u32,      // whether y is added to (the residual stream) or set
    exponent: i32, // on matrix units: two to this brings this shard's largest weight near 2^14 when it divides it
}

#import divided
#import column_block

// The channels of inputs j to j + 3.
fn channels_of(j: u32) -> vec4<u32> {
    if p.unit == 0u {
        return vec4<u32>(j, j + 1u, j + 2u, j + 3u);
    }
    if p.unit == 1u {
        return kept(j / 4u);
    }
    let entry = divided(j, p.unit);
    let channel = kept(entry / 4u)[entry % 4u] * p.unit + j - entry * p.unit;
    return vec4<u32>(channel, channel + 1u, channel + 2u, channel + 3u);
}
