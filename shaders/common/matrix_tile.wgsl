// A tile of 64 tokens by 64 columns on matrix units, in a workgroup of four subgroups: each has 32 by 32 sums, in matrices of SIDE by
// SIDE. Where subgroups are smaller than they may be, those beyond the fourth do the same as the first four once more. 32 inputs at a
// time go through workgroup memory, as 16-bit floats whose rows are apart so that neighbours do not meet in a bank.
const TOKENS = 64u;
const DEPTH = 32u;
const SIDE = ${SIDE}u;
const LANES = ${LANES}u;
const X_STRIDE = 40u;

alias Left = coop_mat${SIDE}x${SIDE}<f16, A>;
alias Right = coop_mat${SIDE}x${SIDE}<f16, B>;
alias Sum = coop_mat${SIDE}x${SIDE}<f32, C>;

var<workgroup> xs: array<f16, 2560>; // [token][input]
var<workgroup> ws: array<f16, 2560>;
var<workgroup> sums: array<f32, ${SUMS}>; // [subgroup][SIDE][SIDE]: a matrix of each on its way out
var<workgroup> powers: array<f32, 64>; // [token]: what its sums are multiplied by

// Two to the power of an exponent from -126 to 127.
fn power(exponent: i32) -> f32 {
    return bitcast<f32>(u32(exponent + 127) << 23u);
}

// Before all else: reads the tile's powers, and clears what the first sums are loaded from. `row` = quadruples of a row of x.
fn begin(lane: u32, first_token: u32, row: u32) {
    for (var i = lane; i < TOKENS; i += LANES) {
        powers[i] = power(i32(x[min(first_token + i, p.tokens - 1u) * row].x));
    }
    for (var i = lane; i < SIDE * SIDE; i += LANES) {
        sums[i] = 0.0;
    }
}

// Loads 32 inputs of the tile's tokens, from column 32 * `block` on.
fn load_inputs(lane: u32, first_token: u32, row: u32, block: u32) {
    for (var i = lane; i < TOKENS * DEPTH / 4u; i += LANES) {
        let value = x[min(first_token + i / 8u, p.tokens - 1u) * row + 2u + block * 8u + i % 8u];
        let at = i / 8u * X_STRIDE + i % 8u * 4u;
        xs[at] = value.x;
        xs[at + 1u] = value.y;
        xs[at + 2u] = value.z;
        xs[at + 3u] = value.w;
    }
}

// Keeps four weights as 16-bit floats.
fn keep_weights(at: u32, value: vec4<f32>) {
    ws[at] = f16(value.x);
    ws[at + 1u] = f16(value.y);
    ws[at + 2u] = f16(value.z);
    ws[at + 3u] = f16(value.w);
}

// Where in the tile an element of `sums` belongs, of the `i`-th matrix along tokens and the `j`-th along columns: token and column.
fn place_of_sum(element: u32, i: u32, j: u32) -> vec2<u32> {
    let quarter = element / (SIDE * SIDE);
    return vec2<u32>(quarter / 2u * 32u + i * SIDE + element / SIDE % SIDE, quarter % 2u * 32u + j * SIDE + element % SIDE);
}
