// A matmul by rows, result(x[t] . W[row(j)]): a tile of TM tokens by TN outputs in each invocation, LM x LN invocations a workgroup.
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
    var sum_${m}_${n} = 0.0;
#end
#end

    for (var step = 0u; step < p.steps; step++) {
#repeat n TN
        let scales_${n} = weight_row_scales(at_${n}, step, p.steps);
#end
        for (var half = 0u; half < 2u; half++) {
            let block = 2u * step + half;
#repeat n TN
            let scale_${n} = select(scales_${n}.xy, scales_${n}.zw, half == 1u);
            var words_${n} = weight_row_words(at_${n}, block, p.steps);
#end
            // Four columns at a time, so that the loop stays short enough for an instruction cache.
            for (var i = 0u; i < 8u; i++) {
#repeat m TM
                let x_${m} = x(token_${m} + block * 8u + i);
#end
#repeat n TN
                let w_${n} = weight_row_four(&words_${n}, i, scale_${n});
#repeat m TM
                sum_${m}_${n} += dot(x_${m}, w_${n});
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
            y[to_${m} + ${n}u] = result(sum_${m}_${n}, row_${n});
        }
#end
    }
#end
}
