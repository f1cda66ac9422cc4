// F16 by rows: [row][k / 8] vec4, two values a word. No scales.
#fetch W__quants @Q vec4<u32>

const W__PER_256 = 32u; // elements of 256 columns

fn W__unpack(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

#import row_halves
#import row_touch
