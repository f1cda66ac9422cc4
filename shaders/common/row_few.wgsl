// A matmul by rows for one or two tokens, result(x[t] . W[row(j)]): TN outputs of one token in each invocation, LN x LK
// invocations a workgroup. LK invocations share the inputs of their outputs and add their sums up at the end.
const TN = ${TN}u;
const LN = ${LN}u;
const LK = ${LK}u;

var<workgroup> partial: array<f32, ${PARTIALS}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let lk = lane % LK;
    let first = (group.x * LN + lane / LK) * TN;
    let token = group.y;
    let x_row = (p.x_row + token) * p.steps * 16u;

    var rows: array<u32, TN>;
    for (var n = 0u; n < TN; n++) {
        rows[n] = row_of(first + n);
    }
    var sums: array<f32, TN>;

    // The lines of the rows are asked for at once, before they are needed one after the other. What comes goes nowhere, which the
    // compiler cannot know. Hardware hides the wait behind other workgroups.
    var touched = 0u;
    for (var at = 0u; at < ${SOFTWARE}u * weight_row_elements(p.steps); at += 4u) {
        for (var n = 0u; n < TN; n++) {
            touched |= weight_touch(min(rows[n], p.rows - 1u), at, p.steps);
        }
    }
    sums[0] = f32(touched & (p.steps >> 31u));

    for (var step = lk; step < p.steps; step += LK) {
        var scales: array<vec4<f32>, TN>;
        for (var n = 0u; n < TN; n++) {
            scales[n] = weight_row_scales(min(rows[n], p.rows - 1u), step, p.steps);
        }
        for (var half = 0u; half < 2u; half++) {
            let block = 2u * step + half;
            var xs: array<vec4<f32>, 8>;
            for (var i = 0u; i < 8u; i++) {
                xs[i] = x(x_row + block * 8u + i);
            }
            for (var n = 0u; n < TN; n++) {
                let scale = select(scales[n].xy, scales[n].zw, half == 1u);
                sums[n] = weight_row_added(sums[n], min(rows[n], p.rows - 1u), block, p.steps, scale, &xs);
            }
        }
    }

    if LK > 1u {
        for (var n = 0u; n < TN; n++) {
            partial[n * ${LANES}u + lane] = sums[n];
        }
        workgroupBarrier();
        for (var width = LK / 2u; width > 0u; width /= 2u) {
            if lk < width {
                for (var n = 0u; n < TN; n++) {
                    partial[n * ${LANES}u + lane] += partial[n * ${LANES}u + lane + width];
                }
            }
            workgroupBarrier();
        }
        for (var n = 0u; n < TN; n++) {
            sums[n] = partial[n * ${LANES}u + lane];
        }
    }
    if lk == 0u {
        let to = (p.y_row + token) * p.y_stride + p.y_column + first;
        for (var n = 0u; n < TN; n++) {
            if rows[n] < p.rows {
                sums[n] = result(sums[n], rows[n]);
                y[to + n] = sums[n];
            }
        }
        for (var n = 0u; n + 4u <= TN; n += 4u) {
            if first + n < p.outputs {
                beside((to + n) / 4u, vec4<f32>(sums[n], sums[n + 1u], sums[n + 2u], sums[n + 3u]));
            }
        }
    }
}
