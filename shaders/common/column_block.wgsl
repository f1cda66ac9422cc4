// Where 32 outputs of a weight by columns lie. On hardware they lie beside the other blocks', so that neighbours read one stretch of
// memory together. On software adapters each block lies by itself, so that what an invocation reads is a stream whichever channels
// are kept, of which a processor has the next lines come by itself. The shader declares `p`.
struct Block {
    index: u32,  // among the blocks that it lies beside
    count: u32,  // of those
    quants: u32, // elements of the planes that come before them
    scales: u32,
}

fn block_of(index: u32) -> Block {
    if ${SOFTWARE}u == 1u {
        return Block(0u, 1u, index * p.block_quants, index * p.block_scales);
    }
    return Block(index, p.blocks, 0u, 0u);
}
