"""Judges tensor names by vLLM's loaders, read from their sources: nothing is imported or run. A module, not a command.

`judge(FOLDER, ...)` takes vllm/model_executor of a source tree or an unpacked wheel. From the syntax of the architecture's
file and of the model files that it imports it takes

    streamed    parameters of one expert at a time, where gate and up are one Linear (gpt-oss)
    modules     every attribute that a class assigns: each part of a tensor's name must be one, after renaming
    renamings   orig_to_new_prefix, orig_to_new_substr, orig_to_new_stacked, the rows of stacked_params_mapping and its
                like, names that load_weights itself rewrites (if "x" in name: name = name.replace("y", "z")), and what
                the architecture's own file replaces by hand; what orig_to_new_prefix passes over is not looked at
    fused       the lists of packed_modules_mapping: all parts of a fused Linear must be there, and must all be quantized
                alike; a list that is set under a condition (q_lora_rank, dense layers) may also be absent as a whole, and
                where load_weights passes over what a layer does not have, one part alone is a Linear by itself
    experts     the names in ckpt_names or ckpt_*_proj_name
    parameters  what compressed-tensors' scheme for 4- and 8-bit weights registers, and its method for experts as w13_ and w2_

and that prediction layers, where the checkpoint has them, are skipped. Where they are quantized, their names are held against
the class that vLLM loads them by (PREDICTORS), in which what is a plain nn.Linear must have a weight as it is. Of a class that vLLM serves by way of transformers'
code, as it does where its registry does not know the class, every module must be one that transformers writes. What it cannot tell: shapes, and whether a module
that some class has is the one that stands at this place.
"""
import ast
import re
from functools import cache
from pathlib import Path

import transformers

import more_families as more

SCHEMES = "layers/quantization/compressed_tensors/"
PARAMETERS = {"weight", "bias", "e_score_correction_bias", "expert_bias"}
MIXERS = "vllm.model_executor.layers.mamba."
PREDICTORS = {"Glm4MoeForCausalLM": "Glm4MoeMTPModel", "Glm4MoeLiteForCausalLM": "Glm4MoeLiteMTPModel",
              "DeepseekV3ForCausalLM": "DeepSeekMTPModel", "DeepseekV32ForCausalLM": "DeepseekV32MTPModel", "GlmMoeDsaForCausalLM": "DeepseekV32MTPModel",
              "Qwen3NextForCausalLM": "Qwen3NextMTP"}


class Loader:
    """What the sources say about one architecture."""

    def __init__(self, folder, architecture, text=None):
        self.trees = model_sources(folder, architecture) + (model_sources(folder, text) if text else [])
        nodes = [node for tree in self.trees for node in ast.walk(tree)]
        self.modules = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
        self.beginnings = dict(pair for node in nodes for pair in keyword_pairs(node, "orig_to_new_prefix"))
        # A tensor of its own among them: `sinks`, `layer_scalar`.
        self.vectors = self.modules | {literal(node.args[0]) for node in nodes
                                       if called(node) in ("register_buffer", "register_parameter") and node.args}
        self.renamed = dict(pair for node in nodes for pair in keyword_strings(node, "orig_to_new_substr"))
        self.renamed |= replaced(ast.walk(self.trees[0]))
        self.ends = dict(pair for node in nodes for pair in keyword_strings(node, "orig_to_new_suffix"))
        self.stacked = stacked(nodes)
        # A file's own mapper says in which modules parts are fused; what it imports may say it of others.
        own = {part: whole for node in ast.walk(self.trees[0])
               for part, (whole, _) in keyword_strings(node, "orig_to_new_stacked")}
        known = {whole.rpartition(".")[2] for whole in own.values()}
        self.stacked = {part: whole for part, whole in self.stacked.items()
                        if part in own or whole.rpartition(".")[2] not in known}
        self.streamed = streamed(nodes)
        # An own list replaces that of an imported class.
        own = [fused(ast.walk(tree)) for tree in self.trees]
        self.required, self.optional = next((lists for lists in own if any(lists)), ({}, {}))
        for whole, parts in self.required.items():
            for part in parts:
                # A mapper may say in which modules: `.mlp.gate_proj` is fused, and `.self_attn.gate_proj` is not.
                if not any(key != "." + part and key.endswith("." + part) for key in self.stacked):
                    self.stacked["." + part] = "." + whole
        self.rewritten = rewritten(nodes)
        self.passes_over = any(map(passes_over, nodes))
        self.experts = expert_names(nodes) or {"gate_proj": "w13_", "up_proj": "w13_", "down_proj": "w2_"}
        self.skips_prediction_layers = any(
            name in ("skip_spec_layers", "get_spec_layer_idx_from_weight_name") for name in map(called, nodes))
        self.plain = {target.attr for target, value in assigned(nodes)
                      if isinstance(target, ast.Attribute) and isinstance(value, ast.Call) and ast.unparse(value.func) == "nn.Linear"}
        self.linear = registered(folder / SCHEMES / "schemes/compressed_tensors_wNa16.py")
        self.mixture = registered(folder / SCHEMES / "compressed_tensors_moe/compressed_tensors_moe_wna16.py")


    def takes(self, whole, module):
        """Whether a module is a part of the fused `whole`."""
        parts = [part for part, fused in self.stacked.items() if fused.endswith("." + whole)]
        return not parts or any(module.endswith(part) for part in parts)


