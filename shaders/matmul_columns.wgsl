// y[t, h] (+)= sum over kept inputs j of a[t, j] * W[channel(j)][h], with the transposed weights [channel][h]: only rows
// of kept channels are read. An invocation has TM tokens and 32 outputs; LM x LN invocations form a workgroup. Channels are
// cut into p.parts, which stay apart in y for rms_norm to add up.
//
// Scales belong to 32 channels, so the list is walked by such groups, their kept inputs four at a time. A quadruple that
// lies across two groups is taken twice, each time with the other group's inputs as zeros: cheaper than a condition, of
// which software adapters run both sides.
#fetch a 0 vec4<f32>
#weights weight 1
#fetch kept 3 vec4<u32>
#lookup place_of 4 vec4<u32>
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import column_params
#import kept_before

const TM = ${TM}u;
const LM = ${LM}u;
const LN = ${LN}u;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * LN + lane % LN;
    let owned = column < p.blocks * p.parts;
    let number = column % p.blocks;
    let block = block_of(number);
    let part = min(column / p.blocks, p.parts - 1u);
    let tile_m = (group.y * LM + lane / LN) * TM;

    // Sums are written out one by one: where they are an array, and a format takes long to decode, software drivers look for each at
    // run time.
#repeat m TM
    let token_${m} = (p.a_row + min(tile_m + ${m}u, p.tokens - 1u)) * (p.a_stride / 4u);
#repeat n FOURS
    var sum_${m}_${n} = vec4<f32>();
#end
#end

    // Inputs come in runs of one group: 32 at a time where there is no list or its units are whole groups.
    let aligned = p.unit % 32u == 0u;
    let runs = select((p.channels + 31u) / 32u, (p.inputs + 31u) / 32u, aligned);
    // As even as whole runs allow.
    let first_run = part * runs / p.parts;
    var next = first_run * 32u;
    if !aligned {
        next = kept_before(next);
    }
    for (var run = first_run; run < (part + 1u) * runs / p.parts; run++) {
        let first = next;
        next = min(run * 32u + 32u, p.inputs);
        var scale_group = run;
        if aligned {
            scale_group = channels_of(first).x / 32u;
        } else {
            next = kept_before(run * 32u + 32u);
        }
        let end = next;
        var scales = weight_column_scales(scale_group, block);
        for (var quad = first / 4u; quad * 4u < end; quad++) {
            let channels = min(channels_of(quad * 4u), vec4<u32>(p.channels - 1u));
            let inputs = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
            let real = (inputs >= vec4<u32>(first)) & (inputs < vec4<u32>(end));
#repeat m TM
            let values_${m} = select(vec4<f32>(), a(token_${m} + quad), real);
#end
            var bits0 = weight_bits(channels.x, block);
            var bits1 = weight_bits(channels.y, block);
            var bits2 = weight_bits(channels.z, block);
            var bits3 = weight_bits(channels.w, block);
            // All four channels are added to a sum while it is at hand: more sums than there are registers lie in memory.
#repeat n FOURS
            let w0_${n} = weight_four(&bits0, ${n}u, &scales);
            let w1_${n} = weight_four(&bits1, ${n}u, &scales);
            let w2_${n} = weight_four(&bits2, ${n}u, &scales);
            let w3_${n} = weight_four(&bits3, ${n}u, &scales);
#repeat m TM
            sum_${m}_${n} += values_${m}.x * w0_${n};
            sum_${m}_${n} += values_${m}.y * w1_${n};
            sum_${m}_${n} += values_${m}.z * w2_${n};
            sum_${m}_${n} += values_${m}.w * w3_${n};
#end
#end
        }
    }

    let to = part * p.part_stride + p.y_column + number * 8u;
#repeat m TM
    if owned && tile_m + ${m}u < p.tokens {
        let at = to + (p.y_row + tile_m + ${m}u) * p.y_stride;
#repeat n FOURS
        if p.add != 0u {
            sum_${m}_${n} += y[at + ${n}u];
        }
        y[at + ${n}u] = sum_${m}_${n};
#end
    }
#end
}
