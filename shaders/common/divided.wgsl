// j / unit, for j below 2^22: software adapters divide integers one lane after the other.
fn divided(j: u32, unit: u32) -> u32 {
    return u32((f32(j) + 0.5) / f32(unit));
}
