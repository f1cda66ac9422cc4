// Columns of 16-bit floats, which the format unpacks.
alias W__Scales = u32;

// Scales of the 32 outputs of `block` for the 32 channels of `group`.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    return 0u;
}

alias W__Bits = array<vec4<u32>, 4>;

// What is there of `channel` for those outputs.
fn W__bits(channel: u32, block: Block) -> W__Bits {
    let at = block.quants + (channel * block.count + block.index) * 4u;
    return W__Bits(W__quants(at), W__quants(at + 1u), W__quants(at + 2u), W__quants(at + 3u));
}

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    let q = (*bits)[i / 2u];
    let pair = select(q.xy, q.zw, i % 2u == 1u);
    return vec4<f32>(W__unpack(pair.x), W__unpack(pair.y));
}

#import column_group
