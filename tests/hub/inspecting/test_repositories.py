"""Repositories as people upload them: with heads, fusions, setups; of other times; and with something wrong."""

import io
import json
import subprocess
import sys
from copy import deepcopy

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load, save

import adapterhub
import goldens
import tiny
from adapterhub import AutoAdapterModel
from adapterhub.composition import Fuse, Stack
from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.adapter import inspect
from adapterhub.hub.inspecting.files import check_files
from adapterhub.hub.inspecting.info import AdapterInfo, HeadInfo, Need, config_hash
from uploads import Files, changed, files, opener

MANIFEST, PEFT, ADAPTERS = "adapter_config.json", "adapter_model.safetensors", "adapter.safetensors"
LABELS = {0: "neg", 1: "neu", 2: "pos"}
HEAD = HeadInfo("classification", ("neg", "neu", "pos"), 3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Files]:
    """Folders of a model with flexible heads, and of one with its own."""
    folder = tmp_path_factory.mktemp("saved")
    model = AutoAdapterModel.from_config(tiny.config("roberta"))
    model.config._name_or_path = "hub/tiny"
    model.add_adapter("a", "lora")
    model.add_adapter("b", "seq_bn")
    model.add_adapter("c", "seq_bn")
    model.add_classification_head("a", num_labels=3, id2label=LABELS)
    model.add_adapter_fusion(Fuse("b", "c"))
    meta = {"task": "sentiment", "dataset": "sst-2", "language": "en"}
    for form in ("adapterhub", "adapters"):
        model.save_adapter(
            folder / form / "adapter", "a", format=form, meta_dict=meta if form == "adapterhub" else None
        )
        model.save_adapter_fusion(folder / form / "fusion", Fuse("b", "c"), format=form)
        model.save_adapter_setup(folder / form / "setup", Stack("a", Fuse("b", "c")), ["a"], format=form)
        model.save_head(folder / form / "head", "a", format=form)
    model.save_embeddings(folder / "adapterhub" / "embeddings", "default")
    own = adapterhub.init(tiny.model("roberta", "ForSequenceClassification", id2label=LABELS))
    own.config._name_or_path = "hub/tiny"
    own.add_adapter("a", "lora")
    for form in ("adapterhub", "adapters", "peft"):
        own.save_adapter(folder / form / "own", "a", format=form)
    return {path.relative_to(folder).as_posix(): files(path) for path in folder.glob("*/*")}


def refused(given: Files, why: str, base: str | None = None) -> None:
    with pytest.raises(UploadRefusedError, match=why):
        inspect(given, base)


def with_tensors(given: Files, name: str, change) -> Files:
    """``given`` with other tensors in a file, which ``change`` changes in place."""
    tensors = load(given[name]().read())
    change(tensors)
    return given | {name: opener(save(tensors))}


def test_heads(saved) -> None:
    for form in ("adapterhub", "adapters"):
        info = inspect(saved[f"{form}/adapter"])
        assert info.head == HEAD and info.method == "lora" and info.parameters == 2048
        assert Need(None, "head.layers.4" if form == "adapterhub" else "head.4", 32, 3) in info.needs
        assert info.model_class == "RobertaAdapterModel"
        alone = inspect(saved[f"{form}/head"])
        assert (alone.kind, alone.method, alone.head) == ("head", "head", HEAD)
    assert (info.task, info.dataset, info.languages) == (None, None, ())
    info = inspect(saved["adapterhub/adapter"])
    assert (info.task, info.dataset, info.languages) == ("sentiment", "sst-2", ("en",))
    for form in ("adapterhub", "adapters"):
        assert inspect(saved[f"{form}/own"]).head == HeadInfo("RobertaForSequenceClassification", HEAD.labels, 3)
    assert inspect(saved["peft/own"]).head == HeadInfo("classification", None, 3)


