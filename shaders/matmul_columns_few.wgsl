// matmul_columns for one or two tokens: 32 outputs of one token in each invocation, LN x LK invocations a workgroup. Channels are
// cut into p.parts * LK shares: LK invocations add theirs up here, parts stay apart in y for rms_norm to add up. Invocations
// that lie next to one another have the same share, so that they walk the list in step.
//
// Weights are multiplied as the integers they are where the format allows, and scaled once for the kept channels of a group of 32.
#fetch a 0 vec4<f32>
#weights weight 1
#fetch kept 3 vec4<u32>
#lookup place_of 4 vec4<u32>
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import column_params
#import kept_before

const LN = ${LN}u;
const LK = ${LK}u;
const LIST = ${LIST}u; // see p.unit: NONE, CHANNELS, WHOLE for units of whole groups, CUT for others
const NONE = 0u;
const CHANNELS = 1u;
const WHOLE = 2u;
const CUT = 3u;

var<workgroup> partial: array<vec4<f32>, ${PARTIALS}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let lk = lane / LN;
    let column = workgroup.x * LN + lane % LN;
    let owned = column < p.blocks * p.parts;
    let number = column % p.blocks;
    let block = block_of(number);
    let part = min(column / p.blocks, p.parts - 1u);
    let token = workgroup.y;
    let a_row = (p.a_row + token) * (p.a_stride / 4u);

    let aligned = LIST == NONE || LIST == WHOLE;
    let runs = (select(p.channels, p.inputs, aligned) + 31u) / 32u;
    let shares = p.parts * LK;
    let index = part * LK + lk;
    // As even as whole runs allow.
    let first_run = index * runs / shares;
    let end_run = (index + 1u) * runs / shares;
    var sums: array<vec4<f32>, 8>;
    if aligned {
        for (var run = first_run; run < end_run; run++) {
            let first = run * 32u;
            var channel = first;
            if LIST == WHOLE {
                channel = channels_of(first).x;
            }
            var group = weight_group(channel / 32u, block);
            for (var i = 0u; i < min(32u, p.inputs - first); i += 4u) {
                let inputs = vec4<u32>(first + i) + vec4<u32>(0u, 1u, 2u, 3u);
                let values = select(vec4<f32>(), a(a_row + (first + i) / 4u), inputs < vec4<u32>(p.inputs));
                let channels = min(inputs - vec4<u32>(first) + vec4<u32>(channel), vec4<u32>(p.channels - 1u));
                weight_group_add(channels, values, block, &group);
            }
            weight_group_end(channel / 32u, block, &group, &sums);
        }
    } else {
        var next = kept_before(first_run * 32u);
        for (var run = first_run; run < end_run; run++) {
            let first = next;
            next = kept_before(run * 32u + 32u);
            let end = next;
            var group = weight_group(run, block);
            // A quadruple that lies across two groups is taken twice, each time with the other group's inputs as zeros: cheaper than a
            // condition, of which software adapters run both sides.
            for (var quad = first / 4u; quad * 4u < end; quad++) {
                var channels = kept(quad);
                if LIST == CUT {
                    channels = channels_of(quad * 4u);
                }
                channels = min(channels, vec4<u32>(p.channels - 1u));
                let inputs = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
                let values = select(vec4<f32>(), a(a_row + quad), (inputs >= vec4<u32>(first)) & (inputs < vec4<u32>(end)));
                weight_group_add(channels, values, block, &group);
            }
            weight_group_end(run, block, &group, &sums);
        }
    }

    if LK > 1u {
        for (var n = 0u; n < 8u; n++) {
            partial[n * ${LANES}u + lane] = sums[n];
        }
        workgroupBarrier();
        for (var width = LK / 2u; width > 0u; width /= 2u) {
            if lk < width {
                for (var n = 0u; n < 8u; n++) {
                    partial[n * ${LANES}u + lane] += partial[n * ${LANES}u + lane + width * LN];
                }
            }
            workgroupBarrier();
        }
        for (var n = 0u; n < 8u; n++) {
            sums[n] = partial[n * ${LANES}u + lane];
        }
    }
    if lk == 0u && owned {
        let at = part * p.part_stride + (p.y_row + token) * p.y_stride + p.y_column + number * 8u;
        for (var n = 0u; n < 8u; n++) {
            var value = sums[n];
            if p.add != 0u {
                value += y[at + n];
            }
            y[at + n] = value;
        }
    }
}
