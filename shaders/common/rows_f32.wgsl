// F32 by rows: [row][k / 4] vec4. No scales.
#fetch W__quants @Q vec4<u32>

const W__PER_256 = 64u; // elements of 256 columns

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    return vec4<f32>();
}

alias W__Words = array<vec4<f32>, 8>;

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    let at = row * steps * 16u + block * 8u;
    var w: W__Words;
    for (var i = 0u; i < 8u; i++) {
        w[i] = bitcast<vec4<f32>>(W__quants(at + i));
    }
    return w;
}

// Weights 4i to 4i + 3 of them.
fn W__row_four(words: ptr<function, W__Words>, i: u32, scale: vec2<f32>) -> vec4<f32> {
    // Chosen and not indexed, for `i` may be known at run time only.
    let is_odd = i % 2u == 1u;
    let is_upper = i / 2u % 2u == 1u;
    let low = select(select((*words)[0], (*words)[1], is_odd), select((*words)[2], (*words)[3], is_odd), is_upper);
    let high = select(select((*words)[4], (*words)[5], is_odd), select((*words)[6], (*words)[7], is_odd), is_upper);
    return select(low, high, i > 3u);
}

#import row_added
#import row_touch
