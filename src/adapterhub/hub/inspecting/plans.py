"""The parts that an adapter of each method has, by the names of the native format; ``PLANS`` by method."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from adapterhub.hub.inspecting.forms import Form, Plan, Sizes, whole

Config = Mapping[str, Any]
_READS_HIDDEN = ("v", "qkv", "up", "gate", "gate_up")  # queries and keys may read something smaller
_GIVES_HIDDEN = ("o", "down")


def bottleneck(config: Config) -> Plan:
    """Bottlenecks, Compacter, what they share, invertible adapters, and trained layer norms."""
    must: dict[str, str] = {}
    forms = []
    if config.get("mh_adapter") or config.get("output_adapter", True) or config.get("cross_adapter"):
        must = _maps(config) | _extras(config)
    if must and config.get("phm_layer") and config.get("shared_W_phm"):  # of one width everywhere
        must = {leaf: dims.replace("h", "H").replace("b", "B") for leaf, dims in must.items()}
        forms.append(Form(must, reads="H", gives="H", hidden="H"))
    elif must:
        forms.append(Form(must, reads="h", gives="h", hidden="h"))
    if config.get("phm_layer") and (shared := _shared(config)):
        forms.append(Form(shared, at="shared"))
    if config.get("inv_adapter"):
        forms.append(Form(invertible(str(config["inv_adapter"])), at="embeddings", gives="u+v"))
    if config.get("train_layer_norm"):
        forms.append(Form({"norm.weight": "n"}, {"norm.bias": "n"}, gives="n"))
    return Plan(tuple(forms), phm_sizes(config), lambda sizes: width_problem(config, sizes))


def phm_sizes(config: Config) -> dict[str, Collection[int]]:
    """The numbers that a Compacter's blocks may have."""
    return (
        {"P": (whole(config, "phm_dim", 4),), "k": (whole(config, "phm_rank", 1),)} if config.get("phm_layer") else {}
    )


def rule(config: Config) -> dict[str, str]:
    """The tensors of a rule of Compacter."""
    if config.get("factorized_phm_rule"):
        return {"phm_rule_left": "P P 1", "phm_rule_right": "P 1 P"}
    return {"phm_rule": "P P P"}


def blocks(config: Config, inputs: str, outputs: str) -> dict[str, str]:
    """The tensors of the blocks of a map of Compacter."""
    if config.get("factorized_phm_W", True):
        return {"W_left": f"P {inputs}/P k", "W_right": f"P k {outputs}/P"}
    return {"W": f"P {inputs}/P {outputs}/P"}


def invertible(block: str) -> dict[str, str]:
    """The tensors of an invertible adapter, whose halves are ``u`` and ``v`` wide."""
    first, second, times = ("s1", "s2", "2") if block == "glow" else ("G", "F", "")
    nets = ((first, "c", "u", f"{times}v"), (second, "d", "v", f"{times}u"))
    return {
        f"{net}.{leaf}": dims
        for net, inner, inputs, outputs in nets
        for leaf, dims in (
            ("0.weight", f"{inner} {inputs}"),
            ("0.bias", inner),
            ("2.weight", f"{outputs} {inner}"),
            ("2.bias", outputs),
        )
    }


