// Products of a format whose weights have no shorter way to one than to be decoded.
alias W__Inputs = array<vec4<f32>, 8>;

fn W__inputs(xs: array<vec4<f32>, 8>) -> W__Inputs {
    return xs;
}

// The 32 weights of `row` from column 32 * `block` on, times the inputs there.
fn W__row_dot(row: u32, block: u32, steps: u32, scale: vec2<f32>, inputs: ptr<function, W__Inputs>) -> f32 {
    let w = W__row(row, block, steps, scale);
    let near = dot((*inputs)[0], w[0]) + dot((*inputs)[1], w[1]) + dot((*inputs)[2], w[2]) + dot((*inputs)[3], w[3]);
    let far = dot((*inputs)[4], w[4]) + dot((*inputs)[5], w[5]) + dot((*inputs)[6], w[6]) + dot((*inputs)[7], w[7]);
    return near + far;
}
