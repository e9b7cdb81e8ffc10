#!/usr/bin/env python3
"""llm-compressor on a model, with one of its presets and one of its ways to round.

usage: peer_preset.py MODEL OUT CHATS.jsonl PRESET nearest|awq|gptq|awq+gptq|autoround [SAMPLES [LENGTH]]

All Linears but the head, routers and layer 0; calibration on 64 chats of at most 256 tokens, every expert on all
tokens. CHATS holds `messages`, or token ids as `input_ids`. awq+gptq is AWQ's scales and GPTQ's codes in one recipe;
autoround tunes with 200 iterations. AWQ's mappings of GLM-4 MoE are written out here: those that llm-compressor infers
stop at dense first layers, and leave shared experts out. Other models get the inferred ones. The number of threads is
OMP_NUM_THREADS, or 2. Needs llm-compressor 0.14, and auto-round for autoround.

    peer_preset.py models/glm4-moe-16m out chats.jsonl W4A16 awq+gptq
"""
import json
import os
import sys

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from llmcompressor.utils import load_context
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
ITERATIONS = 200


def mappings(config):
    """What AWQ scales in every layer of GLM-4 MoE that has experts; nothing for other models."""
    from llmcompressor.modifiers.transform.awq.mappings import AWQMapping

    if config.model_type != "glm4_moe":
        return None
    layers = "|".join(map(str, range(max(1, config.first_k_dense_replace), config.num_hidden_layers)))
    at = rf"re:.*layers\.({layers})\."
    return [
        AWQMapping(at + "input_layernorm$", [at + f"self_attn.{name}_proj$" for name in "qkv"]),
        AWQMapping(at + "self_attn.v_proj$", [at + "self_attn.o_proj$"]),
        AWQMapping(at + "post_attention_layernorm$", [at + "mlp.gate$"] + [
            at + f"mlp.{block}.{name}_proj$" for block in ("experts.*", "shared_experts") for name in ("gate", "up")]),
        AWQMapping(at + "mlp.*up_proj$", [at + "mlp.*down_proj$"]),
    ]


def recipe_of(modifier, preset, config):
    what = dict(targets="Linear", scheme=preset, ignore=["lm_head", r"re:.*layers\.0\..*", r"re:.*mlp\.gate$"])
    if modifier == "autoround":
        from llmcompressor.modifiers.autoround import AutoRoundModifier

        return [AutoRoundModifier(iters=ITERATIONS, enable_torch_compile=False, **what)]
    first = []
    if modifier.startswith("awq"):
        from llmcompressor.modifiers.transform.awq import AWQModifier

        first = [AWQModifier(mappings=mappings(config), offload_device=None)]
    return first + [(GPTQModifier if modifier.endswith("gptq") else QuantizationModifier)(**what)]


def rows_of(path, tokenizer, samples, length):
    rows = []
    for line in open(path):
        if len(rows) == samples:
            break
        row = json.loads(line)
        if "input_ids" in row:
            rows.append(row["input_ids"][:length])
            continue
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        rows.append(tokenizer(text, add_special_tokens=False, truncation=True, max_length=length).input_ids)
    return rows


def main():
    model_folder, out, chats, preset, modifier = sys.argv[1:6]
    samples, length = [int(text) for text in sys.argv[6:]] + [64, 256][len(sys.argv) - 6:]
    if modifier not in ("nearest", "awq", "gptq", "awq+gptq", "autoround"):
        sys.exit(__doc__)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    rows = rows_of(chats, tokenizer, samples, length)
    data = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]})
    if not torch.cuda.is_available():
        # AWQ's cache pins memory, which torch refuses where there is no GPU.
        IntermediatesCache._pin_intermediate = classmethod(lambda cls, value: None)
    with load_context():
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype="auto")
    oneshot(model=model, processor=tokenizer, dataset=data, recipe=recipe_of(modifier, preset, model.config),
            max_seq_length=length, num_calibration_samples=samples, shuffle_calibration_samples=False,
            moe_calibrate_all_experts=True)
    model.save_pretrained(out, save_compressed=True)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()
