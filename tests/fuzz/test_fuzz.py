"""A few thousand runs of every fuzzing target; ``scripts/fuzz`` runs them for longer."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris")


@pytest.mark.parametrize("target", ["adapter", "card", "commit", "config", "file", "header", "shard", "xorb"])
def test_nothing_but_refusals(target: str, tmp_path: Path) -> None:
    options = ["-runs=4000", "-max_total_time=20", "-seed=7", "-max_len=2048", "-timeout=10", "-rss_limit_mb=2048"]
    command = [sys.executable, str(Path(__file__).with_name("targets.py")), target, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 4000 runs" in done.stderr or "max_total_time" in done.stderr or "DONE" in done.stderr
