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

    var tokens: array<u32, TM>;
    for (var m = 0u; m < TM; m++) {
        tokens[m] = (p.a_row + min(tile_m + m, p.tokens - 1u)) * (p.a_stride / 4u);
    }

    var sums: array<vec4<f32>, ${SUMS}>;

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
            var values: array<vec4<f32>, TM>;
            for (var m = 0u; m < TM; m++) {
                values[m] = select(vec4<f32>(), a(tokens[m] + quad), real);
            }
            var bits0 = weight_bits(channels.x, block);
            var bits1 = weight_bits(channels.y, block);
            var bits2 = weight_bits(channels.z, block);
            var bits3 = weight_bits(channels.w, block);
            // All four channels are added to a sum while it is at hand: more sums than there are registers lie in memory.
            for (var n = 0u; n < 8u; n++) {
                let w0 = weight_four(&bits0, n, &scales);
                let w1 = weight_four(&bits1, n, &scales);
                let w2 = weight_four(&bits2, n, &scales);
                let w3 = weight_four(&bits3, n, &scales);
                for (var m = 0u; m < TM; m++) {
                    var sum = sums[m * 8u + n];
                    sum += values[m].x * w0;
                    sum += values[m].y * w1;
                    sum += values[m].z * w2;
                    sum += values[m].w * w3;
                    sums[m * 8u + n] = sum;
                }
            }
        }
    }

    if owned {
        for (var m = 0u; m < TM; m++) {
            if tile_m + m < p.tokens {
                let at = part * p.part_stride + (p.y_row + tile_m + m) * p.y_stride + p.y_column + number * 8u;
                for (var n = 0u; n < 8u; n++) {
                    var value = sums[m * 8u + n];
                    if p.add != 0u {
                        value += y[at + n];
                    }
                    y[at + n] = value;
                }
            }
        }
    }
}
