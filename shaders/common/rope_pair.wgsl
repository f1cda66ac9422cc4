// The elements of a head that rope turns together: the `i`-th pair of `half`, adjacent or half a head apart.
fn rope_pair(i: u32, half: u32, adjacent: bool) -> vec2<u32> {
    return select(vec2<u32>(i, i + half), vec2<u32>(2u * i, 2u * i + 1u), adjacent);
}

// (a, b) turned by `angle` radians.
fn rope_turn(a: f32, b: f32, angle: f32) -> vec2<f32> {
    let c = cos(angle);
    let s = sin(angle);
    return vec2<f32>(a * c - b * s, a * s + b * c);
}
