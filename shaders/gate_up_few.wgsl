// gate_up for one or two tokens: TN outputs of one token in each invocation, LN x LK invocations a workgroup, of which LK share the
// inputs of their outputs and add their sums up at the end.
#fetch x 0 vec4<f32>
#weights gate 1
#weights up 3
#lookup kept 5 vec4<u32>
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
#store beside 7
@group(1) @binding(0) var<uniform> p: Params;

#import row_params

const TN = ${TN}u;
const LN = ${LN}u;
const LK = ${LK}u;

var<workgroup> partial: array<vec2<f32>, ${PARTIALS}>;

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
    var gates: array<f32, TN>;
    var ups: array<f32, TN>;

    // See row_few.
    var touched = 0u;
    for (var at = 0u; at < ${SOFTWARE}u * gate_row_elements(p.steps); at += 4u) {
        for (var n = 0u; n < TN; n++) {
            touched |= gate_touch(min(rows[n], p.rows - 1u), at, p.steps);
        }
    }
    for (var at = 0u; at < ${SOFTWARE}u * up_row_elements(p.steps); at += 4u) {
        for (var n = 0u; n < TN; n++) {
            touched |= up_touch(min(rows[n], p.rows - 1u), at, p.steps);
        }
    }
    gates[0] = f32(touched & (p.steps >> 31u));

    for (var step = lk; step < p.steps; step += LK) {
        var gate_scales: array<vec4<f32>, TN>;
        var up_scales: array<vec4<f32>, TN>;
        for (var n = 0u; n < TN; n++) {
            gate_scales[n] = gate_row_scales(min(rows[n], p.rows - 1u), step, p.steps);
            up_scales[n] = up_row_scales(min(rows[n], p.rows - 1u), step, p.steps);
        }
        for (var half = 0u; half < 2u; half++) {
            let block = 2u * step + half;
            var xs: array<vec4<f32>, 8>;
            for (var i = 0u; i < 8u; i++) {
                xs[i] = x(x_row + block * 8u + i);
            }
            for (var n = 0u; n < TN; n++) {
                let row = min(rows[n], p.rows - 1u);
                let gate_scale = select(gate_scales[n].xy, gate_scales[n].zw, half == 1u);
                let up_scale = select(up_scales[n].xy, up_scales[n].zw, half == 1u);
                gates[n] = gate_row_added(gates[n], row, block, p.steps, gate_scale, &xs);
                ups[n] = up_row_added(ups[n], row, block, p.steps, up_scale, &xs);
            }
        }
    }

    if LK > 1u {
        for (var n = 0u; n < TN; n++) {
            partial[n * ${LANES}u + lane] = vec2<f32>(gates[n], ups[n]);
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
            gates[n] = partial[n * ${LANES}u + lane].x;
            ups[n] = partial[n * ${LANES}u + lane].y;
        }
    }
    if lk == 0u {
        let to = (p.y_row + token) * p.y_stride + p.y_column + first;
        for (var n = 0u; n < TN; n++) {
            if rows[n] < p.rows {
                gates[n] = gates[n] / (1.0 + exp(-gates[n])) * ups[n];
                y[to + n] = gates[n];
            }
        }
        for (var n = 0u; n + 4u <= TN; n += 4u) {
            if first + n < p.outputs {
                beside((to + n) / 4u, vec4<f32>(gates[n], gates[n + 1u], gates[n + 2u], gates[n + 3u]));
            }
        }
    }
}
