// x[t] = row ids[t] of the token embedding. An invocation writes 32 columns of one token.
struct Params {
    tokens: u32,    // rows of x
    steps: u32,     // columns / 64
    first_row: u32, // of this shard
    rows: u32,      // of this shard
}

@group(0) @binding(0) var<storage, read> ids: array<u32>;
#weights table 1
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let block = at.x;
    let token = at.y;
    if block >= 2u * p.steps {
        return;
    }
    let row = ids[token] - p.first_row;
    if row >= p.rows {
        return; // another shard's
    }
    let scales = table_row_scales(row, block / 2u, p.steps);
    let values = table_row(row, block, p.steps, select(scales.xy, scales.zw, block % 2u == 1u));
    for (var i = 0u; i < 8u; i++) {
        x[(token * p.steps * 2u + block) * 8u + i] = values[i];
    }
}
