// y[t, j] = silu(x[t] . G[row(j)]) * (x[t] . U[row(j)]): gate, up and activation in one pass over x. Tiles as in
// matmul_rows: TM tokens by TN outputs in each invocation, LM x LN x LK invocations a workgroup.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
#weights gate 1
#weights up 3
@group(0) @binding(5) var<storage, read> kept: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

#import row_params

const TM = ${TM}u;
const TN = ${TN}u;
const LM = ${LM}u;
const LN = ${LN}u;
const LK = ${LK}u;

var<workgroup> partial: array<vec2<f32>, ${PARTIALS}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let lk = lane % LK;
    let tile_n = (group.x * LN + lane / LK % LN) * TN;
    let tile_m = (group.y * LM + lane / (LK * LN)) * TM;

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

    for (var step = lk; step < p.steps; step += LK) {
        var gate_scales: array<vec4<f32>, TN>;
        var up_scales: array<vec4<f32>, TN>;
        for (var n = 0u; n < TN; n++) {
            gate_scales[n] = gate_row_scales(min(rows[n], p.rows - 1u), step, p.steps);
            up_scales[n] = up_row_scales(min(rows[n], p.rows - 1u), step, p.steps);
        }
        for (var half = 0u; half < 2u; half++) {
            let block = 2u * step + half;
            var xs: array<vec4<f32>, ${X_TILE}>;
            for (var m = 0u; m < TM; m++) {
                for (var i = 0u; i < 8u; i++) {
                    xs[m * 8u + i] = x[tokens[m] + block * 8u + i];
                }
            }
            for (var n = 0u; n < TN; n++) {
                let scale = select(gate_scales[n].xy, gate_scales[n].zw, half == 1u);
                let w = gate_row(min(rows[n], p.rows - 1u), block, p.steps, scale);
                for (var m = 0u; m < TM; m++) {
                    let near = dot(xs[m * 8u], w[0]) + dot(xs[m * 8u + 1u], w[1])
                        + dot(xs[m * 8u + 2u], w[2]) + dot(xs[m * 8u + 3u], w[3]);
                    let far = dot(xs[m * 8u + 4u], w[4]) + dot(xs[m * 8u + 5u], w[5])
                        + dot(xs[m * 8u + 6u], w[6]) + dot(xs[m * 8u + 7u], w[7]);
                    gates[m * TN + n] += near + far;
                }
            }
            for (var n = 0u; n < TN; n++) {
                let scale = select(up_scales[n].xy, up_scales[n].zw, half == 1u);
                let w = up_row(min(rows[n], p.rows - 1u), block, p.steps, scale);
                for (var m = 0u; m < TM; m++) {
                    let near = dot(xs[m * 8u], w[0]) + dot(xs[m * 8u + 1u], w[1])
                        + dot(xs[m * 8u + 2u], w[2]) + dot(xs[m * 8u + 3u], w[3]);
                    let far = dot(xs[m * 8u + 4u], w[4]) + dot(xs[m * 8u + 5u], w[5])
                        + dot(xs[m * 8u + 6u], w[6]) + dot(xs[m * 8u + 7u], w[7]);
                    ups[m * TN + n] += near + far;
                }
            }
        }
    }

    if LK > 1u {
        for (var i = 0u; i < TM * TN; i++) {
            partial[i * ${LANES}u + lane] = vec2<f32>(gates[i], ups[i]);
        }
        workgroupBarrier();
        for (var width = LK / 2u; width > 0u; width /= 2u) {
            if lk < width {
                for (var i = 0u; i < TM * TN; i++) {
                    partial[i * ${LANES}u + lane] += partial[i * ${LANES}u + lane + width];
                }
            }
            workgroupBarrier();
        }
        for (var i = 0u; i < TM * TN; i++) {
            let sum = partial[i * ${LANES}u + lane];
            gates[i] = sum.x;
            ups[i] = sum.y;
        }
    }
    if lk == 0u {
        for (var m = 0u; m < TM; m++) {
            for (var n = 0u; n < TN; n++) {
                if tile_m + m < p.tokens && rows[n] < p.rows {
                    y[(p.y_row + tile_m + m) * p.y_stride + p.y_column + tile_n + n]
                        = gates[m * TN + n] / (1.0 + exp(-gates[m * TN + n])) * ups[m * TN + n];
                }
            }
        }
    }
}
