// Where a list of kept inputs enters a group of channels. The shader declares `p` and `place_of`.
const DROPPED = 0x80000000u; // see top_k

// How many kept inputs come before `channel`.
fn kept_before(channel: u32) -> u32 {
    let entry = divided(min(channel, p.channels - 1u), p.unit);
    let place = place_of(entry / 4u)[entry % 4u];
    let is_kept = place < DROPPED;
    let entries = select(entry - (place - DROPPED), place, is_kept);
    let before = entries * p.unit + select(0u, channel - entry * p.unit, is_kept);
    return select(before, p.inputs, channel >= p.channels);
}
