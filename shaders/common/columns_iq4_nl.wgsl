// IQ4_NL by columns: as Q4_0, but nibbles are indices of levels: quants [channel][h / 32] vec4 of 8 nibbles a word, scales
// [channel / 32][h / 8] vec4 of two f16 a word.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S vec4<u32>

// The levels of four nibbles: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113, as signed bytes of
// four words that are chosen by comparison, for an array that is indexed at run time would lie in memory.
fn W__levels(word: u32) -> vec4<f32> {
    let q = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    let odd = (q & vec4<u32>(4u)) != vec4<u32>();
    let below = select(vec4<u32>(0xbfad9881u), vec4<u32>(0xf6eaddcfu), odd);
    let above = select(vec4<u32>(0x26190d01u), vec4<u32>(0x71594535u), odd);
    let four = select(below, above, q > vec4<u32>(7u));
    return vec4<f32>(bitcast<vec4<i32>>(four << (vec4<u32>(24u) - 8u * (q & vec4<u32>(3u)))) >> vec4<u32>(24u));
}

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

alias W__Bits = vec4<u32>;

// What is there of `channel` for those outputs.
fn W__bits(channel: u32, block: Block) -> W__Bits {
    return W__quants(block.quants + channel * block.count + block.index);
}

// The integers of it for outputs 4i to 4i + 3.
fn W__integers(bits: ptr<function, W__Bits>, i: u32) -> vec4<f32> {
    return W__levels((*bits)[i / 2u] >> (16u * (i % 2u)));
}

#import column_integers
