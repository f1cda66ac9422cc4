// The next token of every sample, drawn from its logits: penalty, temperature, top-k, top-p, min-p, draw. Of equal logits
// the lower id comes first. A workgroup has one sample.
// Weights are exp((logit - top) / temperature) in 64-bit fixed point (of 2^40), so that their sums are the same in any
// order. Tokens are counted into bins by their distance from the likeliest; those of the bins that can matter are sorted,
// where they are few. Where they are many, the token is found byte by byte of its logit and its id.
struct Params {
    vocab: u32,
    top_k: u32,    // 0 = all
    top_p: u32,    // of 2^32; 0 = all
    last_bin: u32, // behind it lies nothing that min_p keeps
    stride: u32,   // of draws
    temperature: f32, // 0 = the likeliest
    min_p: f32,
    penalty: f32,
}

@group(0) @binding(0) var<storage, read_write> logits: array<vec4<f32>>; // [samples][vocab]; penalised in place
@group(0) @binding(1) var<storage, read> draws: array<u32>; // [samples][stride]: where to draw (of 2^32), count, tokens to penalise
@group(0) @binding(2) var<storage, read_write> ids: array<u32>; // [samples]
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const BINS = 256u;
const LISTED = 512u; // tokens that are sorted at once
const STEPS = 8.0; // bins for a factor of e
const NOT_A_NUMBER = 0x80000000u; // marks the id of the first logit that is none
const NO_KEY = 0xffffffffu; // its key

var<workgroup> keys: array<u32, LISTED>; // the best of lanes; then of the tokens that are sorted
var<workgroup> tokens: array<u32, LISTED>;
var<workgroup> weights: array<vec2<u32>, LISTED>;
var<workgroup> order: array<u32, LISTED>;
var<workgroup> counts: array<atomic<u32>, BINS>;
var<workgroup> highs: array<atomic<u32>, BINS>; // sums of weights
var<workgroup> lows: array<atomic<u32>, BINS>;
var<workgroup> listed: atomic<u32>;
var<workgroup> found: vec2<u32>;
var<workgroup> sum: vec2<u32>;
var<workgroup> limit: vec2<u32>; // the last token that stays: its key, inverted, and its id
var<workgroup> rest: vec2<u32>;

// Keys order as floats do, from the least to the greatest; NaN comes last.
fn ordered(bits: vec4<u32>) -> vec4<u32> {
    let numbers = select(bits ^ vec4<u32>(0x80000000u), ~bits, bits >= vec4<u32>(0x80000000u));
    return select(numbers, vec4<u32>(NO_KEY), (bits & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u));
}

// Four keys from logits[at]; 0, which no number has, outside of the row.
fn four_keys(at: u32, row: u32, end: u32) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(logits[at]);
    // The likeliest of all is by value: there -0 equals 0.
    let zeros = (bits == vec4<u32>(0x80000000u)) & vec4<bool>(p.temperature == 0.0);
    let index = vec4<u32>(4u * at) + vec4<u32>(0u, 1u, 2u, 3u);
    let inside = (index >= vec4<u32>(row)) & (index < vec4<u32>(end));
    return select(vec4<u32>(0u), ordered(select(bits, vec4<u32>(0u), zeros)), inside);
}

fn number(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key ^ 0x80000000u, key >= 0x80000000u));
}

// The logarithm of a weight. Equal logits have equal weights, infinite ones too.
fn exponent(key: u32, top: u32) -> f32 {
    return select((number(key) - number(top)) / p.temperature, 0.0, key == top);
}

fn bin_of(key: u32, top: u32) -> u32 {
    return min(u32(min(-exponent(key, top) * STEPS, f32(BINS - 1u))), BINS - 1u);
}

// High and low word.
fn fixed(weight: f32) -> vec2<u32> {
    let scaled = weight * 256.0;
    let whole = floor(scaled);
    return vec2<u32>(u32(whole), u32((scaled - whole) * 4294967296.0));
}

fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.y + b.y;
    return vec2<u32>(a.x + b.x + u32(low < a.y), low);
}

fn minus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x - u32(a.y < b.y), a.y - b.y);
}

fn less(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x < b.x || (a.x == b.x && a.y < b.y);
}

fn product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let one = (a >> 16u) * (b & 0xffffu);
    let other = (a & 0xffffu) * (b >> 16u);
    let middle = (low >> 16u) + (one & 0xffffu) + (other & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (one >> 16u) + (other >> 16u) + (middle >> 16u);
    return vec2<u32>(high, (low & 0xffffu) | (middle << 16u));
}

