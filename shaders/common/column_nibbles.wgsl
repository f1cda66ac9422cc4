// Sums over the channels of a group, for formats of 4-bit integers q, whose weights are scale * q + minimum: the integers are
// multiplied where they lie in their word, 1, 16, 256 or 4096 times too large, and the scales make up for it.
struct W__Group {
    quants: array<vec4<f32>, 8>,
    inputs: f32,
}

// Nothing yet of the 32 channels of `group` for the 32 outputs of `block` (of `blocks`).
fn W__group(group: u32, block: u32, blocks: u32) -> W__Group {
    return W__Group();
}

// The integers of the nibbles in the low half of `word`, where they lie.
fn W__in_place(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u)));
}

// Adds the integers of `channel` times its input.
fn W__group_add(channel: u32, input: f32, block: u32, blocks: u32, g: ptr<function, W__Group>) {
    let q = W__quants(channel * blocks + block);
    for (var c = 0u; c < 4u; c++) {
        (*g).quants[2u * c] += input * W__in_place(q[c]);
        (*g).quants[2u * c + 1u] += input * W__in_place(q[c] >> 16u);
    }
    (*g).inputs += input;
}

// Adds what the group came to, four outputs at a time.
fn W__group_end(group: u32, block: u32, blocks: u32, g: ptr<function, W__Group>, sums: ptr<function, array<vec4<f32>, 8>>) {
    var scales = W__column_scales(group, block, blocks);
    for (var i = 0u; i < 8u; i++) {
        let scale = W__scale_of(&scales, i) * vec4<f32>(1.0, 0.0625, 0.00390625, 0.000244140625);
        (*sums)[i] += (*g).quants[i] * scale + (*g).inputs * W__minimum_of(&scales, i);
    }
}