def test_fusions_setups_and_embeddings(saved) -> None:
    for form in ("adapterhub", "adapters"):
        info = inspect(saved[f"{form}/fusion"])
        assert (info.kind, info.method, info.name) == ("fusion", "fusion", "b,c")
        assert info.config["adapter_names"] == ["b", "c"] and len(info.needs) == 2
        whole = inspect(saved[f"{form}/setup"])
        assert (whole.kind, whole.method) == ("composition", "composition")
        assert whole.methods == ("lora", "bottleneck", "fusion") and set(whole.members) == {"a", "b", "c", "b,c"}
        assert whole.head == HEAD and whole.parameters == 2048 + 324 * 2 + 6272
        assert whole.config["adapter_setup"]["type"] == "Stack"
        assert AdapterInfo.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
        less = {path: file for path, file in saved[f"{form}/setup"].items() if not path.startswith("c/")}
        refused(less, "names 'c', and there is no folder")
        refused({path: file for path, file in saved[f"{form}/setup"].items() if "b,c" not in path}, "names 'b,c'")
    info = inspect(saved["adapterhub/embeddings"])
    assert (info.kind, info.parameters) == ("embeddings", 3168)
    mixed = {path: file for path, file in saved["adapterhub/setup"].items() if not path.startswith("c/")}
    other = {f"c/{path}": file for path, file in saved["adapters/setup"].items() if path.startswith("c/")}
    refused(mixed | {path.removeprefix("c/"): file for path, file in other.items()}, "of several formats")


def test_every_golden_file_of_the_peers() -> None:
    """What adapters and PEFT wrote is taken, but where it is a pickle."""
    read = 0
    for manifest in sorted(goldens.ADAPTERS.parent.glob("*/*/adapter_config.json")):
        given = files(manifest.parent)
        if any(path.endswith(".bin") for path in given):
            with pytest.raises(UploadRefusedError, match="is a pickle: convert it with `adapterhub convert"):
                inspect(given)
            with pytest.raises(UploadRefusedError, match="a pickle can run code"):
                check_files(given)
            continue
        check_files(given)
        info = inspect(given, base="google/bert")
        assert info.base == "google/bert" and info.needs and info.parameters > 0
        read += 1
    assert read > 40


def test_names_of_2020(saved) -> None:
    config = {"original_ln_before": True, "residual_before_ln": True, "ln_before": False, "ln_after": False}
    config |= {"mh_adapter": True, "output_adapter": True, "non_linearity": "relu", "reduction_factor": 16}
    config |= {"invertible_adapter": {"block_type": "nice", "non_linearity": "relu", "reduction_factor": 2}}
    tensors = {}
    for layer in range(2):
        for stem in ("attention.output.attention_text_task_adapters", "output.layer_text_task_adapters"):
            at = f"bert.encoder.layer.{layer}.{stem}.mrpc"
            tensors |= {f"{at}.adapter_down.0.weight": torch.ones(2, 32), f"{at}.adapter_down.0.bias": torch.ones(2)}
            tensors |= {f"{at}.adapter_up.weight": torch.ones(32, 2), f"{at}.adapter_up.bias": torch.ones(32)}
    content = {"config": config, "hidden_size": 32, "model_name": "bert-base-uncased", "name": "mrpc"}
    content |= {"model_type": "bert", "model_class": "BertModelWithHeads", "type": "text_task"}
    given = {MANIFEST: opener(json.dumps(content).encode()), ADAPTERS: opener(save(tensors))}
    info = inspect(given)
    assert (info.method, info.format, info.base) == ("bottleneck", "adapters", "bert-base-uncased")
    assert (info.hidden_size, info.layers, info.reduction_factor) == (32, None, 16)
    assert Need(1, "bert.encoder.layer.1.attention.output", 32, 32) in info.needs and len(info.needs) == 4
    shapes = {"0.weight": (8, 16), "0.bias": (8,), "2.weight": (16, 8), "2.bias": (16,)}
    stem = "bert.invertible_lang_adapters.mrpc"
    inverse = {f"{stem}.{net}.{leaf}": torch.ones(*shape) for net in "FG" for leaf, shape in shapes.items()}
    assert Need(None, "embeddings", None, 32) in inspect(given | {ADAPTERS: opener(save(tensors | inverse))}).needs
    del inverse["bert.invertible_lang_adapters.mrpc.G.2.bias"]
    refused(given | {ADAPTERS: opener(save(tensors | inverse))}, "lacks the tensor 'embeddings.G.2.bias'")
    rest = {name: tensor for name, tensor in tensors.items() if ".layer.0." not in name}
    refused(given | {ADAPTERS: opener(save(rest))}, "no tensor of layer 0 of bert.encoder.layer")


