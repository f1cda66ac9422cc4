"""LLM-Pruner's importance on a real model by PyTorch, held against `secateur tune llm-pruner --importance`.

Run by hand; no test and no build calls it. It needs `pip install torch transformers gguf accelerate scipy`.

    secateur tune llm-pruner --data TEXT.jsonl --samples 10 --seq-len 64 --ratio 0.2 --taylor param_mix --out m.safetensors --importance ours.json
    python tests/tune/rank.py MODEL.gguf TEXT.jsonl ours.json --samples 10 --seq-len 64 --taylor param_mix

It tells the loss of both sides, the smallest and the mean rank correlation (Spearman's) over all layers' halves, and how many of the best 60 % of
units are the same. The text is joined and cut as `secateur` does it.
"""

import argparse
import json
from pathlib import Path

import torch
from scipy.stats import spearmanr
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from make import taylor


def load(path):
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # The rule of SmolLM2's own tokenizer.json, which a GGUF file only names (see tests/tasks/lm_eval.py).
    rule = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.backend_tokenizer.pre_tokenizer = rule
    return model.eval(), tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seq-len", type=int, default=64)
    parser.add_argument("--taylor", default="param_first")
    args = parser.parse_args()

    model, tokenizer = load(args.model)
    text = "\n\n".join(json.loads(line)["text"] for line in args.text.open() if line.strip())
    # No more of the text than could be needed: a token is seldom longer than 20 characters.
    ids = tokenizer(text[: 20 * args.samples * args.seq_len], add_special_tokens=False)["input_ids"]
    samples = torch.tensor(ids[: args.samples * args.seq_len]).view(args.samples, args.seq_len)
    mean, squares, losses = {}, {}, []
    for sample in samples:
        model.zero_grad()
        loss = model(sample[None], labels=sample[None], use_cache=False).loss
        loss.backward()
        losses.append(loss.item())
        for name, weight in model.model.layers.named_parameters():
            mean[name] = mean.get(name, 0) + weight.grad / args.samples
            squares[name] = squares.get(name, 0) + weight.grad**2 / args.samples

    ours = json.loads(args.ours.read_text())
    config, weights = model.config, dict(model.model.layers.named_parameters())
    head_dim = config.hidden_size // config.num_attention_heads
    correlations, same, units = [], 0, 0
    for layer in (layer for layer, (heads, _) in enumerate(ours["layers"]) if heads):
        def of(module, axis):
            name = f"{layer}.{module}.weight"
            return taylor(args.taylor, weights[name].detach(), mean[name], squares[name], axis).double()

        heads = (of("self_attn.q_proj", 1) + of("self_attn.o_proj", 0)).view(-1, head_dim).sum(1)
        channels = of("mlp.gate_proj", 1) + of("mlp.up_proj", 1) + of("mlp.down_proj", 0)
        for theirs, found in zip((heads, channels), ours["layers"][layer]):
            correlations.append(spearmanr(theirs.numpy(), found).statistic)
            kept = len(found) * 6 // 10
            best = lambda scores: {index for index, _ in sorted(enumerate(scores), key=lambda unit: -unit[1])[:kept]}
            same, units = same + len(best(theirs.tolist()) & best(found)), units + kept
    print(f"loss {ours['loss']:.6f}, PyTorch {sum(losses) / len(losses):.6f}")
    print(f"rank correlation: least {min(correlations):.6f}, mean {sum(correlations) / len(correlations):.6f}; same of the best 60 %: {same} of {units}")


if __name__ == "__main__":
    main()
