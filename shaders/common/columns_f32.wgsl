// F32 by columns: [channel][h / 4] vec4. No scales.
#fetch W__quants @Q vec4<f32>

alias W__Scales = u32;

// Scales of the 32 outputs of `block` for the 32 channels of `group`.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    return 0u;
}

// The weights of `channel` for those outputs.
fn W__column(channel: u32, block: Block, scales: ptr<function, W__Scales>) -> array<vec4<f32>, 8> {
    let at = block.quants + (channel * block.count + block.index) * 8u;
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        w[i] = W__quants(at + i);
    }
    return w;
}

#import column_group
