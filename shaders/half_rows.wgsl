// Rows as 16-bit floats for matrix units: h[row] = x[row] / 2^e, with the e that brings the row's largest magnitude between 2^14 and
// 2^15. So nothing overflows, and what is lost to the smallest numbers lies 28 powers of two below the row's largest. In front of every
// row's values lie eight bytes with e as a float and eight without a meaning, behind them zeros up to whole tiles. A row with a
// value that is no number or infinite stays as it is.
struct Params {
    rows: u32,
    row: u32,     // workgroups of a row of the grid
    columns: u32, // values of a row
    first: u32,   // row of x
    stride: u32,  // from one row of x to the next, / 4
    quads: u32,   // values of a row of h, zeros with them, / 4
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> h: array<vec2<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
var<workgroup> most: array<u32, LANES>;

// Values 4 * quad to 4 * quad + 3 of a row, zeros past its end.
fn values(row: u32, quad: u32) -> vec4<f32> {
    if quad * 4u >= p.columns {
        return vec4<f32>();
    }
    let columns = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(), x[(p.first + row) * p.stride + quad], columns < vec4<u32>(p.columns));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = min(group.y * p.row + group.x, p.rows - 1u);
    // Bits of magnitudes are ordered as the magnitudes are, what is no number above all.
    var bits = vec4<u32>();
    for (var quad = lane; quad < p.quads; quad += LANES) {
        bits = max(bits, bitcast<vec4<u32>>(values(row, quad)) & vec4<u32>(0x7fffffffu));
    }
    most[lane] = max(max(bits.x, bits.y), max(bits.z, bits.w));
    workgroupBarrier();
    for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
        if lane < reach {
            most[lane] = max(most[lane], most[lane + reach]);
        }
        workgroupBarrier();
    }
    var exponent = max(i32(most[0] >> 23u) - 127 - 14, -100);
    if most[0] >> 23u == 255u {
        exponent = 0;
    }
    let factor = bitcast<f32>(u32(127 - exponent) << 23u);
    let start = row * (p.quads + 2u);
    if lane == 0u {
        h[start] = vec2<u32>(pack2x16float(vec2<f32>(f32(exponent), 0.0)), 0u);
    }
    for (var quad = lane; quad < p.quads; quad += LANES) {
        let value = values(row, quad) * factor;
        h[start + 2u + quad] = vec2<u32>(pack2x16float(value.xy), pack2x16float(value.zw));
    }
}