@cache
def parsed(path):
    return ast.parse(path.read_text())


def registered_file(folder, architecture):
    """The file or package that the registry names; of classes that vLLM had once or never, transformers' code."""
    registry = parsed(folder / "models/registry.py")
    entries = {key.value: value for node in ast.walk(registry) if isinstance(node, ast.Dict)
               for key, value in zip(node.keys, node.values) if isinstance(key, ast.Constant)}
    if architecture not in entries:
        if not hasattr(transformers, architecture):
            raise ValueError(f"neither vLLM's registry nor transformers has {architecture}")
        return "transformers"
    entry = entries[architecture]
    return "transformers" if isinstance(entry, ast.Constant) else entry.elts[0].value


def model_sources(folder, architecture):
    """The file that the registry names, the model files it imports, and the mixers along the sequence that these import."""
    waiting, found = [registered_file(folder, architecture)], {}
    if waiting[0].startswith("vllm."):  # a folder of its own, beside model_executor
        package = folder.parent.joinpath(*waiting.pop().split(".")[1:])
        found = {str(path): parsed(path) for path in sorted(package.rglob("*.py"))}
        for tree in list(found.values()):
            found |= mixers(folder, tree)
        waiting = ["deepseek_v2"]
    while waiting:
        name = waiting.pop()
        path = folder / "models" / f"{name}.py"
        if name in found or not path.exists() or name in ("utils", "interfaces", "interfaces_base", "adapters"):
            continue
        found[name] = parsed(path)
        found |= mixers(folder, found[name])
        for node in ast.walk(found[name]):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and (node.level == 1 or module.startswith("vllm.model_executor.models")):
                waiting.append(module.split(".")[-1])
    return list(found.values())


def mixers(folder, tree):
    """The mixers along the sequence that a file imports."""
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(MIXERS)}
    return {module: parsed(folder.joinpath(*module.split(".")[2:]).with_suffix(".py")) for module in sorted(modules)}


def called(node):
    return getattr(node.func, "id", getattr(node.func, "attr", None)) if isinstance(node, ast.Call) else None


def literal(node):
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def keyword_pairs(node, keyword):
    """The entries of a dictionary that is passed as `keyword` and is all literals; None for what another class loads."""
    return list((literal(node.value) or {}).items()) if isinstance(node, ast.keyword) and node.arg == keyword else []


def keyword_strings(node, keyword):
    return [(part, whole) for part, whole in keyword_pairs(node, keyword) if whole is not None]


def replaced(nodes):
    """What a call of `replace` does to names, where it tells of whole words or ends."""
    found = [tuple(map(literal, node.args)) for node in nodes if called(node) == "replace" and len(node.args) == 2]
    return {old: new for old, new in found if isinstance(old, str) and isinstance(new, str)
            and (old.endswith(".weight") or "." not in old and "_" in old)}


