// With ws as [inputs / 4][output]: adds the products of a tile's inputs, outputs `n`, `n` + 16, `n` + 32 and `n` + 48 of
// tokens `m`, `m` + 8 and so on.
fn add_products(m: u32, n: u32, sums: ptr<function, array<vec4<f32>, 8>>) {
    for (var k = 0u; k < DEPTH / 4u; k++) {
        let a = ws[k * 64u + n];
        let b = ws[k * 64u + n + 16u];
        let c = ws[k * 64u + n + 32u];
        let d = ws[k * 64u + n + 48u];
        for (var i = 0u; i < 8u; i++) {
            let x = xs[place_of_x(m + 8u * i, k)];
            (*sums)[i] += vec4<f32>(dot(x, a), dot(x, b), dot(x, c), dot(x, d));
        }
    }
}

// Loads 32 inputs of the tile's tokens, from column 32 * `block` on.
fn load_inputs(lane: u32, first_token: u32, block: u32) {
    for (var i = lane; i < TOKENS * DEPTH / 4u; i += LANES) {
        let token = min(first_token + i / 8u, p.tokens - 1u);
        xs[place_of_x(i / 8u, i % 8u)] = x[(p.x_row + token) * p.steps * 16u + block * 8u + i % 8u];
    }
}
