// Q4_0 by rows: quants [row][k / 32] vec4 of 8 nibbles a word, scales [row][k / 64] two f16 a word.
#fetch W__quants @Q vec4<u32>
#lookup W__scales @S u32

const W__PER_256 = 8u; // elements of 256 columns

fn W__nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - 8.0;
}

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let d = unpack2x16float(W__scales(row * steps + step));
    return vec4<f32>(d.x, 0.0, d.y, 0.0);
}

alias W__Words = vec4<u32>;

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    return W__quants(row * steps * 2u + block);
}

// Integers 4i to 4i + 3 of them.
fn W__row_integers(words: ptr<function, W__Words>, i: u32) -> vec4<f32> {
    return W__nibbles((*words)[i / 2u] >> (16u * (i % 2u)));
}

#import row_integers
#import row_touch
