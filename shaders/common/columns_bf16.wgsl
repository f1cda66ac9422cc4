// BF16 by columns: [channel][h / 8] vec4, two values a word. No scales.
#fetch W__quants @Q vec4<u32>

fn W__unpack(word: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

#import column_halves
