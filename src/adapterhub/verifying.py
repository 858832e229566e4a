"""Measuring a published adapter again, and having its hub keep what was found."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.client.connection import Connection
from adapterhub.hub.client.pulling import pull
from adapterhub.hub.client.resolving import Wanted
from adapterhub.training.evaluation import evaluate_classifier
from adapterhub.training.progress import Progress

_METRICS = ("accuracy", "macro_f1")


def verify(
    name: str,
    source: str,
    split: str = "test",
    model: str | None = None,
    *,
    dataset: str | None = None,
    hub: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    record: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a classifier of a hub on labelled text, and record the scores there with what they were measured on.

    Args:
        name: the adapter, as ``adapterhub.pull`` takes it.
        source: the data, as ``adapterhub.training.load_data`` takes it.
        split: of the data; ``"all"`` takes every row.
        model: another base model than the one that the adapter names.
        dataset: what the hub calls the data (``task/dataset``); by default, what the adapter is in its catalogue for.
        hub: the address of a hub; by default the first one that has the adapter.
        data_options: more for ``load_data``.
        record: tell the hub, which shows the scores as verified if the adapter is somebody else's.
        progress: is told how far it is.

    Returns the scores in [0, 1] with their 95 % confidence interval where there is one, what the card claims, the
    evidence, and whether the hub took them as verified (None if it was not told).

    Raises:
        HubNotFoundError: if no hub has the adapter.
        HubError: if it is on the Hugging Face Hub, which takes no scores, or if it is not said for what data it is.
        DataError, LabelMismatchError, BackboneError, CheckpointError: as ``evaluate_classifier``.
    """
    pulled = pull(name, Wanted(base=model), hub=hub)
    if (found := pulled.found) is None:
        raise HubError(f"{name} is on the Hugging Face Hub, which takes no scores: publish it on a hub of adapters")
    with Connection(found.hub) as connection:
        told = connection.get(f"/api/v1/adapters/{found.repository}", revision=found.commit)
    task, _, data = (dataset or "/".join(filter(None, (told["task"] or told["language"], told["dataset"])))).partition(
        "/"
    )
    if not (task and data):
        raise HubError(f"{found.repository} does not say which data set it is for: give it as task/dataset")
    values = evaluate_classifier(pulled.folder, source, split, model, data_options=data_options, progress=progress)
    measured = {
        "commit": found.commit,
        "task": task,
        "dataset": data,
        "split": split,
        "metrics": {metric: values[metric] for metric in _METRICS},
        "intervals": {"accuracy": _interval(values["accuracy"], values["rows"])},
        "rows": values["rows"],
        "evidence": {
            "data": values["data"],
            "data_sha256": values["data_sha256"],
            "base": told["base"],
            "versions": {package: version(package) for package in ("adapterhub", "torch", "transformers")},
        },
    }
    verified = None
    if record:
        with Connection(found.hub) as connection:
            kept = connection.post(f"/api/v1/adapters/{found.repository}/scores", measured)
        verified = all(score["verified"] for score in kept)
    claimed = {score["metric"]: score["value"] for score in told["scores"] if not score["verified"]}
    return measured | {"repository": found.repository, "claimed": claimed, "verified": verified}


def _interval(accuracy: float, rows: int) -> dict[str, float]:
    """The 95 % confidence interval of a share of rows (Wilson 1927)."""
    from scipy.stats import binomtest

    found = binomtest(round(accuracy * rows), rows).proportion_ci(method="wilson")
    return {"low": float(found.low), "high": float(found.high)}
