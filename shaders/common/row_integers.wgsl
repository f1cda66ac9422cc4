// Rows of a format with one scale for 32 columns: integers are multiplied first, and scaled once.

// Weights 4i to 4i + 3 of them.
fn W__row_four(words: ptr<function, W__Words>, i: u32, scale: vec2<f32>) -> vec4<f32> {
    return W__row_integers(words, i) * scale.x;
}

#import row

// `sum` plus those weights times the inputs there.
fn W__row_added(sum: f32, row: u32, block: u32, steps: u32, scale: vec2<f32>, xs: ptr<function, array<vec4<f32>, 8>>) -> f32 {
    var words = W__row_words(row, block, steps);
    var sums = vec2<f32>();
    for (var i = 0u; i < 4u; i++) {
        sums += vec2<f32>(dot((*xs)[i], W__row_integers(&words, i)), dot((*xs)[4u + i], W__row_integers(&words, 4u + i)));
    }
    return sum + (sums.x + sums.y) * scale.x;
}
