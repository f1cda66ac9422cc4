// Sums over the channels of a group, for formats whose weights have no shorter way to them than to be decoded.
struct W__Group {
    scales: W__Scales,
    sums: array<vec4<f32>, 8>,
}

// Nothing yet of the 32 channels of `group` for the 32 outputs of `block`.
fn W__group(group: u32, block: Block) -> W__Group {
    var g: W__Group;
    g.scales = W__column_scales(group, block);
    return g;
}

// Adds the weights of `channel` times its input.
fn W__group_add(channel: u32, input: f32, block: Block, g: ptr<function, W__Group>) {
    var scales = (*g).scales;
    let w = W__column(channel, block, &scales);
    for (var i = 0u; i < 8u; i++) {
        (*g).sums[i] += input * w[i];
    }
}

// Adds what the group came to, four outputs at a time.
fn W__group_end(group: u32, block: Block, g: ptr<function, W__Group>, sums: ptr<function, array<vec4<f32>, 8>>) {
    for (var i = 0u; i < 8u; i++) {
        (*sums)[i] += (*g).sums[i];
    }
}
