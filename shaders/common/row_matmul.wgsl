// A matmul by rows, result(x[t] . W[row(j)]): a tile of TM tokens by TN outputs in each invocation, LM x LN x LK invocations a
// workgroup. LK invocations share a tile's columns and add their sums up at the end.
const TM = ${TM}u;
const TN = ${TN}u;
const LM = ${LM}u;
const LN = ${LN}u;
const LK = ${LK}u;

var<workgroup> partial: array<f32, ${PARTIALS}>;

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
    var sums: array<f32, ${TILE}>;

    for (var step = lk; step < p.steps; step += LK) {
        var scales: array<vec4<f32>, TN>;
        for (var n = 0u; n < TN; n++) {
            scales[n] = weight_row_scales(min(rows[n], p.rows - 1u), step, p.steps);
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
                let scale = select(scales[n].xy, scales[n].zw, half == 1u);
                let w = weight_row(min(rows[n], p.rows - 1u), block, p.steps, scale);
                for (var m = 0u; m < TM; m++) {
                    let near = dot(xs[m * 8u], w[0]) + dot(xs[m * 8u + 1u], w[1])
                        + dot(xs[m * 8u + 2u], w[2]) + dot(xs[m * 8u + 3u], w[3]);
                    let far = dot(xs[m * 8u + 4u], w[4]) + dot(xs[m * 8u + 5u], w[5])
                        + dot(xs[m * 8u + 6u], w[6]) + dot(xs[m * 8u + 7u], w[7]);
                    sums[m * TN + n] += near + far;
                }
            }
        }
    }

    if LK > 1u {
        for (var i = 0u; i < TM * TN; i++) {
            partial[i * ${LANES}u + lane] = sums[i];
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
            sums[i] = partial[i * ${LANES}u + lane];
        }
    }
    if lk == 0u {
        for (var m = 0u; m < TM; m++) {
            for (var n = 0u; n < TN; n++) {
                if tile_m + m < p.tokens && rows[n] < p.rows {
                    y[(p.y_row + tile_m + m) * p.y_stride + p.y_column + tile_n + n] = result(sums[m * TN + n], rows[n]);
                }
            }
        }
    }
}
