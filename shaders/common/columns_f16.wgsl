// F16 by columns: [channel][h / 8] vec4, two values a word. No scales.
#fetch W__quants @Q vec4<u32>

fn W__unpack(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

fn W__load(at: u32) -> array<vec4<f32>, 8> {
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 4u; i++) {
        let q = W__quants(at + i);
        w[2u * i] = vec4<f32>(W__unpack(q.x), W__unpack(q.y));
        w[2u * i + 1u] = vec4<f32>(W__unpack(q.z), W__unpack(q.w));
    }
    return w;
}

alias W__Scales = u32;

// Scales of the 32 outputs of `block` for the 32 channels of `group`.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    return 0u;
}

// The weights of `channel` for those outputs.
fn W__column(channel: u32, block: Block, scales: ptr<function, W__Scales>) -> array<vec4<f32>, 8> {
    return W__load(block.quants + (channel * block.count + block.index) * 4u);
}

#import column_group
