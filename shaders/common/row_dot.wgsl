// The 32 weights of `row` from column 32 * `block` on.
fn W__row(row: u32, block: u32, steps: u32, scale: vec2<f32>) -> array<vec4<f32>, 8> {
    var words = W__row_words(row, block, steps);
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        w[i] = W__row_four(&words, i, scale);
    }
    return w;
}

// Those weights times the inputs there.
fn W__row_dot(row: u32, block: u32, steps: u32, scale: vec2<f32>, xs: ptr<function, array<vec4<f32>, 8>>) -> f32 {
    let w = W__row(row, block, steps, scale);
    let near = dot((*xs)[0], w[0]) + dot((*xs)[1], w[1]) + dot((*xs)[2], w[2]) + dot((*xs)[3], w[3]);
    let far = dot((*xs)[4], w[4]) + dot((*xs)[5], w[5]) + dot((*xs)[6], w[6]) + dot((*xs)[7], w[7]);
    return near + far;
}
