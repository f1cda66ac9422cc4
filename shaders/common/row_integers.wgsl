// Rows of a format with one scale for 32 columns: integers are multiplied first, and scaled once.

// The 32 weights of `row` from column 32 * `block` on.
fn W__row(row: u32, block: u32, steps: u32, scale: vec2<f32>) -> array<vec4<f32>, 8> {
    var w = W__row_integers(row, block, steps);
    for (var i = 0u; i < 8u; i++) {
        w[i] *= scale.x;
    }
    return w;
}

// Those weights times the inputs there.
fn W__row_dot(row: u32, block: u32, steps: u32, scale: vec2<f32>, xs: ptr<function, array<vec4<f32>, 8>>) -> f32 {
    let q = W__row_integers(row, block, steps);
    let near = dot((*xs)[0], q[0]) + dot((*xs)[1], q[1]) + dot((*xs)[2], q[2]) + dot((*xs)[3], q[3]);
    let far = dot((*xs)[4], q[4]) + dot((*xs)[5], q[5]) + dot((*xs)[6], q[6]) + dot((*xs)[7], q[7]);
    return (near + far) * scale.x;
}
