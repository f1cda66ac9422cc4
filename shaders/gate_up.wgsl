// y[t, j] = silu(x[t] . G[row(j)]) * (x[t] . U[row(j)]): gate, up and activation in one pass over x. Tiles as in
// matmul_rows: TM tokens by TN outputs in each invocation, LM x LN invocations a workgroup.
#fetch x 0 vec4<f32>
#weights gate 1
#weights up 3
#lookup kept 5 vec4<u32>
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

#import row_params

const TM = ${TM}u;
const TN = ${TN}u;
const LM = ${LM}u;
const LN = ${LN}u;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile_n = (group.x * LN + lane % LN) * TN;
    let tile_m = (group.y * LM + lane / LN) * TM;

    var rows: array<u32, TN>;
    for (var n = 0u; n < TN; n++) {
        rows[n] = row_of(tile_n + n);
    }
    var tokens: array<u32, TM>;
    for (var m = 0u; m < TM; m++) {
        tokens[m] = (p.x_row + min(tile_m + m, p.tokens - 1u)) * p.steps * 16u;
    }
    var gates: array<f32, ${TILE}>;
    var ups: array<f32, ${TILE}>;

    for (var step = 0u; step < p.steps; step++) {
        var gate_scales: array<vec4<f32>, TN>;
        var up_scales: array<vec4<f32>, TN>;
        for (var n = 0u; n < TN; n++) {
            gate_scales[n] = gate_row_scales(min(rows[n], p.rows - 1u), step, p.steps);
            up_scales[n] = up_row_scales(min(rows[n], p.rows - 1u), step, p.steps);
        }
        for (var half = 0u; half < 2u; half++) {
            let block = 2u * step + half;
            var gate_words: array<gate_Words, TN>;
            var up_words: array<up_Words, TN>;
            for (var n = 0u; n < TN; n++) {
                gate_words[n] = gate_row_words(min(rows[n], p.rows - 1u), block, p.steps);
                up_words[n] = up_row_words(min(rows[n], p.rows - 1u), block, p.steps);
            }
            // Eight columns at a time, so that the loop stays short enough for an instruction cache.
            for (var i = 0u; i < 8u; i += 2u) {
                var xs: array<vec4<f32>, TM * 2u>;
                for (var m = 0u; m < TM; m++) {
                    xs[m * 2u] = x(tokens[m] + block * 8u + i);
                    xs[m * 2u + 1u] = x(tokens[m] + block * 8u + i + 1u);
                }
                for (var n = 0u; n < TN; n++) {
                    let scale = select(gate_scales[n].xy, gate_scales[n].zw, half == 1u);
                    var words = gate_words[n];
                    let w0 = gate_row_four(&words, i, scale);
                    let w1 = gate_row_four(&words, i + 1u, scale);
                    for (var m = 0u; m < TM; m++) {
                        gates[m * TN + n] += dot(xs[m * 2u], w0) + dot(xs[m * 2u + 1u], w1);
                    }
                }
                for (var n = 0u; n < TN; n++) {
                    let scale = select(up_scales[n].xy, up_scales[n].zw, half == 1u);
                    var words = up_words[n];
                    let w0 = up_row_four(&words, i, scale);
                    let w1 = up_row_four(&words, i + 1u, scale);
                    for (var m = 0u; m < TM; m++) {
                        ups[m * TN + n] += dot(xs[m * 2u], w0) + dot(xs[m * 2u + 1u], w1);
                    }
                }
            }
        }
    }

    for (var m = 0u; m < TM; m++) {
        for (var n = 0u; n < TN; n++) {
            if tile_m + m < p.tokens && rows[n] < p.rows {
                y[(p.y_row + tile_m + m) * p.y_stride + p.y_column + tile_n + n]
                    = gates[m * TN + n] / (1.0 + exp(-gates[m * TN + n])) * ups[m * TN + n];
            }
        }
    }
}
