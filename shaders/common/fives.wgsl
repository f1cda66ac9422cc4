// Integers of the nibbles in the low half of `word` and the lowest four bits of `high`.
fn W__fives(word: u32, high: u32) -> vec4<f32> {
    let low = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return vec4<f32>(low | ((vec4<u32>(high) << vec4<u32>(4u, 3u, 2u, 1u)) & vec4<u32>(16u)));
}