def stacked(nodes):
    """Part of a name -> what takes its place, in both spellings that vLLM has."""
    nodes = list(nodes)
    experts = {id(node.value) for node in nodes if isinstance(node, ast.keyword) and node.arg == "ckpt_names"}
    nodes = [node for node in nodes if id(node) not in experts]
    found = {part: whole for node in nodes for part, (whole, _) in keyword_strings(node, "orig_to_new_stacked")}
    for node in nodes:
        row = literal(node) if isinstance(node, ast.Tuple) else None
        if row and len(row) == 3 and all(isinstance(word, str) for word in row[:2]) and isinstance(row[2], (int, str)):
            found.setdefault("." + row[1].strip("."), "." + row[0].strip("."))
    return found


def rewritten(nodes):
    """(mark, old, new): in names with the mark, the old part becomes the new one."""
    found = []
    for node in nodes:
        test = getattr(node, "test", None)
        if not (isinstance(node, ast.If) and isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.In)):
            continue
        for line in node.body:
            value = getattr(line, "value", None)
            if isinstance(line, ast.Assign) and called(value) == "replace" and len(value.args) == 2:
                words = [literal(test.left), *map(literal, value.args)]
                if all(isinstance(word, str) for word in words):
                    found.append(tuple(words))
    return found


def passes_over(node):
    """Whether a name under a fused Linear is tried, and left as it was where a layer has no such parameter."""
    test = getattr(node, "test", None)
    return (isinstance(node, ast.If) and isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.NotIn)
            and [getattr(side, "id", "") for side in (test.left, test.comparators[0])] == ["name_mapped", "params_dict"]
            and isinstance(node.body[0], ast.Continue))


def assigned(nodes):
    """(target, value) of every assignment, with a type beside its name or without."""
    for node in nodes:
        if isinstance(node, ast.Assign) or isinstance(node, ast.AnnAssign) and node.value:
            yield (node.targets[0] if isinstance(node, ast.Assign) else node.target), node.value


def streamed(nodes):
    """The ends of names behind an expert's number, where a table says to which part of all experts each belongs."""
    tables = [literal(value) for target, value in assigned(nodes) if getattr(target, "id", "").endswith("_SUFFIX_TO_SHARD")]
    return set().union(*tables)


def fused(nodes):
    """Fused name -> its parts: those that always are, and those that are set under a condition."""
    required, optional = {}, {}
    for target, value in assigned(nodes):
        if getattr(target, "id", "") == "packed_modules_mapping":
            required |= literal(value) or {}
        elif isinstance(target, ast.Subscript) and getattr(target.value, "attr", "") == "packed_modules_mapping":
            optional[literal(target.slice)] = literal(value)
    return required, {whole: parts for whole, parts in optional.items() if whole not in required}


def expert_names(nodes):
    """A projection's name in the checkpoint -> what its parameters begin with."""
    for node in nodes:
        if isinstance(node, ast.keyword) and node.arg == "ckpt_names" and literal(node.value):
            gate, down, up = literal(node.value)
            # None where experts have no gate.
            return {name: part for name, part in ((gate, "w13_"), (up, "w13_"), (down, "w2_")) if name}
    # A file may have two tables, one of them for experts in one tensor.
    found = [(node.arg, literal(node.value)) for node in nodes
             if isinstance(node, ast.keyword) and re.fullmatch(r"ckpt_\w+_name", node.arg or "")]
    return {name: "w2_" if "down" in key else "w13_" for key, name in found if isinstance(name, str)}


def registered(path):
    return {literal(node.args[0]) for node in ast.walk(parsed(path)) if called(node) == "register_parameter"}


# --- judgement --------------------------------------------------------------------------------------------------------


def amiss(loader, config, names):
    """What is wrong with these names, one line each; what lies beside a text model is not looked at."""
    names = text_names(loader, config, names)
    config = more.text_of(config)
    inside = {name for name in names if layer_of(name) < config["num_hidden_layers"]}
    lines = [] if loader.skips_prediction_layers or len(inside) == len(names) else ["prediction layers are not skipped"]
    kinds = {}
    for name in inside:
        module, _, kind = name.rpartition(".")
        kinds.setdefault(module, set()).add(kind)
    lines += [line for name in sorted(inside) for line in [finding(loader, kinds, name)] if line]
    return lines + incomplete(loader, kinds, config)


