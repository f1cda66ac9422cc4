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

// Adds the weights of four channels times their inputs.
fn W__group_add(channels: vec4<u32>, inputs: vec4<f32>, block: Block, g: ptr<function, W__Group>) {
    var scales = (*g).scales;
    var a = W__bits(channels.x, block);
    var b = W__bits(channels.y, block);
    var c = W__bits(channels.z, block);
    var d = W__bits(channels.w, block);
    for (var i = 0u; i < 8u; i++) {
        var sum = (*g).sums[i];
        sum += inputs.x * W__four(&a, i, &scales);
        sum += inputs.y * W__four(&b, i, &scales);
        sum += inputs.z * W__four(&c, i, &scales);
        sum += inputs.w * W__four(&d, i, &scales);
        (*g).sums[i] = sum;
    }
}

// Adds what the group came to, four outputs at a time.
fn W__group_end(group: u32, block: Block, g: ptr<function, W__Group>, sums: ptr<function, array<vec4<f32>, 8>>) {
    for (var i = 0u; i < 8u; i++) {
        (*sums)[i] += (*g).sums[i];
    }
}
