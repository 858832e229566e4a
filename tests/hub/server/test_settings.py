"""The settings: documented, and the same in every worker."""

import json
import runpy
from pathlib import Path

import pytest

from adapterhub.hub.server.serving import _environment
from adapterhub.hub.server.settings import Settings

ROOT = Path(__file__).parents[3]


def test_every_setting_is_in_the_documentation() -> None:
    table = runpy.run_path(str(ROOT / "docs" / "hooks" / "generate.py"))["settings"]()
    missing = [name for name in Settings.model_fields if f"`ADAPTERHUB_{name.upper()}`" not in table]
    assert missing == []


def test_workers_have_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(
        directory=tmp_path,
        secret="a secret",
        trusted_proxies=["10.0.0.1"],
        access_log=True,
        mirror_tokens={"https://hub": "ah_token"},
        storage_options={"endpoint": "http://x"},
    )
    for name, value in _environment(given).items():
        monkeypatch.setenv(name, value)
    assert Settings() == given
    assert "ah_token" not in repr(given) and "ah_token" not in json.dumps(given.model_dump(mode="json"))