def width_problem(config: Config, sizes: Sizes) -> str | None:
    """What is wrong with the width ``b`` of a bottleneck for a hidden size ``h``."""
    width, hidden = sizes.get("b", sizes.get("B")), sizes.get("h", sizes.get("H"))
    if width is None or hidden is None:
        return None
    factor = config.get("reduction_factor")
    factors = list(factor.values()) if isinstance(factor, Mapping) else [16 if factor is None else factor]
    widths = sorted({max(1, int(hidden // one)) for one in factors})
    if width in widths:
        return None
    return f"a bottleneck is {width} wide, and by the reduction_factor {factor!r} of {hidden} it is {widths}"


def _maps(config: Config) -> dict[str, str]:
    """The tensors of the two maps."""
    if not config.get("phm_layer"):
        return {
            "down_proj.weight": "b h",
            "down_proj.bias": "b",
            "up_proj.weight": "h b",
            "up_proj.bias": "h",
        }
    own: dict[str, str] = {}
    for name, inputs, outputs in (("down_proj", "h", "b"), ("up_proj", "b", "h")):
        leaves = {} if config.get("shared_W_phm") else blocks(config, inputs, outputs)
        leaves |= {} if config.get("shared_phm_rule", True) else rule(config)
        leaves |= {"bias": outputs} if config.get("phm_bias", True) else {}
        own |= {f"{name}.{leaf}": dims for leaf, dims in leaves.items()}
    return own


def _shared(config: Config) -> dict[str, str]:
    found = rule(config) if config.get("shared_phm_rule", True) else {}
    if config.get("shared_W_phm"):
        found |= {f"down.{leaf}": dims for leaf, dims in blocks(config, "H", "B").items()}
        found |= {f"up.{leaf}": dims for leaf, dims in blocks(config, "B", "H").items()}
    return found


def _extras(config: Config) -> dict[str, str]:
    found = {}
    if config.get("scaling") in ("learned", "channel"):
        found["scaling"] = "1" if config["scaling"] == "learned" else "h"
    if config.get("use_gating"):
        found |= {"gate.weight": "1 h", "gate.bias": "1"}
    for name in ("before", "after"):
        if config.get(f"ln_{name}"):
            found |= {f"norm_{name}.weight": "h", f"norm_{name}.bias": "h"}
    return found


def lora(config: Config) -> Plan:
    """LoRA and DoRA at weights, convolutions (``x``, ``y``) and experts (``e``)."""
    must = {
        "lora_A": "r in | e r in | r in x | r in y x",
        "lora_B": "out r | e out r | out r | out r",
    }
    if config.get("init_weights") in ("pissa", "olora"):
        must |= {"lora_A0": must["lora_A"], "lora_B0": must["lora_B"]}
    if config.get("use_dora"):
        must["magnitude"] = "out | e out | out | out"
    if config.get("bias"):
        must["bias"] = "out | e out | out | out"
    if config.get("use_gating"):
        must |= {"gate.weight": "1 in", "gate.bias": "1"}
    return Plan((Form(must, reads="in", gives="out"),), {"r": ranks(config)}, width=_width)


def _width(module: str, sizes: Sizes) -> int | None:
    """The hidden size, at weights that read or give that in every model."""
    role = module.rpartition(".")[2]
    return sizes["in"] if role in _READS_HIDDEN else sizes["out"] if role in _GIVES_HIDDEN else None


def ranks(config: Config) -> set[int]:
    """The ranks that a LoRA may have, by its pattern."""
    patterns = config.get("rank_pattern") or {}
    return {whole(config, "r", 8), *(whole(patterns, name, 1) for name in patterns)}


def mtl_lora(config: Config) -> Plan:
    """MTL-LoRA, of one task."""
    diagonal = config.get("task_specific_matrix_type", "singular_values") == "singular_values"
    must = {"lora_A": "r in", "lora_B": "n out r", "task_matrix": "r" if diagonal else "r r", "up_weights": "n"}
    must |= {"magnitude": "out"} if config.get("use_dora") else {}
    must |= {"bias": "out"} if config.get("bias") else {}
    must |= {"gate.weight": "1 in", "gate.bias": "1"} if config.get("use_gating") else {}
    sizes = {"r": ranks(config), "n": {whole(config, "n_up_projection", 1)}}
    return Plan((Form(must, reads="in", gives="out"),), sizes, width=_width)


def vera(config: Config) -> Plan:
    """VeRA, and the two matrices that its parts share."""
    must = {"vera_lambda_b": "out", "vera_lambda_d": "R"}
    must |= {"magnitude": "out"} if config.get("use_dora") else {}
    shared = Form({"vera_A": "R a", "vera_B": "b R"}, at="shared")
    return Plan((Form(must, gives="out"), shared), {"R": {whole(config, "r", 8)}})


def ia3(config: Config) -> Plan:
    """(IA)³: a vector for what a weight gives, or for what it reads."""
    targets, inputs = config.get("target_modules"), config.get("feedforward_modules") or ()

    def sides(module: str, sizes: Sizes) -> tuple[int | None, int | None]:
        role = module.rpartition(".")[2]
        if targets is None:
            reads = role == "down" and config.get("feed_forward", "input") == "input"
        elif inputs and role not in inputs:
            return None, None  # a path, which the names of sites do not tell
        else:
            reads = bool(inputs)
        return (sizes["n"], None) if reads else (None, sizes["n"])

    return Plan((Form({"scale": "n"}),), sides=sides)


def prefix_tuning(config: Config) -> Plan:
    """Prefixes: as they are, or by a network that they share."""
    sizes = {"L": {whole(config, "prefix_length", 30)}}
    gate = {"gate.weight": "g w", "gate.bias": "g"} if config.get("use_gating") else {}
    if config.get("flat"):
        return Plan((Form({"prefix": "L kv"} | gate, gives="kv", hidden="w"),), sizes)
    own = Form({"linear.weight": "kv B", "linear.bias": "kv"} | gate, gives="kv", hidden="w")
    net = Form({"wte.weight": "L w", "linear.weight": "B w", "linear.bias": "B"}, at="shared", hidden="w")
    return Plan((net, own), sizes | {"B": {whole(config, "bottleneck_size", 512)}})


def prompt_tuning(config: Config) -> Plan:
    """A prompt, of vectors as wide as embedded tokens."""
    return Plan((Form({"prompt_embedding.weight": "L e"}, gives="e"),), {"L": {whole(config, "prompt_length", 10)}})


def reft(config: Config) -> Plan:
    """Interventions on the residual stream after layers."""
    must = {"learned_source.weight": "r h", "learned_source.bias": "r", "projection": "r h"}
    return Plan((Form(must, reads="h", gives="h", hidden="h"),), {"r": {whole(config, "r", 1)}})


def ladder(config: Config) -> Plan:
    """Rungs beside layers: no gate at the first one, and what is written at the last, which may be that alone."""
    maps = {"down": "w h", "block.qkv": "3w w", "block.o": "w w", "block.up": "4w w", "block.down": "w 4w"}
    rung = _linear(maps) | {
        f"block.{norm}.{leaf}": "w" for norm in ("attention_norm", "feed_forward_norm") for leaf in ("weight", "bias")
    }
    some, more = ({}, rung) if config.get("leave_out") else (rung, {})
    return Plan((Form(some, more | _linear({"up": "h w"}) | {"alpha": "1"}, reads="h", gives="h", hidden="h"),))


def _linear(maps: Mapping[str, str]) -> dict[str, str]:
    """The tensors of linear maps by name, with a bias for each output."""
    matrices = {f"{name}.weight": dims for name, dims in maps.items()}
    return matrices | {f"{name}.bias": dims.split()[0] for name, dims in maps.items()}


def fusion(config: Config) -> Plan:
    """AdapterFusion: the matrices of its attention."""
    must = {
        f"{name}.{leaf}": dims
        for name in ("query", "key")
        if config.get(name, True)
        for leaf, dims in (("weight", "h h"), ("bias", "h"))
    }
    must |= {"value.weight": "h h"} if config.get("value", True) else {}
    return Plan((Form(must, {"temperature": " | 1"}, reads="h", gives="h", hidden="h"),))


def _one(leaf: str, reads: str = "", gives: str = "") -> Callable[[Config], Plan]:
    return lambda config: Plan((Form({leaf: "n"}, reads=reads, gives=gives),))


PLANS: dict[str, Callable[[Config], Plan]] = {
    "bottleneck": bottleneck,
    "lora": lora,
    "mtl_lora": mtl_lora,
    "vera": vera,
    "ia3": ia3,
    "prefix_tuning": prefix_tuning,
    "prompt_tuning": prompt_tuning,
    "reft": reft,
    "ladder": ladder,
    "bitfit": _one("shift", gives="n"),
    "lhuc": _one("amplitude", reads="n"),
    "ln_tuning": lambda config: Plan((Form({"norm.weight": "n"}, {"norm.bias": "n"}, gives="n"),)),
}
