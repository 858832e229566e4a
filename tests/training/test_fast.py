"""What training fast makes of settings."""

from pathlib import Path

import pytest

from adapterhub.errors import ConfigError
from adapterhub.training.fast import fast
from adapterhub.training.settings import Settings


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("seq_bn", "seq_bn[leave_out=[0]]"),
        ("lora[r=4]", "lora[r=4, leave_out=[0]]"),
        ("seq_bn[leave_out=[1]]", "seq_bn[leave_out=[1]]"),
        ("lst[heads=2]", "lst[heads=2]"),
        ("seq_bn|lora[r=2]", "seq_bn[leave_out=[0]]|lora[r=2, leave_out=[0]]"),
    ],
)
def test_lower_layers_are_left_out(method: str, expected: str, backbone: Path) -> None:
    plain = Settings(str(backbone), method, seed=3)
    chosen = fast(plain)
    assert chosen.settings.method == expected and chosen.settings.seed == 3
    assert chosen.settings.epochs == 3 and "3 in the place of 5" in chosen.trades
    assert ("upper 1 of 2 layers" in chosen.trades) == (method != expected)


@pytest.mark.parametrize("method", ["prompt_tuning", "config.json"])
def test_a_method_that_cannot_leave_out_layers_is_refused(method: str, backbone: Path) -> None:
    with pytest.raises(ConfigError, match="leave_out"):
        fast(Settings(str(backbone), method))
