"""Charts of the page of the benchmarks, as SVG that follows the reader's light or dark scheme."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that can be told apart by people with any colour vision, on light and on dark ground (Okabe and Ito).
OURS, PEER, BASE = "#0072b2", "#d55e00", "#8a8a8a"
_TUNED = "#e69f00"
_INK = "#010203"  # stands for the colour of the text, which the reader's scheme sets
_SCHEMES = "<style>svg{--ink:#333}@media(prefers-color-scheme:dark){svg{--ink:#ddd}}</style>"


@dataclass(frozen=True)
class Bar:
    """A figure with its interval; ``shown`` stands beside the bar."""

    label: str
    value: float
    interval: tuple[float, float] | None
    colour: str
    shown: str


@dataclass(frozen=True)
class Bars:
    """Bars under each other, and a line at the value that they are held against."""

    axis: str
    bars: Sequence[Bar]
    line: float | None = None

    def draw(self, axes: "Axes") -> None:
        """Draw on empty axes."""
        ends = [bar.interval or (bar.value, bar.value) for bar in self.bars]
        places = range(len(self.bars))
        axes.barh(places, [bar.value for bar in self.bars], color=[bar.colour for bar in self.bars], height=0.65)
        for place, bar, (low, high) in zip(places, self.bars, ends, strict=True):
            if bar.interval is not None:
                axes.plot([low, high], [place, place], color=_INK, linewidth=1.5)
            right = max(bar.value, high)
            axes.annotate(bar.shown, (right, place), xytext=(5, 0), textcoords="offset points", va="center")
        if self.line is not None:
            axes.axvline(self.line, color=_INK, linewidth=1, linestyle="--")
        axes.set_yticks(places, [bar.label for bar in self.bars])
        axes.set_xlim(0, 1.16 * max([high for _, high in ends] + [self.line or 0.0]))
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlabel(self.axis)

    @property
    def height(self) -> float:
        """Inches."""
        return 0.8 + 0.32 * len(self.bars)


@dataclass(frozen=True)
class Curves:
    """Accuracy over time: some runs of each of several trainers, and the accuracy that all were to come to."""

    runs: dict[str, Sequence[Sequence[tuple[float, float]]]]
    target: float

    def draw(self, axes: "Axes") -> None:
        """Draw on empty axes."""
        for (name, runs), colour in zip(self.runs.items(), (OURS, PEER, _TUNED), strict=False):
            for number, run in enumerate(runs):
                seconds, accuracies = zip(*run, strict=True)
                shown = [100 * accuracy for accuracy in accuracies]
                label = name if number == 0 else None
                axes.plot(seconds, shown, "o-", color=colour, label=label, linewidth=1.3, markersize=4)
        axes.axhline(100 * self.target, color=_INK, linewidth=1, linestyle="--")
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds of training")
        axes.set_ylabel("validation accuracy (%)")
        axes.legend(frameon=False, loc="lower right")

    height = 3.6


def svg(chart: Bars | Curves) -> str:
    """The chart as a file of its own, the same from the same figures."""
    return _figure(chart.draw, chart.height)


def _figure(draw: "Callable[[Axes], None]", height: float) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "adapterhub", "font.size": 10}
    style |= {"font.family": "sans-serif", "axes.spines.top": False, "axes.spines.right": False}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK)
    with mpl.rc_context(style):
        figure = Figure(figsize=(7.6, height), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    head, mark, body = buffer.getvalue().partition("<defs>")
    return (head + _SCHEMES + mark + body).replace(_INK, "var(--ink)")
