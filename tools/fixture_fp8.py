"""FP8 checkpoints as they are published: DeepSeek's blocks, compressed-tensors' channels and tensors. A module, not a command.

Routers, norms, embeddings, lm_head and biases stay as they are. Blocks at the end of a row or column are cut off, as in
DeepSeek's kv_a_proj_with_mqa; transformers 5.17 takes blocks for equal parts there and is no judge of them.
"""
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize

BLOCK = 128
LARGEST = torch.finfo(torch.float8_e4m3fn).max


def configuration(kind, state):
    """quantization_config of one of the kinds `blocks`, `channel` and `tensor` for a checkpoint's tensors."""
    if kind == "blocks":
        return {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}
    common = {"actorder": None, "block_structure": None, "group_size": None, "num_bits": 8, "observer_kwargs": {},
              "symmetric": True, "type": "float"}
    group = {"input_activations": common | {"dynamic": True, "observer": None, "strategy": "token"},
             "output_activations": None, "targets": ["Linear"],
             "weights": common | {"dynamic": False, "observer": "minmax", "strategy": kind}}
    return {"config_groups": {"group_0": group}, "format": "float-quantized", "ignore": left_out(state), "kv_cache_scheme": None,
            "quant_method": "compressed-tensors", "quantization_status": "compressed"}


def left_out(state):
    """The Linears that are not quantized."""
    return sorted(name.removesuffix(".weight") for name in state if name.endswith(("lm_head.weight", "mlp.gate.weight")))


def is_quantized(name, tensor):
    """A Linear of a layer, and no router."""
    return ".layers." in name and tensor.dim() == 2 and not name.endswith("mlp.gate.weight")


def spread_out(scale, weight):
    """A scale for every weight: from one for the tensor [1], each row [out, 1] or each block [out/128, in/128]."""
    if scale.dim() == 1 or scale.shape[1] == 1 and scale.shape[0] == weight.shape[0]:
        return scale.float().expand_as(weight)
    wide = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return wide[: weight.shape[0], : weight.shape[1]]


def scale_of(weight, kind):
    """The largest weight of a block, row or tensor becomes the largest code."""
    if kind == "tensor":
        return (weight.abs().max() / LARGEST).reshape(1)
    if kind == "channel":
        return (weight.abs().amax(1, keepdim=True) / LARGEST).bfloat16()
    largest = [[block.abs().max() for block in rows.split(BLOCK, 1)] for rows in weight.split(BLOCK)]
    return torch.stack([torch.stack(row) for row in largest]) / LARGEST


def quantized(state, kind):
    """A checkpoint's tensors as they are on disk."""
    on_disk = {}
    for name, tensor in state.items():
        on_disk[name] = tensor
        if is_quantized(name, tensor):
            scale = on_disk[name + ("_scale_inv" if kind == "blocks" else "_scale")] = scale_of(tensor.float(), kind)
            codes = tensor.float() / spread_out(scale, tensor)
            on_disk[name] = codes.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return on_disk


def dequantized(on_disk):
    """The same checkpoint with plain weights, by compressed-tensors: each code times its scale, in float32."""
    plain = {}
    for name, tensor in on_disk.items():
        scale = on_disk.get(name + "_scale_inv", on_disk.get(name + "_scale"))
        if scale is not None:
            args = arguments(scale, in_blocks=name + "_scale_inv" in on_disk)
            plain[name] = dequantize(tensor, scale.float(), args=args, dtype=torch.float32).contiguous()
        elif not name.endswith(("weight_scale", "weight_scale_inv")):
            plain[name] = tensor
    return plain


def arguments(scale, in_blocks):
    strategy = "block" if in_blocks else "tensor" if scale.dim() == 1 else "channel"
    structure = [BLOCK, BLOCK] if in_blocks else None
    return QuantizationArgs(num_bits=8, type="float", symmetric=True, strategy=strategy, block_structure=structure)