def test_where_an_adapter_is() -> None:
    assert inspect({}) is None and inspect({"README.md": opener(b"# A")}) is None
    lora = {
        "base_model.model.h.0.q.lora_A.weight": torch.ones(2, 4),
        "base_model.model.h.0.q.lora_B.weight": torch.ones(6, 2),
    }
    content = {"peft_type": "LORA", "r": 2, "target_modules": ["q"], "base_model_name_or_path": "a/b", "revision": "v1"}
    given = {MANIFEST: opener(json.dumps(content).encode()), PEFT: opener(save(lora))}
    inner = {f"one/{path}": file for path, file in given.items()}
    info = inspect(inner)
    assert info.files == ("one/adapter_config.json", "one/adapter_model.safetensors")
    assert (info.base, info.base_revision, info.rank, info.needs) == ("a/b", "v1", 2, (Need(0, "h.0.q", 4, 6),))
    refused(inner | {f"two/{path}": file for path, file in given.items()}, r"several adapters \(one, two\)")
    assert inspect(given | inner) == inspect(given)
    refused(given | {MANIFEST: opener(b"{}")}, "of no known format")
    refused({MANIFEST: given[MANIFEST], "adapter_model.bin": opener(b"PK")}, "adapter_model.bin is a pickle: convert")
    refused({"adapter_model.bin": opener(b"PK")}, "is a pickle: convert")
    refused(
        changed(given, MANIFEST, lambda one: one.update(base_model_name_or_path=None)), "which base model it is for"
    )
    assert inspect(changed(given, MANIFEST, lambda one: one.pop("base_model_name_or_path")), "x/y").base == "x/y"
    refused(changed(given, MANIFEST, lambda one: one.update(base_model_name_or_path="/home/me/llama")), "owner/name")
    refused(
        changed(given, MANIFEST, lambda one: one.update(r=3)),
        r"of shape \[2, 4\], where \[r, in\] is expected with r = 3",
    )
    refused(changed(given, MANIFEST, lambda one: one.update(r="2")), "options that no adapter of its method has")
    refused(changed(given, MANIFEST, lambda one: one.update(rank_pattern=[1])), "options that no adapter")
    refused(changed(given, MANIFEST, lambda one: one.update(target_modules=["q", "v"])), "names 'v' in target_modules")
    refused(changed(given, MANIFEST, lambda one: one.update(target_modules=["v"])), "target_modules")
    refused(changed(given, MANIFEST, lambda one: one.update(use_dora=True)), "lacks the tensor 'h.0.q.lora_magnitude")
    assert inspect(changed(given, MANIFEST, lambda one: one.update(target_modules="(a+)+$"))).rank == 2
    assert inspect(changed(given, MANIFEST, lambda one: one.update(peft_type="LOHA"))).method == "loha"
    refused(changed(given, MANIFEST, lambda one: one.update(peft_type="../x")), "names '../x' as its peft_type")


def test_wrong_weights_are_refused(saved) -> None:
    native, adapters, peft = (saved[f"{form}/own"] for form in ("adapterhub", "adapters", "peft"))
    weights = next(path for path in native if path.startswith("adapter."))
    data = native[weights]().read()
    refused(native | {weights: opener(data[:-1] + b"\1")}, "its SHA-256 is not that of the manifest")
    refused({path: file for path, file in native.items() if path != weights}, f"{weights} is missing")
    for name in ("../x.safetensors", "/etc/passwd", "adapter.safetensors", 1, None):
        refused(
            changed(native, MANIFEST, lambda one, name=name: one["adapter"]["weights"].update(file=name)), "KIND.SHA256"
        )
    refused(changed(native, MANIFEST, lambda one: one["adapter"]["weights"].update(parameters=7)), "7 parameters")
    refused(changed(native, MANIFEST, lambda one: one["adapter"]["weights"].update(tensors=True)), "True tensors")
    refused(changed(native, MANIFEST, lambda one: one.update(format_version=3)), "format version 3")
    refused(changed(native, MANIFEST, lambda one: one["adapter"]["config"].update(method=None)), "names no method")
    refused(changed(native, MANIFEST, lambda one: one["base_model"].update(hidden_size="x")), "fingerprint")
    refused(changed(native, MANIFEST, lambda one: one["base_model"].update(probe="AAAA" * 100)), "more than 64 values")
    refused(
        changed(native, MANIFEST, lambda one: one["head"]["config"]["settings"].update(id2label={"0": "a"})),
        "none of its",
    )
    refused(
        changed(native, MANIFEST, lambda one: one["head"]["config"]["settings"].update(id2label={"5": "a"})),
        "numbered from 0",
    )
    refused(changed(native, MANIFEST, lambda one: one.pop("base_model")), "which base model")
    for given, name in ((adapters, ADAPTERS), (peft, PEFT)):
        first = next(name for name in load(given[name]().read()) if "lora_A" in name)
        spoilt = with_tensors(given, name, lambda one, first=first: one[first][0].fill_(float("nan")))
        refused(spoilt, f"'{first}' holds values that are not finite")
    for given, name in (
        (saved["adapters/fusion"], "adapter_fusion_config.json"),
        (saved["adapterhub/fusion"], "fusion_config.json"),
        (native, MANIFEST),
        (adapters, MANIFEST),
    ):
        wider = changed(given, name, lambda one: one.get("base_model", one).update(hidden_size=64))
        refused(wider, "with a hidden size of 64, and its tensors are for 32")
    refused(
        with_tensors(
            adapters, "model_head.safetensors", lambda one: one.update({"classifier.out_proj.bias": torch.ones(4)})
        ),
        "its bias",
    )


