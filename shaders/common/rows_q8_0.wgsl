// Q8_0 by rows: quants [row][k / 16] vec4 of 4 bytes a word, scales [row][k / 64] two f16 a word.
#fetch W__quants @Q vec4<u32>
#lookup W__scales @S u32

const W__PER_256 = 16u; // elements of 256 columns

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let d = unpack2x16float(W__scales(row * steps + step));
    return vec4<f32>(d.x, 0.0, d.y, 0.0);
}

alias W__Words = array<vec4<u32>, 2>;

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    let at = row * steps * 4u + block * 2u;
    return W__Words(W__quants(at), W__quants(at + 1u));
}

// Integers 4i to 4i + 3 of them.
fn W__row_integers(words: ptr<function, W__Words>, i: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(select((*words)[0], (*words)[1], i > 3u)[i % 4u]));
}

#import row_integers
#import row_touch
