"""Classifying the test rows of Rotten Tomatoes: our defaults against a pipeline with an adapter of ``adapters`` 1.3.0.

Both have the same weights: an adapter that ``adapterhub train`` made, written in the format of the other library. Then
precisions against ways of batching, ours alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from adapterhub import Predictor
from adapterhub.training.classifier import load_classifier
from adapterhub.training.data import load_data
from workers import OURS, PEERS, ROOT, THREADS, Worker, interleave, machine, save, summary

ADAPTER = ROOT / "runs" / "benchmark-predict" / "adapter"
PRECISIONS = ("fp32", "bf16", "int8")
BATCHES = {"one by one": 1, "512 tokens": 512, "1024 tokens": 1024, "2048 tokens": 2048, "8192 tokens": 8192}


class Ours:
    """Passes over all texts in this process."""

    def __init__(self, predict: Callable[[], Any]) -> None:
        self.predict = predict

    def time(self, steps: int) -> list[float]:
        """Seconds of each of ``steps`` passes."""
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            self.predict()
            seconds.append(time.perf_counter() - start)
        return seconds


def against_peer(loaded: Any, texts: Sequence[str], gold: Sequence[str], rounds: int) -> dict[str, Any]:
    """Rows a second of both, and how far their labels agree with each other and with those of the data."""
    model, tokenizer = loaded
    predictor = Predictor(model, tokenizer)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        (name,) = model.adapters
        model.save_adapter(Path(folder) / "peer", name, format="adapters")
        (file := Path(folder) / "texts.json").write_text(json.dumps(list(texts)), encoding="utf-8")
        peers = {}
        for key, how in {"adapters": "plain", "adapters_best": "best"}.items():
            peers[key] = Worker(PEERS, how, str(Path(folder) / "peer"), str(file), script="predict_worker.py")
            stack.callback(peers[key].close)
        about = {key: peer.about for key, peer in peers.items()}
        times = interleave({"ours": Ours(lambda: predictor.predict(texts)), **peers}, rounds, 1)
    labels = {"ours": [answer["label"] for answer in predictor.predict(texts)]}
    labels |= {key: one.pop("labels") for key, one in about.items()}
    result = with_rates(summary(times, dict.fromkeys(peers, "ours")), len(texts))
    for key, own in labels.items():
        result[key]["accuracy"] = share(own, gold)
        result[key]["labels_as_ours"] = share(own, labels["ours"])
    return {"results": result, "workers": about, "precision": predictor.precision, "budget": predictor.token_budget}


def table(loaded: Any, texts: Sequence[str], gold: Sequence[str], rounds: int) -> dict[str, Any]:
    """Every precision with every way of batching, and the first compiled too, with what compilation took."""
    predictors = {
        f"{precision}, {how}": Predictor(*loaded, precision=precision, token_budget=budget)
        for precision in PRECISIONS
        for how, budget in BATCHES.items()
    }
    compilation = {}
    for precision in PRECISIONS[:2]:
        key = f"{precision}, compiled"
        predictors[key] = Predictor(*loaded, precision=precision, compile=True)
        start = time.perf_counter()
        predictors[key].predict(texts)
        compilation[key] = round(time.perf_counter() - start, 1)
    times = interleave({key: Ours(lambda one=one: one.predict(texts)) for key, one in predictors.items()}, rounds, 1)
    result = with_rates(summary(times, dict.fromkeys(predictors, "fp32, one by one")), len(texts))
    for key, predictor in predictors.items():
        result[key]["accuracy"] = share([answer["label"] for answer in predictor.predict(texts)], gold)
    return {"results": result, "first_pass_seconds": compilation}


def with_rates(results: dict[str, dict[str, Any]], rows: int) -> dict[str, dict[str, Any]]:
    return {key: {"rows_a_second": round(1000 * rows / one["milliseconds"], 1), **one} for key, one in results.items()}


def share(one: Sequence[str], other: Sequence[str]) -> float:
    """Of two lists of labels, the share in which they are equal."""
    return round(sum(a == b for a, b in zip(one, other, strict=True)) / len(one), 5)


def trained(data: Path) -> Path:
    """The folder of an adapter for the data; trained now, if there is none."""
    if not ADAPTER.exists():
        command = [str(OURS), "-m", "adapterhub", "train", str(data), "-o", str(ADAPTER.parent), "--overwrite"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return ADAPTER


def main(arguments: Mapping[str, Any]) -> None:
    before = machine()
    torch.set_num_threads(THREADS)
    data = load_data(arguments["data"])
    loaded = load_classifier(arguments["adapter"] or trained(arguments["data"]))
    rows = data.test[: arguments["rows"]]
    texts, gold = rows["text"], [data.labels[label] for label in rows["label"]]
    about = {package: version(package) for package in ("adapterhub", "torch", "transformers")}
    result = {"machine": before, "threads": THREADS, "versions": about, "rows": len(texts)}
    result |= {"rounds": arguments["rounds"], "against_peer": against_peer(loaded, texts, gold, arguments["rounds"])}
    if arguments["table_rounds"]:
        result["table"] = table(loaded, texts, gold, arguments["table_rounds"])
    save(arguments["name"], result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=9)
    parser.add_argument("--table-rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="rows of the test split; all by default")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "rotten_tomatoes")
    parser.add_argument("--adapter", type=Path, help="trained by default")
    parser.add_argument("--name", default="predict", help="of the result")
    main(vars(parser.parse_args()))
