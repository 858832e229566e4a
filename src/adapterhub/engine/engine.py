"""The engine of one model: its sites, its adapters, the active plan, and the hooks that carry it out."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from adapterhub.composition import Composition
from adapterhub.engine.adapter import Adapter, match_device, places
from adapterhub.engine.hooks import NormHook, SublayerHook, WeightHook
from adapterhub.engine.named import NamedModules, check_name
from adapterhub.engine.plan import Plan, compile_plan
from adapterhub.engine.setup import AdapterSetup, current_frame
from adapterhub.errors import AdapterExistsError, AdapterNotFoundError, CompositionError
from adapterhub.methods import AdapterConfig, Place
from adapterhub.sites import Sites

_WEIGHT = "weight "  # a norm may be a weight's module too: their hooks are kept under keys of their own


class Engine:
    """Binds adapters to a model. Hooks stand exactly at the sites that the plans in use need, and nowhere else."""

    def __init__(self, model: PreTrainedModel, sites: Sites) -> None:
        self.model = model
        self.sites = sites
        self.adapters: NamedModules[Adapter] = NamedModules()
        self.active: Plan | None = None
        self._in_use: Counter[Plan] = Counter()
        self._hooks: dict[str, SublayerHook | NormHook | WeightHook] = {}
        self._hooked = ""  # where hooks stand
        self._lock = threading.RLock()

    def build(self, name: str, config: AdapterConfig) -> Adapter:
        """A new adapter for this model, not held by it yet.

        Raises:
            ConfigError: if the configuration does not fit the model, or the name cannot be one.
        """
        check_name(name)
        adapter = Adapter(name, config, self.places)
        match_device(adapter, self.model, self.sites, self.places)
        return adapter.train(self.model.training)

    def check_free(self, name: str) -> None:
        """Pass a name that no adapter has.

        Raises:
            AdapterExistsError: if one has it.
        """
        if name in self.adapters:
            raise AdapterExistsError(f"there is an adapter {name!r} already: delete it, or pass overwrite_ok=True")

    def hold(self, adapter: Adapter) -> None:
        """Hold an adapter under its name, in the place of one of that name."""
        self.adapters[adapter.name] = adapter
        if self.active is not None and adapter.name in self.active.setup.flatten():
            self.activate(self.active.setup, self.active.skip_layers)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every place that the model offers to a method."""
        return tuple(places(self.model, self.sites))

    @property
    def layers(self) -> dict[str, nn.Module]:
        """The repeated blocks of the model by the names of their sites."""
        return {layer.name: self.model.get_submodule(layer.path) for layer in self.sites.layers}

    def get(self, name: str) -> Adapter:
        """The adapter of that name.

        Raises:
            AdapterNotFoundError: if there is none.
        """
        if name not in self.adapters:
            known = ", ".join(self.adapters) or "none"
            raise AdapterNotFoundError(f"no adapter named {name!r} in this model; it holds: {known}")
        return self.adapters[name]

    def delete(self, name: str) -> None:
        """Drop an adapter; if it is active, no adapter is afterwards.

        Raises:
            AdapterNotFoundError: if there is none of that name.
        """
        self.get(name)
        if self.active is not None and name in self.active.setup.flatten():
            self.activate(None)
        del self.adapters[name]

    def activate(self, setup: Composition | None, skip_layers: Iterable[int] = ()) -> None:
        """Make ``setup`` the model's active one; None runs the bare model, without any hook.

        Raises:
            AdapterNotFoundError: if it names an adapter that is not there.
            CompositionError: for a layer to skip that the model does not have.
        """
        plan = self.acquire(setup, skip_layers)
        self.active, old = plan, self.active
        self.release(old)

    def plan(self) -> Plan | None:
        """The plan for the call under way: that of the innermost ``AdapterSetup``, else the active one."""
        frame = current_frame()
        return self.active if frame is None else frame.plan(self)

    def acquire(self, setup: Composition | None, skip_layers: Iterable[int] = ()) -> Plan | None:
        """Compile a plan and put hooks where it needs them, until it is released."""
        if setup is None:
            return None
        skipped = tuple(skip_layers)
        unknown = [layer for layer in skipped if layer not in range(len(self.sites.layers))]
        if unknown:
            raise CompositionError(
                f"skip_layers names {unknown}; the model has layers 0 to {len(self.sites.layers) - 1}"
            )
        with self._lock:
            plan = compile_plan(setup, self.adapters, self.sites, self.places, skipped)
            self._in_use[plan] += 1
            self._place_hooks()
        return plan

    def release(self, plan: Plan | None) -> None:
        """Give back a plan: hooks that no other plan needs are removed."""
        if plan is None:
            return
        with self._lock:
            self._in_use[plan] -= 1
            self._in_use += Counter()  # drops what has come to zero
            self._place_hooks()

    def checkpoint(
        self, checkpoint: Callable[..., Any], function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Checkpoint ``function`` (by ``checkpoint``) so that it is recomputed under the setup of this first pass.

        By the time of the backward pass the ``with`` block around the first pass may have ended, the active setup may
        be another, or another thread may be at work.
        """
        plan = self.plan()

        def under_same_setup(*args: Any, **kwargs: Any) -> Any:
            if self.plan() is plan:
                return function(*args, **kwargs)
            with AdapterSetup(plan and plan.setup, skip_layers=tuple(plan.skip_layers) if plan else ()):
                self.enter()
                return function(*args, **kwargs)

        return checkpoint(under_same_setup, *args, **kwargs)

    def enter(self) -> None:
        """Have the hooks of an ``AdapterSetup`` in place, before any submodule of the model runs."""
        # torch.compile does not look whether hooks came or went since it traced a model; that this text is read
        # makes it guard on the text.
        if self._hooked != "never":
            frame = current_frame()
            if frame is not None:
                frame.plan(self)

    def _place_hooks(self) -> None:
        """Make the hooks those that the plans in use need."""
        sublayers = {name for plan in self._in_use for name in plan.sublayers}
        norms = {path for plan in self._in_use for path in plan.norms}
        weights = {f"{_WEIGHT}{path}" for plan in self._in_use for path in plan.weights}
        for key in [key for key in self._hooks if key not in sublayers | norms | weights]:
            self._hooks.pop(key).detach()
        for sublayer in self.sites.sublayers:
            if sublayer.name in sublayers and sublayer.name not in self._hooks:
                self._hooks[sublayer.name] = SublayerHook(self, sublayer)
        for norm in self.sites.norms:
            if norm.path in norms and norm.path not in self._hooks:
                self._hooks[norm.path] = NormHook(self, norm)
        for key in sorted(weights - self._hooks.keys()):
            self._hooks[key] = WeightHook(self, key.removeprefix(_WEIGHT))
        for plan in self._in_use:
            for name, parts in plan.sublayers.items():
                hook = self._hooks[name]
                if isinstance(hook, SublayerHook) and not parts[-1].keeps_base_output:
                    hook.attach_norm()
        self._hooked = " ".join(f"{site}:{hook.count}" for site, hook in self._hooks.items())

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
