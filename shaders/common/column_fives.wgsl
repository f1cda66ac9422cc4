// Columns of integers of five bits: nibbles, and behind those of 32 channels the fifth bits.
struct W__Bits {
    low: vec4<u32>,
    high: u32,
}

// What is there of `channel` for those outputs.
fn W__bits(channel: u32, block: Block) -> W__Bits {
    let group = block.quants + channel / 32u * block.count * 40u;
    let at = channel % 32u * block.count + block.index;
    return W__Bits(W__quants(group + at), W__quants(group + 32u * block.count + at / 4u)[at % 4u]);
}
