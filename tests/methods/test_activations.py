"""Non-linearities are those of transformers, where it has the name too."""

import pytest
import torch
from transformers.activations import ACT2FN

from adapterhub.errors import ConfigError
from adapterhub.methods.activations import _ACTIVATIONS, activation

X = torch.linspace(-12, 12, 241)


@pytest.mark.parametrize("name", sorted(_ACTIVATIONS.keys() & ACT2FN.keys()))
def test_equals_that_of_transformers(name: str) -> None:
    torch.testing.assert_close(activation(name)(X), ACT2FN[name](X), rtol=1e-5, atol=1e-5)


def test_what_is_left_has_parameters() -> None:
    assert ACT2FN.keys() - _ACTIVATIONS.keys() == {"prelu", "xielu"}


def test_case_does_not_matter_and_an_unknown_name_is_an_error() -> None:
    assert torch.equal(activation("ReLU")(X), X.clamp(min=0))
    with pytest.raises(ConfigError, match=r"unknown non-linearity 'reul'\. Known: relu"):
        activation("reul")
