// The elements of a head that rope turns together: the `i`-th pair of `half`, adjacent or half a head apart.
fn rope_pair(i: u32, half: u32, adjacent: bool) -> vec2<u32> {
    return select(vec2<u32>(i, i + half), vec2<u32>(2u * i, 2u * i + 1u), adjacent);
}

// (a, b) turned by the angle whose cosine and sine `turn` holds.
fn rope_turn(a: f32, b: f32, turn: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(a * turn.x - b * turn.y, a * turn.y + b * turn.x);
}
