// F32 by columns: [channel][h / 4] vec4. No scales.
#fetch W__quants @Q vec4<f32>

alias W__Scales = u32;

// Scales of the 32 outputs of `block` for the 32 channels of `group`.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    return 0u;
}

alias W__Bits = array<vec4<f32>, 8>;

// What is there of `channel` for those outputs.
fn W__bits(channel: u32, block: Block) -> W__Bits {
    let at = block.quants + (channel * block.count + block.index) * 8u;
    var w: W__Bits;
    for (var i = 0u; i < 8u; i++) {
        w[i] = W__quants(at + i);
    }
    return w;
}

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    return (*bits)[i];
}

#import column_group
