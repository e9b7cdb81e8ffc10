#!/usr/bin/env python3
"""fixtures/schemes: presets, configurations with several groups and which group each Linear is in, by compressed-tensors.

usage: python tools/make_scheme_fixtures.py fixtures/schemes
       needs torch 2.13.0+cpu, compressed-tensors 0.19.0 and transformers 5.17.0
"""
import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors.format import infer_module_format
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
from compressed_tensors.quantization.lifecycle.apply import apply_quantization_config
from compressed_tensors.quantization.quant_scheme import PRESET_SCHEMES, preset_name_to_scheme

LAYERS, EXPERTS = 2, 3


def model():
    """The Linears of a decoder whose first layer is dense."""
    root = torch.nn.Module()
    root.model = torch.nn.Module()
    root.model.layers = torch.nn.ModuleList()
    linear = lambda: torch.nn.Linear(128, 128, bias=False)

    def mlp():
        unit = torch.nn.Module()
        unit.gate_proj, unit.up_proj, unit.down_proj = linear(), linear(), linear()
        return unit

    for index in range(LAYERS):
        layer = torch.nn.Module()
        layer.self_attn = torch.nn.Module()
        for name in "qkvo":
            setattr(layer.self_attn, f"{name}_proj", linear())
        if index == 0:
            layer.mlp = mlp()
        else:
            layer.mlp = torch.nn.Module()
            layer.mlp.experts = torch.nn.ModuleList(mlp() for _ in range(EXPERTS))
            layer.mlp.shared_experts = mlp()
        root.model.layers.append(layer)
    root.lm_head = linear()
    return root


def group(bits, size, targets, **more):
    return {"targets": targets, "weights": {"num_bits": bits, "type": "int", "strategy": "group",
                                            "group_size": size, "observer": "memoryless_minmax", **more}}


# By name: config_groups and ignore.
CASES = {
    "parts": ([group(4, 32, ["Linear"], symmetric=False),
               group(8, 128, [r"re:model\.layers\.[0-9]+\.self_attn\.[qkvo]_proj$"])], ["lm_head"]),
    "name-before-expression": ([group(4, 64, ["re:.*o_proj$"]),
                                group(8, 32, ["model.layers.1.self_attn.o_proj"]), group(4, 32, ["Linear"])],
                               ["lm_head"]),
    "expression-before-class": ([group(4, 32, ["Linear"]), group(8, 32, ["re:.*shared_experts.*"])], ["lm_head"]),
    "alphabet": ([group(4, 32, ["re:.*self_attn.*"]), group(8, 32, ["re:.*o_proj"])], ["lm_head"]),
    "no-class": ([group(4, 32, ["re:.*mlp.*", "model.layers.0.self_attn.q_proj"])], []),
    "ignored": ([group(4, 32, ["Linear"]), group(8, 32, ["re:.*experts.*"])], ["lm_head", r"re:.*layers\.0\..*"]),
}


def resolved(config):
    """The group of every Linear that is quantized, as compressed-tensors applies the configuration."""
    root = model()
    apply_quantization_config(root, config, show_progress=False)
    names = {json.dumps(scheme.model_dump(), default=str): name for name, scheme in config.config_groups.items()}
    return {name: names[json.dumps(module.quantization_scheme.model_dump(), default=str)]
            for name, module in root.named_modules() if hasattr(module, "quantization_scheme")}


def case(groups, ignore):
    config = QuantizationConfig(
        config_groups={f"group_{index}": QuantizationScheme(**value) for index, value in enumerate(groups)},
        ignore=ignore, quantization_status="compressed", format="pack-quantized")
    for scheme in config.config_groups.values():
        scheme.format = infer_module_format(torch.nn.Linear, scheme)
    groups = resolved(config)
    written = json.loads(json.dumps(config.model_dump(), default=str, sort_keys=True))
    return {"config": written, "groups": groups}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    presets = {}
    for name in PRESET_SCHEMES:
        scheme = preset_name_to_scheme(name, ["Linear"])
        presets[name] = json.loads(json.dumps(scheme.model_dump(), default=str, sort_keys=True))
        presets[name]["format"] = infer_module_format(torch.nn.Linear, scheme).value
    linears = [name for name, module in model().named_modules() if isinstance(module, torch.nn.Linear)]
    cases = {name: case(*value) for name, value in CASES.items()}
    for name, value in [("presets", presets), ("groups", {"linears": linears, "cases": cases})]:
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
