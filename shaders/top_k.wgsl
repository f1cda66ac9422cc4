// The indices of the k largest of n scores (none negative), ascending; the others, ascending; and where each index went:
// its place among the kept, or its place among the dropped plus DROPPED.
// Ties go to the lower index. Radix selection of the k-th largest value, eight bits at a time, then one scan over
// stretches of the scores. One workgroup.
struct Params {
    count: u32,       // n
    keep: u32,        // k, at least 1
    first_stays: u32, // whether index 0 is always kept
}

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read_write> kept: array<u32>;
@group(0) @binding(2) var<storage, read_write> dropped: array<u32>;
@group(0) @binding(3) var<storage, read_write> place_of: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const DROPPED = 0x80000000u;

var<workgroup> histogram: array<atomic<u32>, 256>;
var<workgroup> above: array<u32, LANES>;
var<workgroup> equal: array<u32, LANES>;
var<workgroup> prefix: u32;
var<workgroup> wanted: u32;

// Positive floats order as their bits do; whatever is not a positive number (NaN too) comes last.
fn key(i: u32) -> u32 {
    if i == 0u && p.first_stays != 0u {
        return 0xffffffffu;
    }
    let bits = bitcast<u32>(scores[i]);
    return select(0u, bits, bits <= 0x7f800000u);
}

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    var mask = 0u;
    if lane == 0u {
        prefix = 0u;
        wanted = p.keep;
    }
    for (var shift = 24i; shift >= 0i; shift -= 8i) {
        for (var i = lane; i < 256u; i += LANES) {
            atomicStore(&histogram[i], 0u);
        }
        workgroupBarrier();
        for (var i = lane; i < p.count; i += LANES) {
            let k = key(i);
            if (k & mask) == prefix {
                atomicAdd(&histogram[(k >> u32(shift)) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var rest = wanted;
            var bin = 255u;
            for (; bin > 0u; bin--) {
                let here = atomicLoad(&histogram[bin]);
                if here >= rest {
                    break;
                }
                rest -= here;
            }
            wanted = rest;
            prefix |= bin << u32(shift);
        }
        mask |= 255u << u32(shift);
        workgroupBarrier();
    }

    let stretch = (p.count + LANES - 1u) / LANES;
    let from_ = min(lane * stretch, p.count);
    let to = min(from_ + stretch, p.count);
    var larger = 0u;
    var same = 0u;
    for (var i = from_; i < to; i++) {
        let k = key(i);
        larger += u32(k > prefix);
        same += u32(k == prefix);
    }
    above[lane] = larger;
    equal[lane] = same;
    workgroupBarrier();
    larger = 0u;
    same = 0u;
    for (var l = 0u; l < lane; l++) {
        larger += above[l];
        same += equal[l];
    }
    for (var i = from_; i < to; i++) {
        let k = key(i);
        let place = larger + min(same, wanted);
        if k > prefix || (k == prefix && same < wanted) {
            kept[place] = i;
            place_of[i] = place;
        } else {
            dropped[i - place] = i;
            place_of[i] = DROPPED + i - place;
        }
        larger += u32(k > prefix);
        same += u32(k == prefix);
    }
}
