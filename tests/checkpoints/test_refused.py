"""Folders of other libraries that are damaged, foreign or hostile: a typed error, and the model as it was before."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import goldens
from adapterhub.errors import AdapterHubError, CheckpointError, ConfigError, CorruptCheckpointError, TensorMismatchError

WEIGHTS = {"adapters": "adapter.safetensors", "peft": "adapter_model.safetensors"}
SOURCES = {
    "adapters": ["bert-lora", "bert-compacter", "bert-ia3", "bert-loreft", "bert-vera", "bert-inv"],
    "peft": ["patterns", "ia3", "vera", "norms", "all_biases", "tokens", "everything"],
}
CASES = [(kind, label) for kind, labels in SOURCES.items() for label in labels]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """A model for each format, with an active adapter and a head."""
    of_adapters = goldens.flexible("bert")
    of_adapters.load_adapter(goldens.ADAPTERS / "bert-double", load_as="mine", set_active=True)
    of_peft, _, _ = goldens.classifier("plain")
    of_peft.load_adapter(goldens.PEFT / "plain", load_as="mine", set_active=True)
    return {"adapters": of_adapters, "peft": of_peft}


def state(model: Any) -> dict[str, Any]:
    """All of a model that a load could change."""
    hooks = {name: (len(one._forward_hooks), len(one._forward_pre_hooks)) for name, one in model.named_modules()}
    return {
        "tensors": {key: value.clone() for key, value in model.state_dict().items()},
        "names": (list(model.adapters), list(model.fusions), list(getattr(model, "heads", ()))),
        "active": (model.active_adapters, getattr(model, "active_head", None)),
        "labels": dict(model.config.id2label),
        "hooks": hooks,
        "random": torch.random.get_rng_state(),
    }


def check_unchanged(model: Any, before: dict[str, Any]) -> None:
    after = state(model)
    assert before["tensors"].keys() == after["tensors"].keys()
    assert all(torch.equal(before["tensors"][key], after["tensors"][key]) for key in before["tensors"])
    assert torch.equal(before.pop("random"), after.pop("random"))
    assert {**before, "tensors": None} == {**after, "tensors": None}


def refused(model: Any, folder: Path, error: type[Exception], said: str = "") -> None:
    before = state(model)
    with pytest.raises(error, match=said or None) as caught:
        model.load_adapter(folder, load_as="other", set_active=True)
    assert isinstance(caught.value, AdapterHubError)
    check_unchanged(model, before)


def damaged_tensors(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path, str], None]:
    def damage(folder: Path, kind: str) -> None:
        tensors = load_file(folder / WEIGHTS[kind])
        change(tensors)
        save_file(tensors, folder / WEIGHTS[kind])

    return damage


def first(tensors: dict[str, Tensor]) -> str:
    return next(key for key in sorted(tensors) if tensors[key].numel() > 1)


def poison(tensors: dict[str, Tensor]) -> None:
    tensors[first(tensors)].view(-1)[0] = torch.inf


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors[next(key for key in sorted(tensors, reverse=True) if "classifier" not in key)]


def more(tensors: dict[str, Tensor]) -> None:
    for key in [key for key in tensors if ".layer.1." in key]:
        tensors[key.replace(".layer.1.", ".layer.7.")] = tensors[key].clone()


def wider(tensors: dict[str, Tensor]) -> None:
    for key in [key for key in tensors if "classifier" not in key]:
        tensors[key] = torch.cat([tensors[key]] * 2, dim=-1).contiguous()


def truncated(folder: Path, kind: str) -> None:
    data = (folder / WEIGHTS[kind]).read_bytes()
    (folder / WEIGHTS[kind]).write_bytes(data[: len(data) // 2])


def no_json(folder: Path, kind: str) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", ')


def linked(name: Callable[[str], str]) -> Callable[[Path, str], None]:
    def damage(folder: Path, kind: str) -> None:
        path = folder / name(kind)
        outside = folder.parent / f"outside-{path.name}"
        path.rename(outside)
        path.symlink_to(outside)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path, str], None], type[Exception], str]] = {
    "not finite": (damaged_tensors(poison), CorruptCheckpointError, "not finite"),
    "a tensor too few": (damaged_tensors(drop), CheckpointError, ""),
    "tensors of another layer": (damaged_tensors(more), TensorMismatchError, r"layer\.7"),
    "another shape": (damaged_tensors(wider), AdapterHubError, ""),
    "truncated": (truncated, CorruptCheckpointError, "Copy it again"),
    "no JSON": (no_json, CorruptCheckpointError, "is not JSON"),
    "weights by a link": (linked(lambda kind: WEIGHTS[kind]), CorruptCheckpointError, "out of the folder"),
    "options by a link": (linked(lambda kind: "adapter_config.json"), CorruptCheckpointError, "out of the folder"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("kind", "label"), CASES)
def test_what_is_damaged_changes_nothing(
    kind: str, label: str, damage: str, models: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree((goldens.ADAPTERS if kind == "adapters" else goldens.PEFT) / label, folder)
    harm, error, said = DAMAGES[damage]
    harm(folder, kind)
    refused(models[kind], folder, error, said)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.floats(-2, 2),
    st.sampled_from(["", "q", "(", "all", "lora", "../..", "pissa"]),
    st.lists(st.sampled_from(["query", "..", "q"]), max_size=2),
    st.dictionaries(st.sampled_from(["query", "("]), st.integers(-1, 4), max_size=1),
)


@pytest.mark.parametrize(
    ("kind", "label"), [("adapters", "bert-lora"), ("adapters", "bert-compacter"), ("peft", "patterns")]
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_options_that_were_altered_load_or_change_nothing(
    kind: str, label: str, data: Any, models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("altered") / "folder"
    shutil.copytree((goldens.ADAPTERS if kind == "adapters" else goldens.PEFT) / label, folder)
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text())
    options = content if kind == "peft" else content["config"]
    for name in data.draw(st.lists(st.sampled_from(sorted(options)), min_size=1, max_size=2, unique=True)):
        options[name] = data.draw(VALUES)
    path.write_text(json.dumps(content))
    model = models[kind]
    before = state(model)
    try:
        model.load_adapter(folder, load_as="other", with_head=False)
    except AdapterHubError:
        check_unchanged(model, before)
    else:
        model.delete_adapter("other")


@pytest.mark.parametrize("option", ["target_modules", "rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("text", ["(", "a(?i)b"])
def test_what_is_no_regular_expression_is_said(option: str, text: str, models: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(goldens.PEFT / "patterns", tmp_path / "folder")
    path = tmp_path / "folder" / "adapter_config.json"
    content = json.loads(path.read_text())
    content[option] = text if option == "target_modules" else {text: 2}
    path.write_text(json.dumps(content))
    before = state(models["peft"])
    with pytest.raises(ConfigError, match="no regular expression"):
        models["peft"].load_adapter(tmp_path / "folder", load_as="other", with_head=False)
    check_unchanged(models["peft"], before)


def test_a_setup_of_which_a_part_is_damaged(tmp_path: Path) -> None:
    shutil.copytree(goldens.ADAPTERS / "bert-setup", tmp_path / "setup")
    model = goldens.flexible("bert")
    model.load_adapter(goldens.ADAPTERS / "bert-double", load_as="mine", set_active=True)
    before = state(model)
    truncated(tmp_path / "setup" / "c", "adapters")
    with pytest.raises(CorruptCheckpointError):
        model.load_adapter_setup(tmp_path / "setup", set_active=True)
    check_unchanged(model, before)
    shutil.rmtree(tmp_path / "setup" / "c")
    (tmp_path / "setup" / "c").symlink_to(goldens.ADAPTERS / "bert-setup" / "c")
    with pytest.raises(CorruptCheckpointError, match="leads out of the folder"):
        model.load_adapter_setup(tmp_path / "setup", set_active=True)
    check_unchanged(model, state(model))
