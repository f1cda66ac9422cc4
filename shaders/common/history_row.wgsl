// The row of a history that a position falls into. Kinds: 0 one row for all, 1 a row for each, 2 ranges that double (0, 1,
// 2 to 3, 4 to 7 and so on, the last of `rows` without end).
fn history_row(position: u32, kind: u32, rows: u32) -> u32 {
    if kind == 0u {
        return 0u;
    }
    return select(position, min(32u - countLeadingZeros(position), rows - 1u), kind == 2u);
}
