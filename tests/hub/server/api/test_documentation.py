"""The page about the API says what there is, and its examples are taken."""

import json
import re
from pathlib import Path

from adapterhub.hub.recipe import Recipe
from adapterhub.hub.server.api.resolving import Question
from adapterhub.hub.server.api.scores import Measured
from hub.server.api.description import description

PAGE = (Path(__file__).parents[4] / "docs" / "hub" / "api.md").read_text(encoding="utf-8")


def test_every_operation_is_on_the_page_and_no_other() -> None:
    told = set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`?]*)`", PAGE))
    there = {f"{method.upper()} {path}" for path, one in description()["paths"].items() for method in one}
    assert told == there


def test_examples_are_taken() -> None:
    measured, question, recipe = map(json.loads, re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    assert Measured.model_validate(measured).results()[0].high == 0.957
    assert Question.model_validate(question).method == "lora"
    assert Recipe.from_dict(recipe).to_dict() == recipe
