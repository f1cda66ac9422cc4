// Columns of a format with one scale for 32 channels: integers are multiplied and added up first, and scaled once.

// The weights of `channel` for the 32 outputs of `block`.
fn W__column(channel: u32, block: Block, scales: ptr<function, W__Scales>) -> array<vec4<f32>, 8> {
    var w = W__column_integers(channel, block);
    for (var i = 0u; i < 8u; i++) {
        w[i] *= (*scales)[i];
    }
    return w;
}

// Sums over the channels of a group, four outputs at a time.
alias W__Group = array<vec4<f32>, 8>;

// Nothing yet of the 32 channels of `group` for those outputs.
fn W__group(group: u32, block: Block) -> W__Group {
    return W__Group();
}

// Adds the integers of `channel` times its input.
fn W__group_add(channel: u32, input: f32, block: Block, g: ptr<function, W__Group>) {
    let q = W__column_integers(channel, block);
    for (var i = 0u; i < 8u; i++) {
        (*g)[i] += input * q[i];
    }
}

// Adds what the group came to.
fn W__group_end(group: u32, block: Block, g: ptr<function, W__Group>, sums: ptr<function, array<vec4<f32>, 8>>) {
    var scales = W__column_scales(group, block);
    for (var i = 0u; i < 8u; i++) {
        (*sums)[i] += (*g)[i] * scales[i];
    }
}
