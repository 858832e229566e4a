"""What is acknowledged stays, and nothing else is ever seen, when the server is killed while it works."""

from pathlib import Path

import pytest

from hub.server.killing import publish_and_kill


@pytest.mark.slow
def test_publishing_while_the_server_is_killed(tmp_path: Path) -> None:
    """The same with 200 publishes and 20 kills is ``benchmarks/hub_killed.py``."""
    outcome = publish_and_kill(tmp_path / "hub", publishes=20, kills=3)
    assert outcome.acknowledged == 20
    assert outcome.lost == []
    assert outcome.broken == []
    assert outcome.left == 0
