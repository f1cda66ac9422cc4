#!/usr/bin/env python3
"""The commonsense tasks as EleutherAI's lm-evaluation-harness itself renders and scores them.

Run by hand; no test and no build calls it. It needs `pip install lm_eval transformers torch gguf accelerate` (the
committed golden was made with lm_eval 0.4.13, transformers 5.23.0) and the rows of ../shared/data/tasks.

    lm_eval.py golden MODEL.gguf > tests/fixtures/tasks/golden.txt
        A line a row: the task, a hash of the request strings, a hash of the token ids, the number of tokens; without
        examples and behind two. tests/tasks.rs makes the same lines of what this project renders. Hashes alone are
        kept, so that no text of a data set is part of the project.

    lm_eval.py run MODEL.gguf OUT.jsonl [--limit N] [--task NAME ...]
        Log likelihoods of every choice, a JSON line a row, by transformers in 32 bits on the CPU.

    lm_eval.py compare OUT.jsonl PREDICTIONS.jsonl
        Sets them beside what `secateur eval tasks --predictions PREDICTIONS.jsonl` wrote, as a table.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

# This file has the package's name: without its folder, imports find the package.
sys.path.pop(0)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "tasks"
# The file of each task, below DATA, and the definition of lm-eval.
TASKS = {
    "boolq": ("boolq_val_500.jsonl", "super_glue/boolq/default.yaml"),
    "piqa": ("piqa_val_500.jsonl", "piqa/piqa.yaml"),
    "hellaswag": ("hellaswag_val_sample1000_500.jsonl", "hellaswag/hellaswag.yaml"),
    "winogrande": ("winogrande_xl_dev_500.jsonl", "winogrande/default.yaml"),
    "arc-easy": ("arc_easy_test_500.jsonl", "arc/arc_easy.yaml"),
}
SHOTS = 2
# Rows that are rendered behind examples.
SHOT_ROWS = 50


def task_of(name, shots=0):
    """lm-eval's own task over the local rows; examples, where wished, are the first of the same rows."""
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    file, definition = TASKS[name]
    config = dict(load_yaml(Path(lm_eval.tasks.__file__).parent / definition))
    for key in ("tag", "training_split", "test_split", "process_docs"):
        config.pop(key, None)
    config |= {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"validation": str(DATA / file)}},
        "validation_split": "validation",
        "num_fewshot": shots,
        "fewshot_split": "validation",
        "fewshot_config": {"sampler": "first_n"},
    }
    if name == "boolq":
        # The rows are google/boolq's, the definition is of super_glue's.
        config["process_docs"] = lambda rows: rows.map(lambda row: {"label": int(row["answer"])})
    return ConfigurableTask(config=config)


def model_of(path, batch):
    from lm_eval.models.huggingface import HFLM

    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    path = Path(path).expanduser()
    model = HFLM(pretrained=str(path.parent), gguf_file=path.name, dtype="float32", device="cpu", batch_size=batch)
    # transformers reads a GGUF file's vocabulary but not its rule for splitting text ("smollm" here), and falls back to
    # GPT-2's. This is the rule of SmolLM2's own tokenizer.json; without it, blanks before digits are cut differently.
    rule = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
    model.tokenizer.backend_tokenizer.pre_tokenizer = rule
    return model


def instances(task, limit):
    """lm-eval's requests, by row."""
    task.build_all_requests(limit=limit, rank=0, world_size=1)
    rows = {}
    for instance in task.instances:
        rows.setdefault(instance.doc_id, []).append(instance)
    return [sorted(row, key=lambda one: one.idx) for _, row in sorted(rows.items())]


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def golden(args):
    model = model_of(args.model, 1)
    for shots in (0, SHOTS):
        for name in TASKS:
            for row in instances(task_of(name, shots), SHOT_ROWS if shots else None):
                strings, ids, count = "", "", 0
                for one in row:
                    context, ending = one.args
                    context_ids, ending_ids = model._encode_pair(context, ending)
                    strings += f"{context}\0{ending}\0"
                    ids += " ".join(map(str, context_ids)) + "|" + " ".join(map(str, ending_ids)) + "\n"
                    count += len(context_ids) + len(ending_ids)
                print(name, shots, digest(strings), digest(ids), count)


def run(args):
    model = model_of(args.model, args.batch)
    with open(args.out, "w") as out:
        for name in args.task or TASKS:
            task = task_of(name)
            rows = instances(task, args.limit)
            started = time.time()
            answers = iter(model.loglikelihood([one for row in rows for one in row]))
            for at, row in enumerate(rows):
                results = [next(answers) for _ in row]
                metrics = task.process_results(row[0].doc, results)
                line = {"task": name, "row": at, "log_likelihoods": [ll for ll, _ in results], **metrics}
                print(json.dumps(line), file=out, flush=True)
            print(f"{name}: {len(rows)} rows in {time.time() - started:.0f} s", flush=True)


def compare(args):
    def lines(path):
        return {(line["task"], line["row"]): line for line in map(json.loads, open(path))}

    theirs, ours = lines(args.theirs), lines(args.ours)
    print("| task | rows | acc lm-eval | acc secateur | acc_norm lm-eval | acc_norm secateur | same answer (acc) "
          "| same answer (acc_norm) | largest difference, nats | mean |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in TASKS:
        both = [(theirs[key], ours[key]) for key in sorted(ours) if key[0] == name and key in theirs]
        if not both:
            continue
        mean = lambda values: sum(values) / len(values)
        first = lambda values: max(range(len(values)), key=lambda i: (values[i], -i))
        gaps = [abs(a - b) for one, two in both
                for a, b in zip(one["log_likelihoods"], two["log_likelihoods"], strict=True)]
        same = mean([first(one["log_likelihoods"]) == two["prediction"] for one, two in both])
        norm = "acc_norm" in both[0][0]
        right = lambda line, field: float(line[field] == line["gold"])
        cells = [name, len(both), f"{mean([one['acc'] for one, _ in both]):.4f}",
                 f"{mean([right(two, 'prediction') for _, two in both]):.4f}"]
        if norm:
            # Whether normed predictions agree is seen in whether both are right on the same rows.
            same_norm = mean([one["acc_norm"] == right(two, "prediction_norm") for one, two in both])
            cells += [f"{mean([one['acc_norm'] for one, _ in both]):.4f}",
                      f"{mean([right(two, 'prediction_norm') for _, two in both]):.4f}",
                      f"{same:.1%}", f"{same_norm:.1%}"]
        else:
            cells += ["-", "-", f"{same:.1%}", "-"]
        print("| " + " | ".join(map(str, cells + [f"{max(gaps):.1e}", f"{mean(gaps):.1e}"])) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("golden")
    command.add_argument("model")
    command.set_defaults(run=golden)
    command = commands.add_parser("run")
    command.add_argument("model")
    command.add_argument("out")
    command.add_argument("--limit", type=int)
    command.add_argument("--batch", type=int, default=8)
    command.add_argument("--task", action="append", choices=TASKS)
    command.set_defaults(run=run)
    command = commands.add_parser("compare")
    command.add_argument("theirs")
    command.add_argument("ours")
    command.set_defaults(run=compare)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
