// Q5_0 by rows: low bits [row][k / 32] vec4 of 8 nibbles a word, scales [row][k / 64] of two f16 in a word, then a word of fifth
// bits for each of the two blocks.
#fetch W__quants @Q vec4<u32>
#lookup W__scales @S u32

const W__PER_256 = 8u; // elements of 256 columns

// Integers of the nibbles in the low half of `word` and the lowest four bits of `high`.
fn W__fives(word: u32, high: u32) -> vec4<f32> {
    let low = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return vec4<f32>(low | ((vec4<u32>(high) << vec4<u32>(4u, 3u, 2u, 1u)) & vec4<u32>(16u)));
}

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let d = unpack2x16float(W__scales((row * steps + step) * 3u));
    return vec4<f32>(d.x, 0.0, d.y, 0.0);
}

// Those of the 32 weights of `row` from column 32 * `block` on.
fn W__row_integers(row: u32, block: u32, steps: u32) -> array<vec4<f32>, 8> {
    let q = W__quants(row * steps * 2u + block);
    let high = W__scales((row * steps + block / 2u) * 3u + 1u + block % 2u);
    var w: array<vec4<f32>, 8>;
    for (var c = 0u; c < 4u; c++) {
        w[2u * c] = W__fives(q[c], high >> (8u * c)) - 16.0;
        w[2u * c + 1u] = W__fives(q[c] >> 16u, high >> (8u * c + 4u)) - 16.0;
    }
    return w;
}

#import row_integers
#import row_touch
