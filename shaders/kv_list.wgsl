// The kv heads that some kept query head reads, ascending; entries past the last of them name nobody.
struct Params {
    heads: u32,   // kept query heads
    group: u32,   // query heads of a kv head, in the whole model
    entries: u32, // of the list
}

@group(0) @binding(0) var<storage, read> kept: array<u32>;
@group(0) @binding(1) var<storage, read_write> list: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(1)
fn main() {
    var count = 0u;
    var last = 0xffffffffu;
    for (var i = 0u; i < p.heads; i++) {
        let kv = kept[i] / p.group;
        if kv != last && count < p.entries {
            list[count] = kv;
            count += 1u;
            last = kv;
        }
    }
    for (; count < p.entries; count++) {
        list[count] = 0x00ffffffu; // far past every head, and its rows past every shard
    }
}
