// y[t, h] (+)= sum over kept inputs j of a[t, j] * W[channel(j)][h], with the transposed weights [channel][h]: only rows
// of kept channels are read. An invocation has TM tokens and 32 outputs; LK invocations share the channels among them.
struct Params {
    tokens: u32,   // rows of a and y
    inputs: u32,   // kept inputs: columns of a
    a_row: u32,    // first row of a
    a_stride: u32, // columns of a row of a, a multiple of 4
    y_row: u32,    // first row of y
    y_stride: u32, // columns of a row of y / 4
    y_column: u32, // first column of y / 4
    blocks: u32,   // outputs of this shard / 32
    unit: u32,     // inputs of an entry of `kept`; 0 = no list: input j is channel j
    add: u32,      // whether y is added to (the residual stream) or set
}

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
#weights weight 1
@group(0) @binding(3) var<storage, read> kept: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

const TM = ${TM}u;
const LM = ${LM}u;
const LN = ${LN}u;
const LK = ${LK}u;

var<workgroup> partial: array<vec4<f32>, ${PARTIALS}>;

// The channels of inputs j to j + 3; `unit` is 1 or a multiple of 4. Past the end the last entry's padding is read, and
// its product left out.
fn channels_of(j: u32) -> vec4<u32> {
    if p.unit == 0u {
        return vec4<u32>(j, j + 1u, j + 2u, j + 3u);
    }
    if p.unit == 1u {
        return kept[j / 4u];
    }
    let entry = j / p.unit;
    let channel = kept[entry / 4u][entry % 4u] * p.unit + j % p.unit;
    return vec4<u32>(channel, channel + 1u, channel + 2u, channel + 3u);
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let lk = lane % LK;
    let block = min(group.x * LN + lane / LK % LN, p.blocks - 1u);
    let owned = group.x * LN + lane / LK % LN < p.blocks;
    let tile_m = (group.y * LM + lane / (LK * LN)) * TM;

    var tokens: array<u32, TM>;
    for (var m = 0u; m < TM; m++) {
        tokens[m] = (p.a_row + min(tile_m + m, p.tokens - 1u)) * (p.a_stride / 4u);
    }
    var sums: array<vec4<f32>, ${SUMS}>;
    var scales: weight_ColumnScales;
    var scaled = 0xffffffffu;

    // Every invocation takes a stretch of the list, so that its scales change rarely.
    let quads = (p.inputs + 3u) / 4u;
    let share = (quads + LK - 1u) / LK;
    for (var quad = lk * share; quad < min((lk + 1u) * share, quads); quad++) {
        let channels = channels_of(quad * 4u);
        var inputs: array<vec4<f32>, TM>;
        for (var m = 0u; m < TM; m++) {
            inputs[m] = a[tokens[m] + quad];
        }
        for (var i = 0u; i < 4u; i++) {
            if quad * 4u + i < p.inputs {
                let channel = channels[i];
                if channel / 32u != scaled {
                    scaled = channel / 32u;
                    scales = weight_column_scales(scaled, block, p.blocks);
                }
                let w = weight_column(channel, block, p.blocks, &scales);
                for (var m = 0u; m < TM; m++) {
                    let v = inputs[m][i];
                    for (var n = 0u; n < 8u; n++) {
                        sums[m * 8u + n] += v * w[n];
                    }
                }
            }
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
                    partial[i * ${LANES}u + lane] += partial[i * ${LANES}u + lane + width];
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
                let at = (p.y_row + tile_m + m) * p.y_stride + p.y_column + block * 8u;
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
