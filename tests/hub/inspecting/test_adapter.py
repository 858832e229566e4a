"""What is told of adapters of every method, in every format, from their files; and what is refused."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

import adapterhub
import tiny
from adapterhub.errors import AdapterHubError, UploadRefusedError
from adapterhub.hub.bases import Base
from adapterhub.hub.compatibility import Requirement, contradictions
from adapterhub.hub.inspecting.adapter import inspect
from adapterhub.hub.inspecting.files import check_files
from adapterhub.hub.inspecting.heads import head_needs
from adapterhub.hub.inspecting.info import AdapterInfo, HeadInfo, Need
from adapterhub.methods import load_config
from adapterhub.methods.registry import named_configs
from uploads import Files, changed, files, opener

MANIFEST, ADAPTERS = "adapter_config.json", "adapter.safetensors"
OPTIONS = {  # the named configurations that tiny models cannot have as they are, and options that change the tensors
    "compacter": "compacter[reduction_factor=4]",
    "compacter++": "compacter++[reduction_factor=4]",
    "shared_blocks": "compacter++[reduction_factor=4, shared_W_phm=True, factorized_phm_rule=True]",
    "whole_blocks": "compacter[reduction_factor=4, factorized_phm_W=False, shared_phm_rule=False]",
    "glow": "seq_bn_inv[inv_adapter=glow]",
    "norms": "seq_bn[ln_before=True, ln_after=True]",
    "sizes": "double_seq_bn[reduction_factor={'0': 4, 'default': 8}]",
    "gates": "lora[use_gating=True]",
    "ranks": "lora[attn_matrices=[q, k, v, o], intermediate_lora=True, output_lora=True, rank_pattern={'q': 4}]",
    "biases": "lora[bias=True]",
    "pissa": "lora[init_weights=pissa]",
    "all": "lora[target_modules=all-linear]",
    "before": "ia3[feed_forward=output]",
    "moved": "prefix_tuning[flat=True, shift_positions=True]",
    "tokens": "prompt_tuning[insert_at=word_embeddings]",
    "several": "mtl_lora[n_up_projection=2, task_specific_matrix_type=linear]",
    "one_layer": "noreft[layers=[1], r=3]",
}
NAMES = {str(config): name for name, config in reversed(named_configs().items())}.values()  # some have two names
CONFIGS = {name.replace("+", "-"): name for name in NAMES if name not in OPTIONS} | OPTIONS
# Vectors whose length nothing in the checkpoint has to agree with.
FREE = ("bitfit", "lhuc", "ia3", "ln_tuning", "prompt_tuning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[dict, dict[str, torch.nn.Module]]:
    """Adapters of all configurations in three families, in every format that has them; and the models."""
    folder, models, made = tmp_path_factory.mktemp("saved"), {}, {}
    for family in ("roberta", "gpt2", "t5"):
        models[family] = model = adapterhub.init(tiny.model(family))
        model.config._name_or_path = "hub/tiny"
        for name, config in CONFIGS.items():
            try:
                model.add_adapter(name, config=config)
            except AdapterHubError:  # a T5 has no biases, and two towers
                assert (family, name) in (("t5", "bitfit"), ("t5", "lst"))
                continue
            tiny.randomise(model, name)
            for form in ("adapterhub", "adapters", "peft"):
                try:
                    model.save_adapter(folder / family / form / name, name, format=form)
                except AdapterHubError:  # what has no equal there
                    continue
                made[family, form, name] = files(folder / family / form / name)
    return made, models


def rewritten(given: Files, tensors: dict[str, torch.Tensor]) -> Files:
    """A checkpoint with other tensors, about which the manifest of the native format is right."""
    data = save(tensors)
    name = next(name for name in given if name.endswith(".safetensors") and not name.startswith("head"))
    if not name.startswith("adapter."):
        return given | {name: opener(data)}
    if name == ADAPTERS:
        return given | {name: opener(data)}
    digest = hashlib.sha256(data).hexdigest()
    new = f"adapter.{digest[:8]}.safetensors"
    rest = {key: value for key, value in given.items() if key != name}

    def weights(content: dict) -> None:
        content["adapter"]["weights"] = {
            "file": new,
            "sha256": digest,
            "tensors": len(tensors),
            "parameters": sum(tensor.numel() for tensor in tensors.values()),
        }

    return changed(rest | {new: opener(data)}, MANIFEST, weights)


def tensors_of(given: Files) -> dict[str, torch.Tensor]:
    """The tensors of an adapter, those that the native format stacks one by one."""
    name = next(name for name in given if name.endswith(".safetensors") and not name.startswith("head"))
    found = {}
    for key, tensor in load(given[name]().read()).items():
        if "[" in key:
            before, _, rest = key.partition("[")
            numbers, _, after = rest.partition("]")
            first = int(numbers.split(":")[0])
            found |= {f"{before}{first + index}{after}": one.clone() for index, one in enumerate(tensor)}
        else:
            found[key] = tensor
    return found


def test_every_method_is_told(saved) -> None:
    made, models = saved
    told = set()
    for (family, form, name), given in made.items():
        model = models[family]
        check_files(given)
        info = inspect(given)
        assert info is not None
        config = model.adapters[name].config
        own = sum(tensor.numel() for tensor in model.adapters[name].state_dict().values())
        assert (info.kind, info.format, info.name) == ("adapter", form, None if form == "peft" else name)
        assert info.dtypes == ("F32",) and info.head is None and info.base == "hub/tiny"
        assert info.size == sum(len(open_().read()) for path, open_ in given.items() if path.endswith(".safetensors"))
        assert info.parameters == sum(tensor.numel() for tensor in tensors_of(given).values())
        if form == "adapterhub":
            assert info.method == config.method and info.parameters == own
            members = [one.method for one in getattr(config, "configs", [config])]
            assert list(info.methods) == members
            assert info.rank == config.to_dict().get("r") and info.config == json.loads(json.dumps(config.to_dict()))
            assert info.fingerprint is not None and info.fingerprint.hidden_size == info.hidden_size == 32
            assert info.layers == info.fingerprint.layers and info.model_type == model.config.model_type
        elif form == "adapters":
            assert info.method == load_config(json.loads(given[MANIFEST]().read())).method
            assert info.hidden_size == 32 and info.model_type == model.config.model_type
        else:
            assert info.method == config.method or name == "pissa"
        told.add((form, info.method))
        assert AdapterInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info
    assert {method for form, method in told if form == "adapterhub"} == {
        load_config(name).method for name in named_configs()
    }
    assert len({method for form, method in told if form == "adapters"}) >= 8
    assert len({method for form, method in told if form == "peft"}) >= 6


def test_needs_are_the_shapes_of_the_weights(saved) -> None:
    made, models = saved
    checked = 0
    for (family, form, _), given in made.items():
        info = inspect(given)
        places = {place.name: place for place in models[family].engine.places}
        for need in info.needs:
            if info.methods[0] not in ("lora", "mtl_lora", "vera", "ia3") or len(info.methods) > 1:
                continue
            if form == "adapterhub":
                weight = places[need.module].weight
                assert need.layer == int(need.module.split("layers.")[1].split(".")[0])
            else:
                weight = next(one.weight for one in places.values() if one.path == need.module and one.whole)
            out, inner = weight.shape
            if form == "adapters" and "c_attn" in need.module:  # of the parts that are adapted alone
                out = 2 * out // 3
            assert need.reads in (None, inner) and need.gives in (None, out), (family, form, need)
            assert (need.reads, need.gives) != (None, None)
            checked += 1
    assert checked > 200


def test_needs_go_into_the_base_model_alone(saved) -> None:
    """What adapters ask for is what the model has that they were trained in, and not one that is wider."""
    made, models = saved
    bases = {family: Base.of_config(model.config.to_dict()) for family, model in models.items()}
    wider = {family: replace(base, hidden_size=64, embedding_size=64, heads=8) for family, base in bases.items()}
    for (family, form, name), given in made.items():
        info = inspect(given)
        asked = Requirement(
            model_type=info.model_type, hidden_size=info.hidden_size, layers=info.layers, needs=info.needs
        )
        assert contradictions(asked, bases[family]) == (), (family, form, name)
        if info.method in ("lora", "bottleneck", "reft", "ladder", "prompt_tuning"):  # which tell a width
            assert contradictions(asked, wider[family]) != (), (family, form, name)


def test_needs_of_other_methods(saved) -> None:
    made, _ = saved
    native = {name: inspect(given).needs for (*of, name), given in made.items() if of == ["roberta", "adapterhub"]}
    at = [f"layers.{layer}.{kind}" for layer in (0, 1) for kind in ("attention", "feed_forward")]
    assert set(native["double_seq_bn"]) == {Need(int(one[7]), one, 32, 32) for one in at}
    assert Need(None, "embeddings", None, 32) in native["seq_bn_inv"]
    assert native["one_layer"] == (Need(1, "layers.1.output", 32, 32),)
    assert native["prompt_tuning"] == (Need(None, "prompt", None, 32),)
    assert Need(0, "layers.0.attention.prefix", None, 64) in native["prefix_tuning_flat"]
    assert Need(0, "layers.0.feed_forward.down", 37, None) in native["lhuc"]
    assert Need(0, "layers.0.feed_forward.up", None, 37) in native["bitfit"]
    assert Need(None, "norms.0", None, 32) in native["ln_tuning"]
    assert Need(0, "layers.0.feed_forward.down", 37, None) in native["ia3"]
    assert {need.module.split(".")[-1] for need in native["mam"]} == {"prefix", "feed_forward"}


def test_a_tensor_less_or_more_is_refused(saved) -> None:
    made, _ = saved
    for (family, form, name), given in made.items():
        tensors = tensors_of(given)
        optional = (".norm.weight", ".norm.bias", "ln_tuning_layers.bias", ".prefix")  # each may stand alone
        optional += (".side.alpha", ".side.up.weight", ".side.up.bias")  # of some rungs of a ladder
        lone = inspect(given).method in FREE  # of vectors, each stands alone
        assert inspect(rewritten(given, tensors)).needs == inspect(given).needs
        for index, gone in enumerate(tensors):
            if index % max(1, len(tensors) // 2) or (lone and len(tensors) > 1) or gone.endswith(optional):
                continue
            rest = {key: tensor for key, tensor in tensors.items() if key != gone}
            with pytest.raises(UploadRefusedError):
                inspect(rewritten(given, rest | ({} if rest else {"x.y": torch.zeros(1)})))
                print(family, form, name, gone)
        for strange in ("layers.0.attention.q.secret", "x", "base_model.model.a.b"):
            with pytest.raises(UploadRefusedError, match=r"left over|claims"):
                inspect(rewritten(given, tensors | {strange: torch.zeros(2)}))


def test_another_shape_is_refused(saved) -> None:
    made, _ = saved
    for given in made.values():
        if inspect(given).method in FREE:
            continue
        for index, (name, tensor) in enumerate((tensors := tensors_of(given)).items()):
            if (
                index % max(1, len(tensors) // 3)
                or tensor.dim() == 0
                or name.endswith((".norm.weight", ".norm.bias", "control_trans"))
            ):
                continue
            if name.endswith(("vera_lambda_b", ".prefix")):
                continue  # nothing else in the checkpoint is as wide
            of_base = "lora_B" in name or "vera_B" in name  # as wide as the base is, which nothing else tells
            larger = torch.cat((tensor, tensor[..., :1]), dim=-1) if of_base else torch.cat((tensor, tensor[:1]))
            with pytest.raises(UploadRefusedError):
                inspect(rewritten(given, tensors | {name: larger}))
                print(name)


def test_a_head_that_needs_no_tensors_has_none() -> None:
    assert head_needs(HeadInfo("sentence_embedding"), {}, "head.safetensors") == ()
    with pytest.raises(UploadRefusedError, match="holds no tensors of a head"):
        head_needs(HeadInfo("tagging"), {}, "head.safetensors")
