"""How long training will take, by trying a few steps of it."""

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace

import torch
from transformers import AutoTokenizer

from adapterhub.inference.precision import training_precision
from adapterhub.training.backbones import loading, resolve_backbone
from adapterhub.training.data import TextData
from adapterhub.training.dropout import fast_dropout
from adapterhub.training.frozen import frozen_modules, half_precision_base, stop_dropout
from adapterhub.training.preparing import build_model, tokenize
from adapterhub.training.settings import Settings

_START = 10.0  # seconds until a process of its own has imported everything and read data and model
_EVALUATION = 0.35  # of the time of a training step, for as many rows
_STEPS = 3


def estimate_seconds(settings: Settings, data: TextData, runs: Mapping[str, int]) -> float:
    """Seconds for so many runs of each method, if none ends early; good to some 30 %.

    Raises:
        BackboneError: if the base model cannot be loaded.
    """
    return sum(count * _seconds_of_run(replace(settings, method=method), data) for method, count in runs.items())


def _seconds_of_run(settings: Settings, data: TextData) -> float:
    steps = settings.epochs * math.ceil(len(data.train) / settings.batch_size)
    evaluated = (settings.epochs + 1) * len(data.validation) + len(data.test)
    step = _seconds_of_step(settings, data)
    return _START + step * (steps + _EVALUATION * evaluated / settings.batch_size)


def _seconds_of_step(settings: Settings, data: TextData) -> float:
    """Mean over steps on rows spread over the training data, each batch padded as its longest row needs."""
    backbone = resolve_backbone(settings.model)
    with loading(settings.model):
        tokenizer = AutoTokenizer.from_pretrained(backbone)
        model = build_model(settings, data, backbone, "estimate").train()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)
    if not settings.base_dropout:
        stop_dropout(frozen_modules(model))
    half = training_precision(settings.precision) == "bf16"
    autocast = torch.autocast(device.type, torch.bfloat16) if half else nullcontext()
    count = min(len(data.train), (_STEPS + 1) * settings.batch_size)
    stride = max(1, len(data.train) // count)
    rows = tokenize(data.train.select(range(0, stride * count, stride)), tokenizer, settings.max_length)
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))  # as training groups them
    times = []
    for first in range(0, len(rows), settings.batch_size):
        batch = tokenizer.pad(rows[first : first + settings.batch_size], return_tensors="pt").to(device)
        started = time.perf_counter()
        with fast_dropout(), half_precision_base(model) if half else nullcontext():
            with autocast:
                loss = model(**batch).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    timed = times[1:] or times  # the first step warms up
    return sum(timed) / len(timed)
