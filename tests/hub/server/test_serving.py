"""The server as a process."""

import urllib.request

from hub.server.running import Running


def test_it_answers_and_prints_tokens_alone(running: Running) -> None:
    with urllib.request.urlopen(f"{running.url}/health") as answer:
        assert answer.status == 200
    assert running.token("ann").startswith("ah_")
