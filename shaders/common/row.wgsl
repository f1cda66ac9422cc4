// The 32 weights of `row` from column 32 * `block` on.
fn W__row(row: u32, block: u32, steps: u32, scale: vec2<f32>) -> array<vec4<f32>, 8> {
    var words = W__row_words(row, block, steps);
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        w[i] = W__row_four(&words, i, scale);
    }
    return w;
}
