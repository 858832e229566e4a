"""The commands on a tiny model: what they print, where, and how they end."""

import io
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest

import adapterhub
import tiny
import tokens
from adapterhub.cli import app, main
from adapterhub.training.classifier import load_classifier, predict
from adapterhub.training.evaluation import describe_adapter, evaluate_classifier, sites_of

COMMANDS = (
    "quickstart",
    "train",
    "evaluate",
    "predict",
    "compare",
    "sites",
    "summary",
    "convert",
    "shrink",
    "sweep",
)


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command line in this process."""

    datasets.disable_progress_bars()  # as the program does by its environment

    def do(*arguments: object) -> Ended:
        capsys.readouterr()
        code = app.run([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return do


def training(data: Path, backbone: Path, output: Path, *more: object) -> list[object]:
    given = ["train", data, "-m", backbone, "-o", output, "--adapter", "seq_bn[reduction_factor=4]"]
    return [*given, "--epochs", 2, "--batch-size", 8, *more]


# All commands


def test_every_command_has_help(run: Any) -> None:
    listed = run("--help")
    assert listed.code == 0 and all(name in listed.out for name in COMMANDS)
    for name in COMMANDS:
        shown = run(name, "-h")
        assert shown.code == 0 and "Usage: adapterhub " + name in shown.out and "--json" in shown.out


def test_the_version_is_printed(run: Any) -> None:
    assert run("--version").out.strip() == adapterhub.__version__


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["train"],
        ["train", "data", "--epochs", "0"],
        ["train", "data", "--resume", "--overwrite"],
        ["train", "data", "--no-such-option"],
        ["predict", "adapter"],
        ["compare", "reviews", "--lr", "full"],
        ["compare", "reviews", "--lr", "full=much"],
        ["sweep", "reviews", "--learning-rates", "much"],
        ["sweep", "reviews", "--seeds", "a-b"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], run: Any) -> None:
    ended = run(*arguments)
    assert ended.code == 2 and ended.out == "" and "Traceback" not in ended.err
    assert "Usage" in ended.err or "Error" in ended.err


def test_without_a_command_help_is_shown(run: Any) -> None:
    ended = run()
    assert ended.code == 2 and "quickstart" in ended.out + ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nothing.csv"], "nothing.csv"),
        (["evaluate", "nowhere", "reviews"], "nowhere"),
        (["predict", "nowhere", "text"], "nowhere"),
        (["sites", "./nowhere"], "nowhere"),
        (["summary", "./nowhere"], "nowhere"),
        (["compare", "reviews", "--method", "seq_bm"], "seq_bn"),
        (["train", "reviews", "--adapter", "seq_bn[reduction=2]"], "reduction_factor"),
        (["compare", "reviews", "-m", "./nowhere"], "nowhere"),
    ],
)
def test_an_error_is_1_and_a_few_words(
    arguments: list[str], words: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    assert ended.code == 1 and ended.out == ""
    assert "error: " in ended.err and words in ended.err and "Traceback" not in ended.err
    assert len(ended.err.splitlines()) < 8 and not list(tmp_path.iterdir())
    as_json = run(*arguments, "--json")
    error = as_json.json["error"]
    assert as_json.code == 1 and words in error["message"] and error["type"].endswith("Error")


def test_a_traceback_is_for_those_who_ask(run: Any, tmp_path: Path) -> None:
    with pytest.raises(adapterhub.errors.DataError):
        run("train", tmp_path / "nothing.csv", "--debug")


def test_an_error_not_foreseen_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("[red] gears")

    monkeypatch.setattr("adapterhub.training.evaluation.sites_of", broken)
    ended = run("sites", "x")
    assert ended.code == 1 and "RuntimeError: [red] gears" in ended.err and "--debug" in ended.err


def test_an_interruption_is_130(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterhub.training.evaluation.sites_of", lambda name: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    ended = run("sites", "x")
    assert ended.code == 130 and ended.err.strip() == "Interrupted."
    assert signal.getsignal(signal.SIGTERM) is before


def test_main_exits_with_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code in ((["--version"], 0), (["nonsense"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == code


def test_without_its_packages_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['typer'] = None; from adapterhub.cli import main; main(['--version'])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "pip install 'adapterhub[train]'" in ended.stderr
    assert "Traceback" not in ended.stderr


# Train


def test_train_saves_an_adapter_and_says_how_to_use_it(
    run: Any, labelled: Path, backbone: Path, tmp_path: Path
) -> None:
    ended = run(*training(labelled, backbone, tmp_path / "out", "--label-names", "bad,good"))
    assert ended.code == 0
    assert re.search(r"test\s+accuracy \d+\.\d %, macro F1 \d+\.\d %", ended.out)
    assert f"adapterhub predict {tmp_path}/out/adapter 'your own text'" in ended.out
    assert "sentences: 48 train, 16 validation, 16 test rows; labels bad, good" in ended.err
    assert "epoch 1/2" in ended.err and "epoch 2/2, validation" in ended.err
    assert load_classifier(tmp_path / "out" / "adapter")[0].get_labels() == ["bad", "good"]


def test_fast_says_what_it_trades_and_leaves_a_usual_adapter(
    run: Any, labelled: Path, backbone: Path, tmp_path: Path
) -> None:
    command = training(labelled, backbone, tmp_path / "out", "--fast", "--trunk-cache", tmp_path / "states")
    ended = run(*command)
    assert ended.code == 0
    assert "adapters act in the upper 1 of 2 layers; what layers below give is computed once a text" in ended.err
    assert "hidden states of 48 rows below layer 1" in ended.err
    assert len(list((tmp_path / "states").glob("*/states.safetensors"))) == 2
    assert describe_adapter(tmp_path / "out/adapter")["options"]["leave_out"] == (0,)
    again = run(*command)
    assert "hidden states" not in again.err and again.out == ended.out
    score = run("evaluate", tmp_path / "out/adapter", labelled, "--json").json["accuracy"]
    assert score == pytest.approx(json.loads((tmp_path / "out/metrics.json").read_text())["test_accuracy"])
    refused = run(*training(labelled, backbone, tmp_path / "3", "--trunk-cache", tmp_path / "states"))
    assert refused.code == 1 and "no layer can be left out" in refused.err


def test_quiet_is_quiet_and_json_is_one_document(run: Any, labelled: Path, backbone: Path, tmp_path: Path) -> None:
    ended = run(*training(labelled, backbone, tmp_path / "out", "--json", "--quiet"))
    assert ended.code == 0 and ended.err == ""
    assert ended.json["test_accuracy"] == json.loads((tmp_path / "out/metrics.json").read_text())["test_accuracy"]
    assert ended.json["settings"]["method"] == "seq_bn[reduction_factor=4]"


def test_a_training_that_learns_nothing_says_so(run: Any, labelled: Path, backbone: Path, tmp_path: Path) -> None:
    assert "nothing was learnt" in run(*training(labelled, backbone, tmp_path, "--lr", 0)).out


def test_an_interrupted_training_goes_on_by_the_command_shown(
    run: Any, labelled: Path, backbone: Path, tmp_path: Path
) -> None:
    command = [str(each) for each in training(labelled, backbone, tmp_path / "cut")]
    command[command.index("--epochs") + 1] = "60"
    with subprocess.Popen(
        [sys.executable, "-m", "adapterhub.cli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if "epoch 3/60" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert "checkpoint-" in err and "Go on by:" in err
    again = shlex.split(err.splitlines()[-1])
    assert again == ["adapterhub", *command, "--resume"]
    refused = run(*command)
    assert refused.code == 1 and "--resume" in refused.err and "--overwrite" in refused.err
    other = run(*command, "--resume", "--lr", "5e-3")
    assert other.code == 1 and "learning_rate 0.001 then, 0.005 now" in other.err
    assert run(*again[1:]).code == 0
    whole = [argument.replace(str(tmp_path / "cut"), str(tmp_path / "whole")) for argument in command]
    assert run(*whole).code == 0
    assert tokens.adapter_bytes(tmp_path / "cut") == tokens.adapter_bytes(tmp_path / "whole")


# Evaluate and predict


def test_evaluate_shows_what_the_library_measures(run: Any, adapter: Path, labelled: Path) -> None:
    options = {"label_names": ["bad", "good"]}
    expected = evaluate_classifier(adapter, str(labelled), "all", data_options=options)
    ended = run("evaluate", adapter, labelled, "--split", "all", "--label-names", "bad,good", "--json")
    assert ended.code == 0 and ended.json == expected
    shown = run("evaluate", adapter, labelled, "--split", "all", "--label-names", "bad,good").out
    assert f"{100 * expected['accuracy']:.1f} %" in shown and "80 (sentences, all)" in shown


TEXTS = ["the film is good", "the soup was [bold]awful[/bold]", "ünïcode \\ text", "not a new\u2028line"]


def test_predict_takes_texts_a_file_and_standard_input(
    run: Any, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = json.loads(json.dumps(predict(*load_classifier(adapter), TEXTS)))
    assert run("predict", adapter, *TEXTS, "--json").json == expected
    (tmp_path / "texts").write_text("\n".join([*TEXTS, "", ""]), encoding="utf-8")
    assert run("predict", adapter, "--file", tmp_path / "texts", "--json").json == expected
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS)))
    assert run("predict", adapter, "-", "--json").json == expected
    shown = run("predict", adapter, *TEXTS)
    assert all(text in shown.out for text in TEXTS[:3]) and f"{expected[0]['score']:.2f}" in shown.out


def test_predict_writes_a_file(run: Any, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    target = tmp_path / "out.jsonl"
    ended = run("predict", adapter, "--in", tmp_path / "texts.txt", "--out", target, "--precision", "own", "--json")
    assert ended.json == {"rows": len(TEXTS), "resumed": 0, "precision": None, "answers": str(target)}
    wanted = predict(*load_classifier(adapter), TEXTS)
    for line, one in zip(target.read_text().rstrip().split("\n"), wanted, strict=True):
        assert json.loads(line) == one | {"score": pytest.approx(one["score"])}
    assert str(target) in run("predict", adapter, "-i", tmp_path / "texts.txt", "-o", target).out
    for arguments in (["--in", "x"], ["--out", "x.csv"], ["text", "--in", "x", "--out", "y.csv"]):
        assert run("predict", adapter, *arguments).code == 2
    assert run("predict", adapter, "--in", "nowhere.csv", "--out", target).code == 1
    assert run("predict", adapter, "a", "--precision", "fp64").code == 1


def test_predict_with_another_head(run: Any, backbone: Path, tmp_path: Path) -> None:
    model = adapterhub.AutoAdapterModel.from_pretrained(backbone)
    model.add_adapter("a")
    model.add_custom_head("sentence_embedding", "a", width=3)
    model.save_adapter(tmp_path / "a", "a")
    (answer,) = run("predict", tmp_path / "a", "the film", "-m", backbone, "--json").json
    assert answer["text"] == "the film" and len(answer["embedding"]) == 3
    assert "the film" in run("predict", tmp_path / "a", "the film", "-m", backbone).out
    model.add_custom_head("question_answering", "a", overwrite_ok=True)
    model.save_adapter(tmp_path / "qa", "a")
    (answer,) = run("predict", tmp_path / "qa", "is it\tthe film is good", "-m", backbone, "--json").json
    assert answer["answer"] in "the film is good" and answer["end"] > answer["start"]


def test_predict_with_no_text_or_no_such_file(run: Any, adapter: Path, tmp_path: Path) -> None:
    assert run("predict", adapter).code == 2
    missing = run("predict", adapter, "--file", tmp_path / "missing")
    assert missing.code == 2 and "No such file" in missing.err
    (tmp_path / "empty").write_text("\n")
    assert run("predict", adapter, "--file", tmp_path / "empty").code == 2


def test_predict_ends_quietly_when_its_reader_goes_away(adapter: Path, tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "adapterhub.cli", "predict", str(adapter), "-q", *TEXTS])
    ended = subprocess.run(["bash", "-c", f"{command} | true"], capture_output=True, text=True, check=False)
    assert "Traceback" not in ended.stderr and "BrokenPipe" not in ended.stderr


def test_pairs_come_with_a_tab(run: Any, backbone: Path, tmp_path: Path) -> None:
    rows = [{"premise": r["text"], "hypothesis": "it is good", "label": r["label"]} for r in tokens.sentences(60)]
    data = tokens.write_csv(tmp_path / "pairs.csv", rows)
    assert run(*training(data, backbone, tmp_path, "--epochs", 1)).code == 0
    ended = run("predict", tmp_path / "adapter", "the film is good\tit is bad")
    assert ended.code == 0 and "the film is good / it is bad" in ended.out
    assert run("predict", tmp_path / "adapter", "the film is good").code == 1


# Sites and summary


def test_sites_are_shown_layer_by_layer(run: Any, tmp_path: Path) -> None:
    tiny.config("gpt2").save_pretrained(tmp_path)
    ended = run("sites", tmp_path)
    found = sites_of(str(tmp_path))
    assert ended.code == 0 and f"GPT2Model: {len(found.layers)} layers" in ended.out
    assert "layers.0-1  attention" in ended.out and "feed-forward" in ended.out
    assert run("sites", tmp_path, "--json").json == json.loads(json.dumps(found.to_dict()))


def test_a_sweep_shows_what_passes_and_why_the_rest_does_not(run: Any, tmp_path: Path) -> None:
    ended = run("sites", "--sweep", "--only", "bert", "--only", "resnet", "-o", tmp_path)
    assert ended.code == 0 and "looked for a list of" in ended.out
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    found = run("sites", "--sweep", "--only", "bert", "-o", tmp_path, "--json").json
    assert found["architectures"][0]["name"] == "bert" and "transformers" in found["versions"]
    assert run("sites", "--sweep", "--only", "brt", "-o", tmp_path).code == 1


@pytest.mark.parametrize("arguments", [(), ("bert", "--sweep")])
def test_sites_are_of_one_model_or_of_all(run: Any, arguments: tuple[str, ...]) -> None:
    assert run("sites", *arguments).code == 2


def test_summary_of_an_adapter_and_of_a_model(run: Any, adapter: Path, backbone: Path) -> None:
    values = describe_adapter(adapter)
    ended = run("summary", adapter)
    assert f"{values['parameters']:,}" in ended.out and "bad, good" in ended.out and "bert" in ended.out
    assert run("summary", adapter, "--json").json == json.loads(json.dumps(values))
    bare = run("summary", backbone)
    assert bare.code == 0 and "none" in bare.out and "width 32" in bare.out


def test_summary_of_a_model_with_adapters(run: Any, tmp_path: Path) -> None:
    model = adapterhub.AutoAdapterModel.from_config(tiny.config("bert"))
    model.add_adapter("first")
    model.save_pretrained(tmp_path)
    shown = run("summary", tmp_path).out
    row = model.adapter_summary().rows()[0]
    assert "first" in shown and f"{row['parameters']:,}" in shown and f"{row['percent']:.3f}" in shown


# Compare and quickstart


def test_compare_and_quickstart_are_resumed_from_their_folder(
    run: Any, labelled: Path, backbone: Path, tmp_path: Path
) -> None:
    """The second time everything is there; what a first time does is tested where the work is done."""
    given = ["compare", labelled, "-m", backbone, "-o", tmp_path, "--epochs", 1, "--method", "head"]
    given += ["--lr", "head=1e-2", "--seeds", 1]
    first = run(*given)
    assert first.code == 0 and "Head only reached" in first.out and "report.html" in first.out
    assert "0 %  head, rate 0.01, seed 0" in first.err
    started = time.monotonic()
    again = run(*given, "--json")
    assert again.code == 0 and again.json["methods"][0]["method"] == "head" and again.err.strip() == ""
    assert time.monotonic() - started < 5
    assert (tmp_path / "report.html").exists() and (tmp_path / "comparison.json").exists()


def test_quickstart_shows_what_it_found(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*given: Any, **more: Any) -> None:
        assert given == ("minilm", "reviews", tmp_path) and more["seeds"] is None and more["seed"] == 4
        raise KeyboardInterrupt

    monkeypatch.setattr("adapterhub.training.quickstart.quickstart", interrupted)
    ended = run("quickstart", "-o", tmp_path, "--seed", 4)
    assert ended.code == 130 and f"finished runs are kept in {tmp_path}" in ended.err
    assert f"adapterhub quickstart -o {tmp_path} --seed 4" in ended.err


# shrink


def test_shrink_stores_and_searches(run: Any, adapter: Path, labelled: Path, tmp_path: Path) -> None:
    ended = run("shrink", adapter, "-o", tmp_path / "a", "--json")
    assert ended.json["after"]["bytes"] < ended.json["before"]["bytes"] and ended.json["after"]["accuracy"] is None
    options = ("--data", labelled, "--label-names", "bad,good")
    shown = run("shrink", adapter, "-o", tmp_path / "b", "--max-drop", "10", *options).out
    assert "hidden units" in shown and "int4" in shown and "validation" in shown
    assert run("shrink", adapter, "-o", tmp_path / "c", "--keep", "0.5").code == 2
    assert run("shrink", adapter, "-o", tmp_path / "c", "--dtype", "int7").code == 1
    assert not (tmp_path / "c").exists()


# Sweep


def test_sweep_shows_what_was_tried_and_keeps_the_best(
    run: Any, labelled: Path, backbone: Path, tmp_path: Path
) -> None:
    command = ["sweep", labelled, "-m", backbone, "--out", tmp_path / "out", "--learning-rates", "1e-3,3e-2"]
    command += ["--seeds", "0-1", "--sizes", "4", "--epochs", 1, "--batch-size", 8]
    ended = run(*command)
    assert ended.code == 0
    assert re.search(r"^seq_bn-4-\S+-seed-[01]: \d+\.\d % on validation, \d+\.\d % on test", ended.out)
    assert all(re.search(rf"seq_bn\s+4\s+{rate}\s+\d+\.\d ± \d+\.\d\s+2", ended.out) for rate in (0.001, 0.03))
    assert ended.out.count("best") == 1 and f"predict {tmp_path}/out/adapter" in ended.out
    assert load_classifier(tmp_path / "out" / "adapter")[0].get_labels() == ["LABEL_0", "LABEL_1"]
    again = run(*command, "--json")
    assert again.json["chosen"]["name"] in ended.out and len(again.json["tried"]) == 2
    refused = run(*command, "--trunk-cache", tmp_path / "states", "--overwrite")
    assert refused.code == 1 and "no layer can be left out" in refused.err
