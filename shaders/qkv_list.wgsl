// The heads of q, k and v that kept query heads need, as rows of the three stacked: the kept heads, the keys that they read,
// the values that they read, each part ascending. Keys and values have so many entries; those past the last name nobody.
struct Params {
    heads: u32,       // kept query heads
    group: u32,       // query heads of a kv head, in the whole model
    model_heads: u32, // query heads of the whole model
    entries: u32,     // of keys, and of values
}

@group(0) @binding(0) var<storage, read> kept: array<u32>;
@group(0) @binding(1) var<storage, read_write> list: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

const NOBODY = 0x00ffffffu; // far past every head, and its rows past every shard

@compute @workgroup_size(1)
fn main() {
    let kv_heads = p.model_heads / p.group;
    let keys = p.heads;
    let values = p.heads + p.entries;
    var count = 0u;
    var last = 0xffffffffu;
    for (var i = 0u; i < p.heads; i++) {
        list[i] = kept[i];
        let kv = kept[i] / p.group;
        if kv != last && count < p.entries {
            list[keys + count] = p.model_heads + kv;
            list[values + count] = p.model_heads + kv_heads + kv;
            count += 1u;
            last = kv;
        }
    }
    for (; count < p.entries; count++) {
        list[keys + count] = NOBODY;
        list[values + count] = NOBODY;
    }
}
