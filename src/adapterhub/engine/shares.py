"""What is to be combined, and how much of each."""

from collections.abc import Mapping, Sequence

from adapterhub.errors import ConfigError


def names_and_weights(
    given: "Sequence[str] | Mapping[str, float]", weights: "Sequence[float] | None", normalize: bool
) -> tuple[list[str], list[float]]:
    """The names of what is to be combined, and its weights, out of a list or a dictionary.

    Raises:
        ConfigError: for no name, weights twice, another number of them, or weights that add up to 0.
    """
    if isinstance(given, Mapping):
        if weights is not None:
            raise ConfigError("weights are in the dictionary of names already")
        names, weights = list(given), list(given.values())
    else:
        names = list(given)
    if not names:
        raise ConfigError("there is nothing to combine")
    return names, _normalised(weights, len(names), normalize)


def _normalised(given: "Sequence[float] | None", count: int, normalize: bool) -> list[float]:
    """Weights that add up to 1, equal ones by default; with ``normalize`` False as they were given.

    Raises:
        ConfigError: for another number of weights, or weights that add up to 0.
    """
    weights = [1.0 / count] * count if given is None else [float(weight) for weight in given]
    if len(weights) != count:
        raise ConfigError(f"there are {count} to combine and {len(weights)} weights")
    total = sum(weights)
    if not normalize:
        return weights
    if not total:
        raise ConfigError(f"weights {weights} add up to 0: pass normalize_weights=False to subtract")
    return [weight / total for weight in weights]
