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

    // Sums are written out one by one: of more than some 48 in an array, software drivers look for each at run time.
#repeat n TN
    let row_${n} = row_of(tile_n + ${n}u);
    let at_${n} = min(row_${n}, p.rows - 1u);
#end
#repeat m TM
    let token_${m} = (p.x_row + min(tile_m + ${m}u, p.tokens - 1u)) * p.steps * 16u;
#repeat n TN
    var gate_${m}_${n} = 0.0;
    var up_${m}_${n} = 0.0;
#end
#end

    for (var step = 0u; step < p.steps; step++) {
#repeat n TN
        let gate_scales_${n} = gate_row_scales(at_${n}, step, p.steps);
        let up_scales_${n} = up_row_scales(at_${n}, step, p.steps);
#end
        for (var half = 0u; half < 2u; half++) {
            let block = 2u * step + half;
#repeat n TN
            let gate_scale_${n} = select(gate_scales_${n}.xy, gate_scales_${n}.zw, half == 1u);
            var gate_words_${n} = gate_row_words(at_${n}, block, p.steps);
            let up_scale_${n} = select(up_scales_${n}.xy, up_scales_${n}.zw, half == 1u);
            var up_words_${n} = up_row_words(at_${n}, block, p.steps);
#end
            // Four columns at a time, so that the loop stays short enough for an instruction cache.
            for (var i = 0u; i < 8u; i++) {
#repeat m TM
                let x_${m} = x(token_${m} + block * 8u + i);
#end
#repeat n TN
                let gate_w_${n} = gate_row_four(&gate_words_${n}, i, gate_scale_${n});
#repeat m TM
                gate_${m}_${n} += dot(x_${m}, gate_w_${n});
#end
#end
#repeat n TN
                let up_w_${n} = up_row_four(&up_words_${n}, i, up_scale_${n});
#repeat m TM
                up_${m}_${n} += dot(x_${m}, up_w_${n});
#end
#end
            }
        }
    }

#repeat m TM
    if tile_m + ${m}u < p.tokens {
        let to_${m} = (p.y_row + tile_m + ${m}u) * p.y_stride + p.y_column + tile_n;
#repeat n TN
        if row_${n} < p.rows {
            y[to_${m} + ${n}u] = gate_${m}_${n} / (1.0 + exp(-gate_${m}_${n})) * up_${m}_${n};
        }
#end
    }
#end
}