def text_names(loader, config, names):
    """The names of a text model, as the wrapper around it renames them."""
    wrapper = more.WRAPPERS.get(config["architectures"][0])
    if not wrapper:
        passed_over = tuple(begin for begin, end in loader.beginnings.items() if end is None)
        return [renamed_beginning(loader, name) for name in names if not name.startswith(passed_over)]
    found = []
    for name in names:
        if name.startswith((wrapper["model"], wrapper["head"] + ".")):
            found.append(renamed_beginning(loader, name))
    return found


def renamed_beginning(loader, name):
    begin = next((begin for begin in loader.beginnings if name.startswith(begin)), "")
    return (loader.beginnings.get(begin) or "") + name.removeprefix(begin)


def layer_of(name):
    found = re.match(r"(?:.*\.)?model\.layers\.(\d+)\.", name)
    return int(found[1]) if found else -1


def finding(loader, kinds, name):
    """What is wrong with a name as it is and, where the loader may rewrite it, as that; None where one of them is right."""
    rewritten = name
    for mark, part, whole in loader.rewritten:
        if mark in rewritten:
            rewritten = rewritten.replace(part, whole)
    found = wrong(loader, kinds, name)
    return found if not found or rewritten == name or wrong(loader, kinds, rewritten) else None


def wrong(loader, kinds, name):
    for part, whole in loader.renamed.items():
        name = name.replace(part, whole, 1)
    for part, whole in loader.ends.items():
        if name.endswith(part):
            name = name.removesuffix(part) + whole
            break
    module, _, kind = name.rpartition(".")
    if loader.streamed and re.fullmatch(r".*\.experts\.\d+", module):
        return None if kind in loader.streamed else f"{name}: no parameter {kind} of one expert"
    expert = re.fullmatch(r"(.*\.experts)\.\d+\.(\w+)", module)
    if expert:
        if expert[2] not in loader.experts:
            return f"{name}: no projection of experts, which are {sorted(loader.experts)}"
        module, known = expert[1], loader.experts[expert[2]] + kind in loader.mixture or kind == "weight"
    else:
        module, known = placed(loader, kinds, module), kind in PARAMETERS | loader.linear | loader.vectors
    unknown = [part for part in module.split(".") if not part.isdigit() and part not in loader.modules]
    return f"{name}: no module {unknown[0]}" if unknown else None if known else f"{name}: no parameter {kind}"


def placed(loader, kinds, module):
    """The module that takes a Linear's weights; one that is fused under a condition needs all its parts."""
    for part, whole in loader.stacked.items():
        parts = loader.optional.get(whole.rpartition(".")[2], [])
        if (module + ".").endswith(part + ".") and all(f"{module.rpartition('.')[0]}.{other}" in kinds for other in parts):
            return module.removesuffix(part) + whole
    return module


def is_doubled(config, block):
    """Whether vLLM loads the keys' Linear of a layer for values, too: Gemma 4's layers that see all tokens."""
    layer = layer_of(block + ".")
    return bool(config.get("attention_k_eq_v")) and layer >= 0 and config["layer_types"][layer] == "full_attention"


def incomplete(loader, kinds, config):
    """Fused Linears of which a part is missing or otherwise quantized, and mixtures whose experts differ."""
    lines = []
    for whole, parts in (loader.required | loader.optional).items():
        for block in sorted({module.rpartition(".")[0] for module in kinds
                             if module.rpartition(".")[2] in parts and loader.takes(whole, module)}):
            # Latent attention of hybrid models makes queries by a Linear of their own.
            if whole.startswith("qkv") and f"{block}.kv_a_proj_with_mqa" in kinds:
                continue
            if whole == "qkv_proj" and is_doubled(config, block):
                parts = [part for part in parts if part != "v_proj"]
            present = [part for part in parts if f"{block}.{part}" in kinds]
            alone = loader.passes_over and len(present) == 1
            if len(present) < len(parts) and whole in loader.required and not alone:
                lines.append(f"{block}: {whole} takes {', '.join(parts)}, and there is only {', '.join(present)}")
            elif len(present) == len(parts) and len({frozenset(kinds[f"{block}.{part}"]) for part in parts}) > 1:
                lines.append(f"{block}: the parts of {whole} are not quantized alike")
    mixtures = {}
    for module in kinds:
        expert = re.fullmatch(r"(.*\.experts)\.\d+(\.\w+)?", module)
        if expert:
            mixtures.setdefault(expert[1], set()).add(frozenset(kinds[module]))
    return lines + [f"{block}: experts are not quantized alike" for block, found in mixtures.items() if len(found) > 1]


