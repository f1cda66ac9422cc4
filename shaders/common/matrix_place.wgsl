    // The subgroup's first token and column in the tile.
    let quarter = subgroup % 4u;
    let m = quarter / 2u * 32u;
    let n = quarter % 2u * 32u;
