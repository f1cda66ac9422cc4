// What matmuls by rows share: parameters, and which weight row an output is. The shader declares `p` and `kept`.
struct Params {
    tokens: u32,    // rows of x and y
    outputs: u32,   // columns of y that this dispatch may write
    steps: u32,     // columns of x / 64
    x_row: u32,     // first row of x
    y_row: u32,     // first row of y
    y_stride: u32,  // columns of a row of y
    y_column: u32,  // first column of y
    unit: u32,      // weight rows of an entry of `kept`; 0 = no list: output j is row j of this shard
    first_row: u32, // of this shard
    rows: u32,      // of this shard
    exponent: i32,  // on matrix units: two to this brings this shard's largest weight near 2^14 when it divides it
    up_exponent: i32, // of a second weight
}

#import divided

// The shard's row behind output `j`, or one past the shard where another shard (or nobody) owns it.
fn row_of(j: u32) -> u32 {
    // Without conditions, of which software adapters run both sides.
    let is_listed = p.unit > 0u && j < p.outputs;
    let entry = select(0u, divided(j, max(p.unit, 1u)), is_listed);
    let listed = kept(entry / 4u)[entry % 4u] * p.unit + j - entry * p.unit - p.first_row;
    return select(min(select(j, listed, is_listed), p.rows), p.rows, j >= p.outputs);
}