def test_stacked_names_cannot_lie(saved) -> None:
    import hashlib

    def stacked(name: str, shape: list[int]) -> Files:
        data = save({name: torch.zeros(shape)})
        digest = hashlib.sha256(data).hexdigest()
        weights = {"file": f"adapter.{digest[:8]}.safetensors", "sha256": digest, "tensors": 1, "parameters": 0}
        given = changed(saved["adapterhub/own"], MANIFEST, lambda one: one["adapter"].update(weights=weights))
        return given | {weights["file"]: opener(data)}

    refused(stacked("layers.[0:3].attention.q.lora_A", [2, 8, 32]), "which its name belies")
    refused(stacked("layers.[0:900000].attention.q.lora_A", [900000, 0]), "which its name belies")
    refused(stacked("layers.[5:5].attention.q.lora_A", [0, 8, 32]), "which its name belies")


def test_hashes_of_configurations(saved) -> None:
    assert config_hash({"method": "lora", "r": 8, "dropout": 0.1}) == config_hash(
        {"r": 8.0, "method": "lora", "new": False}
    )
    assert config_hash({"method": "lora", "r": 8}) != config_hash({"method": "lora", "r": 4})
    assert config_hash({"method": "lora", "r": 8}) == "cfg:v1:0d6d4a603bb29f0f"
    assert config_hash({"a": True}) != config_hash({"a": 1}) != config_hash({"a": [1]})
    assert (
        inspect(saved["adapterhub/setup"]).members["b"].config_hash
        == inspect(saved["adapterhub/setup"]).members["c"].config_hash
    )


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, adapterhub.hub.inspecting.adapter, adapterhub.hub.inspecting.files\n"
        "print([name for name in ('torch', 'transformers', 'pickle', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout and "transformers" not in done.stdout


def test_files_are_closed(saved) -> None:
    opened = []

    def opening(file) -> io.BufferedReader:
        opened.append(io.BufferedReader(file()))
        return opened[-1]

    given = {path: lambda file=file: opening(file) for path, file in saved["adapterhub/own"].items()}
    check_files(given)
    assert inspect(given) == inspect(saved["adapterhub/own"])
    assert len(opened) > 4 and all(file.closed for file in opened)


SIMPLE = [None, True, 0, -1, 2, 0.5, 1e300, "", "x", "lora"]
ODD = st.sampled_from([*SIMPLE, [], ["a"], [1], [None], {}, {"a": 1}, {"a": None}])


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(data=st.data())
def test_any_manifest_is_taken_or_refused(saved, data) -> None:
    """Options of any type end in a refusal at worst."""
    given_files = saved[data.draw(st.sampled_from(sorted(saved)))]
    name = data.draw(st.sampled_from(sorted(path for path in given_files if path.endswith(".json"))))

    def change(content: dict) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            at = content
            while True:
                key = data.draw(st.sampled_from(sorted(at)))
                if not isinstance(at[key], dict) or not at[key] or data.draw(st.booleans()):
                    break
                at = at[key]
            at[key] = deepcopy(data.draw(ODD))

    try:
        info = inspect(changed(given_files, name, change))
    except UploadRefusedError as error:
        assert len(str(error)) < 1000
        return
    assert AdapterInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info