def unwritten(written, names):
    """Names of modules that transformers, by whose code vLLM serves some classes, does not write."""
    modules = {name.rpartition(".")[0] for name in written}
    wrong = {name for name in names if name not in written and not (
        name.rpartition(".")[0] in modules and name.rpartition(".")[2].startswith("weight_"))}
    return [f"{name}: transformers writes no such module" for name in sorted(wrong)]


def predicting(folder, config, names):
    """What is wrong with the names of prediction layers that are quantized; nothing where none is."""
    # Qwen's loader calls what begins with `mtp.` its model.
    further = {re.sub(r"^mtp\.", "model.", name) for name in names
               if layer_of(name) >= more.text_of(config)["num_hidden_layers"] or name.startswith("mtp.")}
    if not any(name.endswith(("weight_packed", "weight_scale")) for name in further):
        return []
    loader = Loader(folder, PREDICTORS[config["architectures"][0]])
    kinds = {}
    for name in further:
        module, _, kind = name.rpartition(".")
        kinds.setdefault(module, set()).add(kind)
    lines = [line for name in sorted(further) for line in [finding(loader, kinds, name)] if line]
    for module in sorted(kinds):
        if module.rpartition(".")[2] in loader.plain and kinds[module] != {"weight"}:
            lines.append(f"{module}: a plain nn.Linear has a weight alone, not {', '.join(sorted(kinds[module]))}")
    return lines + incomplete(loader, kinds, config)


def judge(folder, config, names):
    """Raises ValueError with what is wrong, or where a name that is certainly wrong would pass."""
    architecture = config["architectures"][0]
    if registered_file(Path(folder), architecture) == "transformers":
        written = more.written_shapes(config)
        wrong, told = lambda names: unwritten(written, names), (0, 3)
    else:
        wrapper = more.WRAPPERS.get(architecture, {})
        # A text model may have the name of another class in its own configuration.
        text = wrapper.get("inside", {}).get("architectures", [wrapper.get("text")])[0]
        loader = Loader(Path(folder), architecture, text)
        wrong = lambda names: amiss(loader, config, names) + predicting(Path(folder), config, names)
        # Where gates and up are one Linear, it may be left unquantized.
        told = (0, 1, 3) if loader.required.get("gate_up_proj") == ["gate_up_proj"] else (0, 1, 2, 3)
    lines = wrong(names)
    if lines:
        raise ValueError(f"vLLM: {lines[0]}" + (f" and {len(lines) - 1} more" if len(lines) > 1 else ""))
    for number, spoilt in enumerate(spoiled(names)):
        if number in told and not wrong(spoilt):
            raise ValueError("vLLM: spoiled names pass, so that nothing is judged")


def spoiled(names):
    """The names with one of every kind wrong: a module, a parameter, a missing part, a Linear left unquantized."""
    packed = sorted(name for name in names if name.endswith("weight_packed"))
    yield [re.sub(r"\.(self_attn|mixer|attention)\.", ".attending.", name) for name in names]
    yield [name.replace("weight_scale", "weight_scales") for name in names]
    made = [name for name in packed if re.search(r"\.(up_proj|gate_up_proj|w3)\.|\.w13_", name)]
    # Of experts, where there are any: they are one Linear in every class.
    module = next((name for name in made if ".experts." in name), made[0]).removesuffix("weight_packed")
    yield [name for name in names if not name.startswith(module)] + [module + "weight"]
    yield [re.sub(r"\.(down_proj|w2)([._])", r".projection\2", name) for name in names]
