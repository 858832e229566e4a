"""A table of the adapters in a model."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapterhub.model.core import AdapterMixin


@dataclass(frozen=True)
class Row:
    """One adapter, or the full model: parameters in number and in per cent of the full model without adapters."""

    name: str
    method: str
    parameters: int
    percent: float
    active: bool
    trained: bool


@dataclass(frozen=True)
class AdapterSummary:
    """Rows of the table; ``str`` draws it."""

    adapters: tuple[Row, ...]
    full_model: Row

    def rows(self) -> list[dict[str, Any]]:
        """The table as dictionaries, the full model last."""
        return [asdict(row) for row in (*self.adapters, self.full_model)]

    def __str__(self) -> str:
        header = ("Name", "Method", "Parameters", "% of model", "Active", "Train")
        lines = [
            (
                row.name,
                row.method,
                f"{row.parameters:,}",
                f"{row.percent:.3f}",
                _yes(row.active),
                _yes(row.trained),
            )
            for row in (*self.adapters, self.full_model)
        ]
        widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        table = [_line(header, widths), rule, *(_line(line, widths) for line in lines)]
        table.insert(-1, rule)
        return "\n".join(table)


def summarise(model: "AdapterMixin") -> AdapterSummary:
    """Count the parameters of a model and its adapters."""
    active = set() if model.active_adapters is None else model.active_adapters.flatten()
    base = list(model.base_parameters())
    total = sum(parameter.numel() for parameter in base)
    rows = []
    for name, adapter in model.adapters.items():
        size = sum(parameter.numel() for parameter in adapter.parameters())
        trained = any(parameter.requires_grad for parameter in adapter.parameters())
        rows.append(Row(name, adapter.config.method, size, 100 * size / total, name in active, trained))
    trained = any(parameter.requires_grad for parameter in base)
    return AdapterSummary(tuple(rows), Row("Full model", "", total, 100.0, False, trained))


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    name, method, *rest = cells
    right = [cell.rjust(width) for cell, width in zip(rest, widths[2:], strict=True)]
    return "  ".join([name.ljust(widths[0]), method.ljust(widths[1]), *right])


def _yes(value: bool) -> str:
    return "yes" if value else "no"
