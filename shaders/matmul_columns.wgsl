// y[t, h] (+)= sum over kept inputs j of a[t, j] * W[channel(j)][h], with the transposed weights [channel][h]: only rows
// of kept channels are read. An invocation has TM tokens and 32 outputs; LM x LN x LK invocations form a workgroup. Channels are
// cut into p.parts * LK shares: LK invocations add theirs up here, parts stay apart in y for rms_norm to add up. Invocations
// that lie next to one another have the same share, so that software adapters walk the list in step.
//
// Scales belong to 32 channels, so the list is walked by such groups, their kept inputs four at a time. A quadruple that
// lies across two groups is taken twice, each time with the other group's inputs as zeros: cheaper than a condition, of
// which software adapters run both sides.
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
#weights weight 1
@group(0) @binding(3) var<storage, read> kept: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> place_of: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import column_params

const TM = ${TM}u;
const LM = ${LM}u;
const LN = ${LN}u;
const LK = ${LK}u;
const DROPPED = 0x80000000u; // see top_k

var<workgroup> partial: array<vec4<f32>, ${PARTIALS}>;
var<private> sums: array<vec4<f32>, ${SUMS}>;

// How many kept inputs come before `channel`.
fn kept_before(channel: u32) -> u32 {
    if channel >= p.channels {
        return p.inputs;
    }
    let unit = channel / p.unit;
    let place = place_of[unit];
    if place < DROPPED {
        return place * p.unit + channel % p.unit;
    }
    return (unit - (place - DROPPED)) * p.unit;
}

fn take(weights: array<vec4<f32>, 8>, inputs: array<f32, TM>) {
    var w = weights;
    for (var m = 0u; m < TM; m++) {
        for (var n = 0u; n < 8u; n++) {
            sums[m * 8u + n] += inputs[m] * w[n];
        }
    }
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let lk = lane / (LN * LM);
    let column = group.x * LN + lane % LN;
    let owned = column < p.blocks * p.parts;
    let block = column % p.blocks;
    let part = min(column / p.blocks, p.parts - 1u);
    let tile_m = (group.y * LM + lane / LN % LM) * TM;

    var tokens: array<u32, TM>;
    for (var m = 0u; m < TM; m++) {
        tokens[m] = (p.a_row + min(tile_m + m, p.tokens - 1u)) * (p.a_stride / 4u);
    }

    // Inputs come in runs of one group: 32 at a time where there is no list or its units are whole groups.
    let aligned = p.unit % 32u == 0u;
    let runs = select((p.channels + 31u) / 32u, (p.inputs + 31u) / 32u, aligned);
    let shares = p.parts * LK;
    let index = part * LK + lk;
    // As even as whole runs allow.
    let first_run = index * runs / shares;
    var next = first_run * 32u;
    if !aligned {
        next = kept_before(next);
    }
    for (var run = first_run; run < (index + 1u) * runs / shares; run++) {
        let first = next;
        next = min(run * 32u + 32u, p.inputs);
        var scale_group = run;
        if aligned {
            scale_group = channels_of(first).x / 32u;
        } else {
            next = kept_before(run * 32u + 32u);
        }
        let end = next;
        var scales = weight_column_scales(scale_group, block, p.blocks);
        for (var quad = first / 4u; quad * 4u < end; quad++) {
            let channels = min(channels_of(quad * 4u), vec4<u32>(p.channels - 1u));
            let inputs = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
            let real = (inputs >= vec4<u32>(first)) & (inputs < vec4<u32>(end));
            var values: array<vec4<f32>, TM>;
            for (var m = 0u; m < TM; m++) {
                values[m] = select(vec4<f32>(), a[tokens[m] + quad], real);
            }
            var xs: array<f32, TM>;
            for (var m = 0u; m < TM; m++) {
                xs[m] = values[m].x;
            }
            take(weight_column(channels.x, block, p.blocks, &scales), xs);
            var ys: array<f32, TM>;
            for (var m = 0u; m < TM; m++) {
                ys[m] = values[m].y;
            }
            take(weight_column(channels.y, block, p.blocks, &scales), ys);
            var zs: array<f32, TM>;
            for (var m = 0u; m < TM; m++) {
                zs[m] = values[m].z;
            }
            take(weight_column(channels.z, block, p.blocks, &scales), zs);
            var ws: array<f32, TM>;
            for (var m = 0u; m < TM; m++) {
                ws[m] = values[m].w;
            }
            take(weight_column(channels.w, block, p.blocks, &scales), ws);
        }
    }

    if LK > 1u {
        for (var i = 0u; i < TM * 8u; i++) {
            partial[i * ${LANES}u + lane] = sums[i];
        }
        workgroupBarrier();
        for (var width = LK / 2u; width > 0u; width /= 2u) {
            if lk < width {
                for (var i = 0u; i < TM * 8u; i++) {
                    partial[i * ${LANES}u + lane] += partial[i * ${LANES}u + lane + width * LN * LM];
                }
            }
            workgroupBarrier();
        }
        for (var i = 0u; i < TM * 8u; i++) {
            sums[i] = partial[i * ${LANES}u + lane];
        }
    }
    if lk == 0u && owned {
        for (var m = 0u; m < TM; m++) {
            if tile_m + m < p.tokens {
                let at = part * p.part_stride + (p.y_row + tile_m + m) * p.y_stride + p.y_column + block * 8u;
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
