// Q8_0 by columns: quants [channel][h / 16] vec4 of 4 bytes a word, scales [channel / 32][h / 8] vec4 of two f16 a word.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S vec4<u32>

alias W__Scales = array<vec4<f32>, 8>;

// Scales of the 32 outputs of `block` for the 32 channels of `group`, unpacked once for all of them.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    let at = block.scales + (group * block.count + block.index) * 4u;
    var s: W__Scales;
    for (var i = 0u; i < 4u; i++) {
        let d = W__scales(at + i);
        s[2u * i] = vec4<f32>(unpack2x16float(d.x), unpack2x16float(d.y));
        s[2u * i + 1u] = vec4<f32>(unpack2x16float(d.z), unpack2x16float(d.w));
    }
    return s;
}

// The integers of `channel` for those outputs.
fn W__column_integers(channel: u32, block: Block) -> array<vec4<f32>, 8> {
    let at = block.quants + (channel * block.count + block.index) * 2u;
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 2u; i++) {
        let q = W__quants(at + i);
        w[4u * i] = vec4<f32>(unpack4xI8(q.x));
        w[4u * i + 1u] = vec4<f32>(unpack4xI8(q.y));
        w[4u * i + 2u] = vec4<f32>(unpack4xI8(q.z));
        w[4u * i + 3u] = vec4<f32>(unpack4xI8(q.w));
    }
    return w;
}

#import column_integers
