// See rope_head. An invocation turns a share of one head, and appends that of the value that goes with a key.
#import rope_head

const BIASED = ${BIASED}u; // whether q, k and v have biases

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let member = at.x / shares();
    let token = at.y;
    if member >= p.queries + p.keys {
        return;
    }
    let i = at.x - member * shares();
    let place = places[token];
    let is_query = member < p.queries;
    var kv = 0u;
    if !is_query {
        kv = kv_head(member);
        if kv >= p.kv_heads {
            return; // an entry that names nobody
        }
    }
    let head = head_at(token, member);
    let share = turned(found(head, member, i), place.x, i);
    if is_query {
        let to = share_at(head, i);
        x[to.x] = share[0];
        x[to.y] = share[1];
        return;
    }
    let at_key = cache_at(token, place.y, kv);
    append(at_key, i, share);
    append(at_key + p.kv_heads, i, found(head_at(token, member + p.keys), member + p.keys, i));
}

// The `i`-th share of a head of x, the `member`-th of its row, with its biases.
fn found(head: u32, member: u32, i: u32) -> Share {
    let source = share_at(head, i);
    if BIASED == 0u {
        return Share(x[source.x], x[source.y]);
    }
    let bias = share_at(stacked(member), i);
    return Share(x[source.x] + of_heads[bias.x], x[source.y] + of_heads[bias.y]);
}
