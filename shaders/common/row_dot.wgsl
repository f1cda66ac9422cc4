// The 32 weights of `row` from column 32 * `block` on.
fn W__row(row: u32, block: u32, steps: u32, scale: vec2<f32>) -> array<vec4<f32>, 8> {
    var words = W__row_words(row, block, steps);
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        w[i] = W__row_four(&words, i, scale);
    }
    return w;
}

// Those weights times the inputs there, each four used as they come: all 32 would not stay in registers.
fn W__row_dot(row: u32, block: u32, steps: u32, scale: vec2<f32>, xs: ptr<function, array<vec4<f32>, 8>>) -> f32 {
    var words = W__row_words(row, block, steps);
    var sums = vec2<f32>();
    for (var i = 0u; i < 4u; i++) {
        sums += vec2<f32>(dot((*xs)[i], W__row_four(&words, i, scale)), dot((*xs)[4u + i], W__row_four(&words, 4u + i, scale)));
    }
    return sums.x + sums.y;
}
