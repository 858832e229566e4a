"""The sweep as a whole: processes, time limits, what is kept, and the report."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adapterhub.errors import ConfigError
from adapterhub.sweep import Outcome, Report, examine, sweep
from adapterhub.sweep.checks import METHODS
from adapterhub.sweep.report import markdown
from adapterhub.sweep.run import read

# Forty of every kind: encoders, decoders, both; parallel blocks, fused projections, experts, latent attention,
# recurrence, Fourier transforms, sequence first, conformers, windows, several towers or streams, layers that differ.
# What is to be found in each: sublayers of attention (or in its place), cross-attention and feed-forward.
SUBSET = {
    "albert": (1, 0, 1),
    "aimv2": (4, 0, 4),
    "bart": (4, 2, 4),
    "beit": (2, 0, 2),
    "bert": (2, 0, 2),
    "big_bird": (2, 0, 2),
    "bloom": (2, 0, 2),
    "clip": (4, 0, 4),
    "codegen": (2, 0, 2),
    "convbert": (2, 0, 2),
    "deberta-v2": (2, 0, 2),
    "dia": (4, 2, 4),
    "dinov2": (2, 0, 2),
    "donut-swin": (8, 0, 8),
    "falcon": (2, 0, 2),
    "falcon_mamba": (2, 0, 0),
    "fnet": (2, 0, 2),
    "fsmt": (4, 2, 4),
    "gemma3_text": (4, 0, 4),
    "git": (4, 0, 4),
    "gpt2": (2, 0, 2),
    "gpt_neox": (2, 0, 2),
    "gpt_oss": (4, 0, 4),
    "gptj": (2, 0, 2),
    "hubert": (2, 0, 2),
    "lilt": (4, 0, 4),
    "llama": (2, 0, 2),
    "mamba": (2, 0, 0),
    "mpnet": (2, 0, 2),
    "olmoe": (2, 0, 2),
    "opt": (2, 0, 2),
    "parakeet_encoder": (2, 0, 6),
    "phi": (2, 0, 2),
    "rwkv": (2, 0, 2),
    "segformer": (4, 0, 4),
    "switch_transformers": (4, 2, 4),
    "t5": (4, 2, 4),
    "vit": (2, 0, 2),
    "wav2vec2": (2, 0, 2),
    "whisper": (4, 2, 4),
}
# Those in which attention does not ask the attention interface of transformers for its function.
NO_PREFIX = {
    "big_bird",
    "bloom",
    "codegen",
    "convbert",
    "deberta-v2",
    "donut-swin",
    "falcon",
    "falcon_mamba",
    "fnet",
    "fsmt",
}
NO_PREFIX |= {"gptj", "lilt", "mamba", "mpnet", "rwkv"}


@pytest.mark.parametrize("name", SUBSET)
def test_every_method_on_an_architecture(name: str) -> None:
    outcome = examine(name)
    kinds = ("attention", "cross_attention", "feed_forward")
    assert tuple(outcome.sublayers.get(kind, 0) for kind in kinds) == SUBSET[name]
    failed = {method: reason for method, reason in outcome.methods.items() if reason}
    assert set(failed) == ({"prefix"} if name in NO_PREFIX else set()), failed
    assert all("attention interface" in str(reason) for reason in failed.values())


# Those hard to build, to run or to read, and what is to be found in each.
HARD = {
    "blt": (7, 0, 7),
    "canine": (4, 0, 4),
    "dbrx": (2, 0, 2),
    "deepseek_v4": (3, 0, 3),
    "higgs_audio_v2": (2, 0, 4),
    "ibert": (2, 0, 2),
    "laguna": (3, 0, 3),
    "lxmert": (8, 0, 8),
    "moonshine_streaming": (6, 2, 6),
    "musicgen": (2, 0, 2),
    "qwen4_exp_text": (4, 0, 4),
    "voxtral_realtime": (4, 0, 4),
    "xlm": (2, 0, 2),
    "zamba": (4, 0, 2),
}


@pytest.mark.parametrize("name", HARD)
def test_bottleneck_and_lora_where_it_is_hard(name: str) -> None:
    outcome = examine(name)
    kinds = ("attention", "cross_attention", "feed_forward")
    assert tuple(outcome.sublayers.get(kind, 0) for kind in kinds) == HARD[name], outcome.methods
    assert outcome.passes("bottleneck") and outcome.passes("lora"), outcome.methods


def test_the_reason_of_a_no_is_told() -> None:
    outcome = examine("resnet")
    assert not any(outcome.passes(method) for method in METHODS)
    assert "looked for a list of modules" in str(outcome.methods["lora"]) and not outcome.text


def _failing(missing: list[str], *more: object) -> list[Outcome]:
    return [Outcome.failed(name, "x") for name in missing]


def test_outcomes_are_kept_and_not_sought_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterhub.sweep.run.names", lambda: ("bert", "resnet"))
    told: list[tuple[float, float, str]] = []
    report = sweep(folder=tmp_path, progress=lambda *values: told.append(values))
    assert told == [(1, 2, "bert"), (2, 2, "resnet")]
    assert report.counts()["all"] == {
        "architectures": 2,
        "bottleneck": 1,
        "lora": 1,
        "prefix": 1,
        "reft": 1,
        "bottleneck and LoRA": 1,
    }
    assert Report.read(tmp_path / "architectures.json") == report
    monkeypatch.setattr("adapterhub.sweep.run._outcomes", _failing)
    assert sweep(folder=tmp_path) == report
    assert not sweep(["bert"], tmp_path).architectures[0].passes("lora")  # by name it is sought again
    (kept,) = tmp_path.glob("*.jsonl")
    kept.write_text(kept.read_text()[:-20])  # interrupted while a line was written
    assert [outcome.name for outcome in read(kept)] == ["bert", "resnet"]


def test_what_takes_too_long_is_stopped(tmp_path: Path) -> None:
    (outcome,) = sweep(["bert"], tmp_path, limit=0.01).architectures
    assert outcome.methods == dict.fromkeys(METHODS, "took more than 0.01 seconds")


def test_a_name_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no base model of type 'brt'; near: bert"):
        sweep(["brt"], tmp_path)


def test_the_table_has_a_row_for_each_and_the_reason_of_each_no() -> None:
    good = Outcome("bert", "BertModel", True, ("",), 2, {"attention": 2}, 2, dict.fromkeys(METHODS))
    part = replace(good, name="mamba", prefixed=0, methods=good.methods | {"prefix": "a|b"})
    text = markdown(Report({"torch": "1"}, (good, part, Outcome.failed("x", "needs *y*"))))
    assert "| all base models | 3 | 2 | 2 | 1 | 2 | 2 |" in text
    assert "| bert | all four | 2 attention, 2 read prefixes |" in text
    assert "| mamba | bottleneck, LoRA, ReFT | 2 attention<br>prefix: a\\|b |" in text
    assert "| x | none | needs \\*y\\* |" in text
    assert json.dumps(Report({}, (good,)).to_dict())
