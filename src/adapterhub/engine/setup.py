"""The setup of a call: adapters and heads that are active inside a ``with`` block, for this thread or task alone."""

import threading
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from adapterhub.composition import Composition, parse_composition

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine
    from adapterhub.engine.plan import Plan


class _Entered(threading.local):
    """How many setups this thread is in."""

    count = 0


_lock = threading.Lock()
_entered = _Entered()
# How many frames are open anywhere, and whether any is. The context variable is asked only when some are:
# torch.compile cannot trace a ContextVar, and guards on the latter instead.
_open_frames = 0
_any_open = False


class Frame:
    """One entered setup, and the plans that models made for it."""

    def __init__(self, setup: "AdapterSetup", previous: "Frame | None") -> None:
        self.setup = setup
        self.previous = previous
        self.plans: WeakKeyDictionary[Engine, Plan | None] = WeakKeyDictionary()

    def plan(self, engine: "Engine") -> "Plan | None":
        """This frame's plan for one model, compiled when that model first runs in it."""
        if engine not in self.plans:
            self.plans[engine] = engine.acquire(self.setup.adapter_setup, self.setup.skip_layers)
        return self.plans[engine]

    def close(self) -> None:
        """Give back every plan."""
        for engine, plan in list(self.plans.items()):
            engine.release(plan)
        self.plans.clear()


_frame: ContextVar[Frame | None] = ContextVar("adapterhub_setup", default=None)


def current_frame() -> Frame | None:
    """The innermost setup entered by this thread or task, if any."""
    return _frame.get()


def setups_open() -> bool:
    """Whether any thread or task is in a setup."""
    return _any_open


def setups_entered() -> int:
    """How many setups this thread is in, those of its tasks together."""
    return _entered.count


class AdapterSetup:
    """Adapters (and heads) for the calls inside a ``with`` block, in place of those that are active in the model.

    The setup is kept in a context variable: other threads and asyncio tasks that use the same model do not see it.
    It takes effect with a call of the model, or of its ``generate``: a module inside called by itself, before any such
    call in the block, runs without hooks. What is active by ``set_active_adapters`` acts there too.
    ``adapter_setup`` None runs the bare model. Without ``head_setup`` the heads named like the last adapters are
    used, where the model has such heads. With ``ignore_empty`` and neither adapters nor heads, the block changes
    nothing. ``skip_layers`` as in ``set_active_adapters``.

    Raises:
        AdapterNotFoundError: by a model that runs inside the block and lacks one of the adapters.
        CompositionError: for something that is no setup.
    """

    def __init__(
        self,
        adapter_setup: Any,
        head_setup: Any = None,
        ignore_empty: bool = False,
        skip_layers: "tuple[int, ...] | list[int]" = (),
    ) -> None:
        self.adapter_setup: Composition | None = parse_composition(adapter_setup)
        self.head_setup = head_setup
        self.skip_layers = tuple(skip_layers)
        self._idle = ignore_empty and self.adapter_setup is None and head_setup is None

    @staticmethod
    def get_context() -> "AdapterSetup | None":
        """The innermost block that this thread or task is in, or None."""
        frame = current_frame()
        return None if frame is None else frame.setup

    @staticmethod
    def get_context_adapter_setup() -> Composition | None:
        """The adapters of the innermost block, or None."""
        frame = current_frame()
        return None if frame is None else frame.setup.adapter_setup

    @staticmethod
    def get_context_head_setup() -> Any:
        """The heads that the innermost block names, or None."""
        frame = current_frame()
        return None if frame is None else frame.setup.head_setup

    def __enter__(self) -> Self:
        if self._idle:
            return self
        _count(1)
        _frame.set(Frame(self, _frame.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._idle:
            return
        frame = _frame.get()
        assert frame is not None
        _frame.set(frame.previous)
        frame.close()
        _count(-1)


def _count(step: int) -> None:
    global _open_frames, _any_open
    with _lock:
        _open_frames += step
        _any_open = _open_frames > 0
    _entered.count += step
