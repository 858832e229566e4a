"""A classifier with an adapter of ``adapters`` in a transformers pipeline, timed over all texts at a time.

Arguments: how (plain, best), the adapter's folder, a JSON file with the texts. ``plain`` is a pipeline as it comes,
``best`` in bfloat16, with batches of 32 texts sorted by length.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import adapters
import torch
from transformers import AutoTokenizer, TextClassificationPipeline

from worker import backbone
from workers import answer, report


def main(how: str, folder: str, file: str) -> None:
    texts = json.loads(Path(file).read_text(encoding="utf-8"))
    model = adapters.AutoAdapterModel.from_pretrained(backbone())
    model.load_adapter(folder, set_active=True, use_safetensors=True)
    options = {}
    order = list(range(len(texts)))
    tokenizer = AutoTokenizer.from_pretrained(backbone(), model_max_length=128)
    if how == "best":
        model.to(torch.bfloat16)
        options["batch_size"] = 32
        order.sort(key=lambda index: -len(texts[index]))
    pipeline = TextClassificationPipeline(model=model.eval(), tokenizer=tokenizer)

    def predict() -> list[str]:
        found = pipeline([texts[index] for index in order], truncation=True, **options)
        return [label for _, label in sorted(zip(order, (one["label"] for one in found), strict=True))]

    def steps(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            predict()
            seconds.append(time.perf_counter() - start)
        return seconds

    about = {package: version(package) for package in ("torch", "transformers", "adapters")}
    report(about | {"threads": torch.get_num_threads(), "labels": predict()})
    answer(steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
