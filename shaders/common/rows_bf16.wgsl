// BF16 by rows: [row][k / 8] vec4, two values a word. No scales.
#fetch W__quants @Q vec4<u32>

const W__PER_256 = 32u; // elements of 256 columns

fn W__unpack(word: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

#import row_halves
#import row_touch
