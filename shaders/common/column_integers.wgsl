// Columns of a format with one scale for 32 channels: integers are multiplied and added up first, and scaled once.

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    return W__integers(bits, i) * (*scales)[i];
}

// Sums over the channels of a group, four outputs at a time.
alias W__Group = array<vec4<f32>, 8>;

// Nothing yet of the 32 channels of `group` for those outputs.
fn W__group(group: u32, block: Block) -> W__Group {
    return W__Group();
}

// Adds the integers of four channels times their inputs.
fn W__group_add(channels: vec4<u32>, inputs: vec4<f32>, block: Block, g: ptr<function, W__Group>) {
    var a = W__bits(channels.x, block);
    var b = W__bits(channels.y, block);
    var c = W__bits(channels.z, block);
    var d = W__bits(channels.w, block);
    for (var i = 0u; i < 8u; i++) {
        var sum = (*g)[i];
        sum += inputs.x * W__integers(&a, i);
        sum += inputs.y * W__integers(&b, i);
        sum += inputs.z * W__integers(&c, i);
        sum += inputs.w * W__integers(&d, i);
        (*g)[i] = sum;
    }
}

// Adds what the group came to.
fn W__group_end(group: u32, block: Block, g: ptr<function, W__Group>, sums: ptr<function, array<vec4<f32>, 8>>) {
    var scales = W__column_scales(group, block);
    for (var i = 0u; i < 8u; i++) {
        (*sums)[i] += (*g)[i] * scales[i];
    }
}
