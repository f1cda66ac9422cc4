#!/usr/bin/env python3
"""Writes the made-up parquet files of tests/fixtures/tasks (`pip install pyarrow`; the committed ones are of 26.0)."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).resolve().parents[1] / "fixtures" / "tasks"

# ARC's shape: a struct of two lists; a list may be longer than the others.
choices = pa.struct([("text", pa.list_(pa.string())), ("label", pa.list_(pa.string()))])
arc = pa.table({
    "id": pa.array(["a1", "a2", "a3"]),
    "question": pa.array(["What is wet?", "Wo wächst Öl?", "Which number?"]),
    "choices": pa.array([
        {"text": ["fire", "rain", "dust"], "label": ["A", "B", "C"]},
        {"text": ["im Baum", "im Meer"], "label": ["1", "2"]},
        {"text": ["one", "two", "three", "four"], "label": ["A", "B", "C", "D"]},
    ], type=choices),
    "answerKey": pa.array(["B", "1", "D"]),
})
pq.write_table(arc, OUT / "arc.snappy.parquet", compression="snappy", row_group_size=2)

# BoolQ's: a boolean; PIQA's: a class label, which is a 64-bit integer; with zstd and gzip.
boolq = pa.table({
    "question": ["is rain wet", "is fire cold"],
    "answer": [True, False],
    "passage": ["Rain is water.", "Fire is hot."],
})
pq.write_table(boolq, OUT / "boolq.zstd.parquet", compression="zstd")
piqa = pa.table({
    "goal": ["Dry a coat."],
    "sol1": ["Hang it in the rain."],
    "sol2": ["Hang it in the sun."],
    "label": pa.array([1], type=pa.int64()),
})
pq.write_table(piqa, OUT / "piqa.gzip.parquet", compression="gzip")

# A text: an empty row, several row groups, a dictionary of repeated values.
text = pa.table({"text": ["one", "", "two\nlines", "one", "one"]})
pq.write_table(text, OUT / "text.parquet", compression="none", row_group_size=2)
