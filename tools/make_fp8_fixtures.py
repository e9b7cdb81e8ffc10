#!/usr/bin/env python3
"""FP8 weights with scales of every kind, and the numbers that their makers' libraries decode.

    python tools/make_fp8_fixtures.py fixtures/fp8

`decoded.safetensors`: of each case `<case>.weight` F8_E4M3, its scales, and `<case>.expected` F32; `codes.expected` is
what PyTorch makes of the codes 0 to 255. `<case>.json` is the quantization_config that goes with it.
Scales are widened to float32 first: a library that computes in the scales' own type rounds once more.
"""

import json
import sys
import zlib
from pathlib import Path

import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

BLOCK = [32, 64]
WHOLE, PARTIAL = (64, 192), (53, 150)


def codes(shape, generator):
    """Any FP8 number, denormals and both zeros included; no NaN."""
    drawn = torch.randint(0, 254, shape, generator=generator, dtype=torch.uint8)
    return torch.where(drawn >= 127, drawn + 1, drawn).view(torch.float8_e4m3fn)


def scales(shape, generator, dtype):
    return (2 ** torch.empty(shape).uniform_(-14, -6, generator=generator)).to(dtype)


def fine_grained():
    return {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": BLOCK}


def compressed(args):
    group = {"input_activations": None, "output_activations": None, "targets": ["Linear"],
             "weights": args.model_dump(mode="json")}
    return {"config_groups": {"group_0": group}, "format": "float-quantized", "ignore": ["lm_head"],
            "quant_method": "compressed-tensors", "quantization_status": "compressed"}


def arguments(strategy):
    return QuantizationArgs(num_bits=8, type="float", strategy=strategy, symmetric=True, dynamic=False,
                            block_structure=BLOCK if strategy == "block" else None)


def grid(shape):
    return tuple(-(-size // block) for size, block in zip(shape, BLOCK))


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    tensors = {"codes.expected": every.to(torch.float32)}
    cases = [
        ("blocks", None, WHOLE, grid(WHOLE), torch.float32),
        ("blocks-bf16", None, WHOLE, grid(WHOLE), torch.bfloat16),
        ("compressed-blocks", "block", PARTIAL, grid(PARTIAL), torch.float32),
        ("channel", "channel", PARTIAL, (PARTIAL[0], 1), torch.float32),
        ("channel-bf16", "channel", PARTIAL, (PARTIAL[0], 1), torch.bfloat16),
        ("tensor", "tensor", PARTIAL, (1,), torch.float32),
        ("tensor-f16", "tensor", PARTIAL, (1,), torch.float16),
        ("tensor-scalar", "tensor", PARTIAL, (), torch.float32),
    ]
    for name, strategy, shape, scale_shape, dtype in cases:
        generator = torch.Generator().manual_seed(zlib.crc32(f"fp8/{name}".encode()))
        weight, scale = codes(shape, generator), scales(scale_shape, generator, dtype)
        if strategy is None:
            config = fine_grained()
            expected = Fp8Dequantize(None)._dequantize_one(weight, scale.float(), torch.float32)
        else:
            args = arguments(strategy)
            config = compressed(args)
            expected = dequantize(weight, scale.float(), None, args, torch.float32)
        assert expected.dtype == torch.float32 and expected.shape == weight.shape
        part = "weight_scale_inv" if strategy is None else "weight_scale"
        tensors |= {f"{name}.weight": weight, f"{name}.{part}": scale, f"{name}.expected": expected.contiguous()}
        (folder / f"{name}.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, folder / "decoded.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