// a * part / 2^32
fn share(a: vec2<u32>, part: u32) -> vec2<u32> {
    return plus(product(a.x, part), vec2<u32>(0u, product(a.y, part).x));
}

// The sum of weights that top_p asks for.
fn enough(total: vec2<u32>) -> vec2<u32> {
    return select(share(total, p.top_p), vec2<u32>(0xffffffffu), vec2<bool>(p.top_p == 0u));
}

fn add(bin: u32, weight: vec2<u32>) {
    let before = atomicAdd(&lows[bin], weight.y);
    let carry = u32(before + weight.y < before);
    if weight.x + carry > 0u {
        atomicAdd(&highs[bin], weight.x + carry);
    }
}

fn weight_of(bin: u32) -> vec2<u32> {
    return vec2<u32>(atomicLoad(&highs[bin]), atomicLoad(&lows[bin]));
}

fn clear_bins(lane: u32) {
    for (var bin = lane; bin < BINS; bin += LANES) {
        atomicStore(&counts[bin], 0u);
        atomicStore(&highs[bin], 0u);
        atomicStore(&lows[bin], 0u);
    }
}

// Whether the bytes of value before its byte at `level` are those of prefix.
fn follows(value: u32, prefix: u32, level: u32) -> bool {
    return level == 0u || ((value ^ prefix) >> (32u - 8u * level)) == 0u;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * p.vocab;
    let end = row + p.vocab;
    let four_from = row / 4u;
    let four_to = (end + 3u) / 4u;
    let draw = group.x * p.stride;
    let chance = draws[draw];
    let seen = draws[draw + 1u];
    for (var s = lane; s < seen; s += LANES) {
        let at = row + draws[draw + 2u + s];
        let value = logits[at / 4u][at % 4u];
        logits[at / 4u][at % 4u] = select(value * p.penalty, value / p.penalty, value > 0.0);
    }
    storageBarrier();

    var best = 0u;
    var place = 0u;
    for (var at = four_from + lane; at < four_to; at += LANES) {
        let four = four_keys(at, row, end);
        for (var c = 0u; c < 4u; c++) {
            place = select(place, 4u * at + c - row, four[c] > best);
            best = max(best, four[c]);
        }
    }
    keys[lane] = best;
    tokens[lane] = place;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let other = keys[lane + half];
            if other > keys[lane] || (other == keys[lane] && tokens[lane + half] < tokens[lane]) {
                keys[lane] = other;
                tokens[lane] = tokens[lane + half];
            }
        }
    }
    if lane == 0u {
        found = vec2<u32>(keys[0], tokens[0]);
    }
    clear_bins(lane);
    let first = workgroupUniformLoad(&found);
    let top = first.x;
    if p.temperature == 0.0 || top == NO_KEY {
        if lane == 0u {
            ids[group.x] = first.y | select(0u, NOT_A_NUMBER, top == NO_KEY);
        }
        return;
    }

    // The last bin holds weights that are 0 here.
    for (var at = four_from + lane; at < four_to; at += LANES) {
        let four = four_keys(at, row, end);
        for (var c = 0u; c < 4u; c++) {
            let bin = bin_of(four[c], top);
            if four[c] != 0u && bin < BINS - 1u {
                atomicAdd(&counts[bin], 1u);
                if p.top_k == 0u {
                    add(bin, fixed(exp(exponent(four[c], top))));
                }
            }
        }
    }
    workgroupBarrier();
    if lane == 0u {
        var last = 0u;
        var count = atomicLoad(&counts[0]);
        var total = vec2<u32>(0u);
        if p.top_k > 0u {
            for (; last < BINS - 2u && count < p.top_k; count += atomicLoad(&counts[last])) {
                last++;
            }
        } else {
            for (var bin = 0u; bin < BINS - 1u; bin++) {
                total = plus(total, weight_of(bin));
            }
            let wanted = enough(total);
            var reached = weight_of(0u);
            for (; last < p.last_bin && less(reached, wanted); reached = plus(reached, weight_of(last))) {
                last++;
                count += atomicLoad(&counts[last]);
            }
        }
        found = vec2<u32>(last, count);
        sum = total;
        atomicStore(&listed, 0u);
    }
    let bins = workgroupUniformLoad(&found);
    let least = fixed(p.min_p);

    if bins.y <= LISTED {
        for (var at = four_from + lane; at < four_to; at += LANES) {
            let four = four_keys(at, row, end);
            for (var c = 0u; c < 4u; c++) {
                if four[c] != 0u && bin_of(four[c], top) <= bins.x {
                    let slot = min(atomicAdd(&listed, 1u), LISTED - 1u);
                    keys[slot] = four[c];
                    tokens[slot] = 4u * at + c - row;
                    weights[slot] = fixed(exp(exponent(four[c], top)));
                }
            }
        }
        workgroupBarrier();
        for (var i = lane; i < bins.y; i += LANES) {
            var rank = 0u;
            for (var j = 0u; j < bins.y; j++) {
                rank += u32(keys[j] > keys[i] || (keys[j] == keys[i] && tokens[j] < tokens[i]));
            }
            order[rank] = i;
        }
        workgroupBarrier();
        if lane == 0u {
            var stay = bins.y;
            var total = sum;
            if p.top_k > 0u {
                stay = min(stay, p.top_k);
                for (var i = 0u; i < stay; i++) {
                    total = plus(total, weights[order[i]]);
                }
            }
            let wanted = enough(total);
            var reached = weights[order[0]];
            var count = 1u;
            for (; count < stay && less(reached, wanted); count++) {
                let weight = weights[order[count]];
                if less(weight, least) {
                    break;
                }
                reached = plus(reached, weight);
            }
            let mark = share(reached, chance);
            var through = weights[order[0]];
            var drawn = 0u;
            for (; drawn + 1u < count && !less(mark, through); through = plus(through, weights[order[drawn]])) {
                drawn++;
            }
            ids[group.x] = tokens[order[drawn]];
        }
        return;
    }

    // Three searches for the first token at which a count or a sum of weights exceeds `rest`: the last that top_k keeps, the
    // last that top_p keeps of those, and the one that is drawn of those that min_p leaves.
    if lane == 0u {
        limit = vec2<u32>(0xffffffffu);
    }
    workgroupBarrier();
    for (var stage = 0u; stage < 3u; stage++) {
        if (stage == 0u && p.top_k == 0u) || (stage == 1u && p.top_p == 0u) {
            continue;
        }
        clear_bins(lane);
        workgroupBarrier();
        var own = vec2<u32>(0u);
        for (var token = lane; token < p.vocab; token += LANES) {
            let key = ordered(vec4<u32>(bitcast<u32>(logits[(row + token) / 4u][(row + token) % 4u]))).x;
            let weight = fixed(exp(exponent(key, top)));
            let stays = !less(limit, vec2<u32>(~key, token)) && (stage < 2u || !less(weight, least));
            own = plus(own, select(vec2<u32>(0u), weight, vec2<bool>(stays)));
        }
        add(0u, own);
        workgroupBarrier();
        if lane == 0u {
            let total = weight_of(0u);
            switch stage {
                case 0u: {
                    rest = vec2<u32>(0u, p.top_k - 1u);
                }
                case 1u: {
                    rest = minus(enough(total), vec2<u32>(0u, 1u));
                }
                default: {
                    rest = share(total, chance);
                }
            }
            found = vec2<u32>(0u);
        }
        for (var level = 0u; level < 8u; level++) {
            workgroupBarrier();
            clear_bins(lane);
            workgroupBarrier();
            let shift = 24u - 8u * (level % 4u);
            for (var token = lane; token < p.vocab; token += LANES) {
                let key = ordered(vec4<u32>(bitcast<u32>(logits[(row + token) / 4u][(row + token) % 4u]))).x;
                let weight = fixed(exp(exponent(key, top)));
                let stays = !less(limit, vec2<u32>(~key, token)) && (stage < 2u || !less(weight, least));
                let by_key = level < 4u && follows(~key, found.x, level);
                let by_id = level >= 4u && ~key == found.x && follows(token, found.y, level - 4u);
                if stays && (by_key || by_id) {
                    let bin = (select(token, ~key, level < 4u) >> shift) & 255u;
                    add(bin, select(weight, vec2<u32>(0u, 1u), vec2<bool>(stage == 0u)));
                }
            }
            workgroupBarrier();
            if lane == 0u {
                var bin = 0u;
                for (; bin < BINS - 1u; bin++) {
                    let here = weight_of(bin);
                    if less(rest, here) {
                        break;
                    }
                    rest = minus(rest, here);
                }
                found |= select(vec2<u32>(0u, bin << shift), vec2<u32>(bin << shift, 0u), vec2<bool>(level < 4u));
            }
        }
        if lane == 0u {
            limit = found;
        }
        workgroupBarrier();
    }
    if lane == 0u {
        ids[group.x] = limit.y;
    }
}
