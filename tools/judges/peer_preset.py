#!/usr/bin/env python3
"""llm-compressor on a model, with one of its presets: rounded to nearest, or by GPTQ.

usage: peer_preset.py MODEL OUT CHATS.jsonl PRESET nearest|gptq [SAMPLES [LENGTH]]

All Linears but the head, routers and layer 0; calibration on 64 chats of at most 256 tokens, every expert on all tokens.
Needs llm-compressor 0.14.
"""
import json
import sys

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.utils import load_context
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(2)
MODIFIERS = {"nearest": QuantizationModifier, "gptq": GPTQModifier}


def main():
    model_folder, out, chats, preset, modifier = sys.argv[1:6]
    samples, length = [int(text) for text in sys.argv[6:]] + [64, 256][len(sys.argv) - 6:]
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    rows = []
    for line in open(chats):
        if len(rows) == samples:
            break
        text = tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False)
        rows.append(tokenizer(text, add_special_tokens=False, truncation=True, max_length=length).input_ids)
    data = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]})
    with load_context():
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype="auto")
    recipe = [MODIFIERS[modifier](targets="Linear", scheme=preset,
                                  ignore=["lm_head", r"re:.*layers\.0\..*", r"re:.*mlp\.gate$"])]
    oneshot(model=model, processor=tokenizer, dataset=data, recipe=recipe, max_seq_length=length,
            num_calibration_samples=samples, shuffle_calibration_samples=False, moe_calibrate_all_experts=True)
    model.save_pretrained(out, save_compressed=True)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()
