"""The engine of one model: its sites, its adapters, the active plan, and the hooks that carry it out."""

import threading
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.composition import Composition
from adapterhub.engine.adapter import PROMPT, Adapter, match_device, places
from adapterhub.engine.bank import Bank
from adapterhub.engine.fusion import Fusion
from adapterhub.engine.hooks import Hook
from adapterhub.engine.moved import check as check_positions
from adapterhub.engine.named import NamedModules, check_name
from adapterhub.engine.placing import key, needed
from adapterhub.engine.plan import Plan, compile_plan
from adapterhub.engine.program import Call
from adapterhub.engine.prompt import Layout, max_length
from adapterhub.engine.prompt_hook import PromptHook
from adapterhub.engine.setup import AdapterSetup, current_frame, setups_entered, setups_open
from adapterhub.engine.stored import loaded
from adapterhub.engine.sublayer_hook import SublayerHook
from adapterhub.errors import AdapterExistsError, AdapterNotFoundError, CompositionError
from adapterhub.methods import AdapterConfig, Place
from adapterhub.methods.fusion import AdapterFusionConfig
from adapterhub.sites import Sites

if TYPE_CHECKING:
    from adapterhub.engine.trunk import Trunk

_NO_CALL = Call()


class Entered(NamedTuple):
    """What was active where a call of the model began, ``depth`` setups deep."""

    plan: Plan | None
    setup: AdapterSetup | None
    depth: int


class Engine:
    """Binds adapters to a model. Hooks stand exactly at the sites that the plans in use need, and nowhere else."""

    def __init__(self, model: PreTrainedModel, sites: Sites) -> None:
        self.model = model
        self.sites = sites
        self.adapters: NamedModules[Adapter] = NamedModules()
        self.fusions: NamedModules[Fusion] = NamedModules()
        self.banks: dict[str, Bank] = {}
        self.active: Plan | None = None
        self.trunk: Trunk | None = None  # whose layers can be left out of calls
        self._in_use: Counter[Plan] = Counter()
        self._hooks: dict[str, Hook] = {}
        self._lock = threading.RLock()
        self._pass = threading.local()  # of the pass that this thread is in
        # What torch.compile traced of a model is to be traced again when hooks came or went.
        torch._dynamo.config.skip_nnmodule_hook_guards = False

    def build(self, name: str, config: AdapterConfig) -> Adapter:
        """A new adapter for this model, not held by it yet.

        Raises:
            ConfigError: if the configuration does not fit the model, or the name cannot be one.
        """
        check_name(name)
        with loaded(place.norm for place in self.places if place.norm is not None):  # of which it may hold copies
            adapter = Adapter(name, config, self.places)
        match_device(adapter, self.model, self.sites, self.places)
        return adapter.train(self.model.training)

    def add_bank(self, name: str, config: AdapterConfig, capacity: int, dtype: torch.dtype | None = None) -> Bank:
        """A new bank of ``capacity`` adapters of one configuration, held under its name, which a setup can name.

        ``dtype`` is that of its values, by default float32.

        Raises:
            ConfigError: if the configuration does not fit the model, or the name or the capacity cannot be one.
            AdapterExistsError: if an adapter or a bank has the name.
        """
        self.check_free(name, overwrite_ok=False)
        with torch.random.fork_rng(devices=[]):  # first values are not used, and shift nobody's numbers
            like = self.build(name, config)
        self.banks[name] = Bank(name, like, capacity, dtype)
        return self.banks[name]

    def delete_bank(self, name: str) -> None:
        """Drop a bank; if it is active, no adapter is afterwards.

        Raises:
            AdapterNotFoundError: if there is none of that name.
        """
        if name not in self.banks:
            raise AdapterNotFoundError(f"no bank named {name!r} in this model; it holds: {', '.join(self.banks)}")
        if self.active is not None and name in self.active.setup.flatten():
            self.activate(None)
        del self.banks[name]

    def build_fusion(self, name: str, config: AdapterFusionConfig, adapter_names: Iterable[str]) -> Fusion:
        """A new fusion of some adapters, not held by this model yet.

        Raises:
            ConfigError: if the name cannot be one.
            AdapterNotFoundError: if one of the adapters is not there.
            CompositionError: if the adapters give nothing that could be fused.
        """
        check_name(name)
        fusion = Fusion(name, config, [self.get(adapter) for adapter in adapter_names], self.places)
        match_device(fusion, self.model, self.sites, self.places)
        return fusion.train(self.model.training)

    def hold_fusion(self, fusion: Fusion) -> None:
        """Hold a fusion under its name, in the place of one of that name."""
        self.fusions[fusion.name] = fusion
        if self.active is not None and fusion.name in self.active.fusions:
            self.activate(self.active.setup, self.active.skip_layers)

    def get_fusion(self, name: str) -> Fusion:
        """The fusion of that name.

        Raises:
            AdapterNotFoundError: if there is none.
        """
        if name not in self.fusions:
            known = "; ".join(self.fusions) or "none"
            raise AdapterNotFoundError(f"no fusion named {name!r} in this model; it holds: {known}")
        return self.fusions[name]

    def delete_fusion(self, name: str) -> None:
        """Drop a fusion; if it is active, no adapter is afterwards.

        Raises:
            AdapterNotFoundError: if there is none of that name.
        """
        self.get_fusion(name)
        if self.active is not None and name in self.active.fusions:
            self.activate(None)
        del self.fusions[name]

    def check_fusion_free(self, name: str, overwrite_ok: bool) -> None:
        """Pass a name that no fusion has, or one that may be overwritten.

        Raises:
            AdapterExistsError: for any other.
        """
        if name in self.fusions and not overwrite_ok:
            raise AdapterExistsError(f"there is a fusion {name!r} already: delete it, or pass overwrite_ok=True")

    def check_free(self, name: str, overwrite_ok: bool) -> None:
        """Pass a name that no adapter has, or one that may be overwritten.

        Raises:
            AdapterExistsError: for any other.
        """
        if name in self.banks:
            raise AdapterExistsError(f"there is a bank {name!r}: delete it, or choose another name")
        if name in self.adapters and not overwrite_ok:
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
        return self._entered().plan if setups_open() else self.active

    @property
    def setup(self) -> AdapterSetup | None:
        """The innermost ``AdapterSetup`` around the call under way, if there is one."""
        return self._entered().setup if setups_open() else None

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
        self._check_vocabulary(setup)
        with self._lock:
            acting = ChainMap[str, Any](self.banks, cast(Any, self.adapters))
            plan = compile_plan(setup, acting, self.fusions, self.sites, self.places, skipped)
            if plan.moved is not None:
                check_positions(self.model)
            self._in_use[plan] += 1
            self._place_hooks()
        return plan

    def _check_vocabulary(self, setup: Composition) -> None:
        """Pass adapters that are fitted to the table of embeddings in use, or to none."""
        size = next(
            (place.weight.shape[1] for place in self.places if place.weight and place.role == "embedding"), None
        )
        for name in setup.names():
            held = self.banks.get(name) or self.adapters.get(name)
            made_for = None if held is None else held.vocabulary
            if made_for not in (None, size):
                raise CompositionError(
                    f"adapter {name!r} changes the embeddings of {made_for} tokens, and those in use are of {size}: "
                    "switch to the embeddings that it was made for"
                )

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
        plan, then = self.plan(), {key: value for key, value in self._pass.__dict__.items() if key != "entered"}

        def under_same_setup(*args: Any, **kwargs: Any) -> Any:
            with self._in_pass(then):
                if self.plan() is plan:
                    return function(*args, **kwargs)
                with AdapterSetup(plan and plan.setup, skip_layers=tuple(plan.skip_layers) if plan else ()):
                    self.enter()
                    return function(*args, **kwargs)

        return checkpoint(under_same_setup, *args, **kwargs)

    @torch.compiler.disable  # a context variable cannot be traced: where there is a setup, a graph begins after this
    def enter(self) -> Entered:
        """Look up what is active here, and have the hooks of an ``AdapterSetup`` in place."""
        frame = current_frame()
        if frame is None:
            return Entered(self.active, None, setups_entered())
        return Entered(frame.plan(self), frame.setup, setups_entered())

    def _entered(self) -> Entered:
        """What was active where the call under way began, or what is, where there is none or a setup inside of it."""
        known: Entered | None = getattr(self._pass, "entered", None)
        return known if known is not None and known.depth == setups_entered() else self.enter()

    @contextmanager
    def under(self, entered: Entered) -> Iterator[None]:
        """Have what is inside run under what ``enter`` found, without asking again."""
        with self._in_pass({**self._pass.__dict__, "entered": entered}):
            yield

    @property
    def call(self) -> Call:
        """What programs have to know about the call of the model that is under way."""
        return getattr(self._pass, "call", _NO_CALL)

    @call.setter
    def call(self, call: Call) -> None:
        self._pass.call = call

    @property
    def layouts(self) -> Mapping[str, Layout]:
        """Where prompts and text stand in what is under way, while they are together: by the places of prompts."""
        return getattr(self._pass, "layouts", {})

    @layouts.setter
    def layouts(self, layouts: Mapping[str, Layout]) -> None:
        self._pass.layouts = layouts

    def repeat_rows(self, channels: int) -> None:
        """Tell programs that from here on the rows of the batch are there once for each of some channels."""
        self.call = self.call._replace(channels=channels)

    @property
    def rows_repeated(self) -> bool:
        """Whether the inputs of the call under way hold the rows of every channel of a ``Parallel`` already."""
        return self.call.channels > 1 and self.rows_seen is None

    @property
    def rows_seen(self) -> int | None:
        """Rows of the batch under way as they were before they were repeated; None until a layer repeats them."""
        return getattr(self._pass, "rows", None)

    @rows_seen.setter
    def rows_seen(self, rows: int | None) -> None:
        self._pass.rows = rows

    @property
    def generation(self) -> Call | None:
        """What was said to ``generate``, while this thread is in it."""
        return getattr(self._pass, "generation", None)

    @property
    def repeats_inputs(self) -> bool:
        """Whether the inputs of the model have to be repeated for the channels of a ``Parallel``.

        A model with a head of its own sees its inputs and labels with the rows of all channels, or would mix them up.
        """
        plan = self.plan()
        if plan is None or plan.channels == 1 or self.rows_repeated:
            return False
        return plan.first_repeated is None or self.model.base_model is not self.model

    @property
    def cache_room(self) -> int:
        """How many tokens more than those of the text a cache has to hold for every row."""
        plan = self.plan()
        prompts = {} if plan is None else plan.prompts
        hooks = ((program, self._hooks.get(key(PromptHook, name))) for name, program in prompts.items())
        return sum(max_length(program) for program, hook in hooks if isinstance(hook, PromptHook) and hook.cuts)

    def run_base(self, forward: Callable[[dict[str, Any]], Any], inputs: dict[str, Any]) -> Any:
        """Run the base model of a model that has its heads beside it, with the prompts of the plan."""
        hook = self._hooks.get(key(PromptHook, PROMPT))
        return hook.run(forward, inputs) if isinstance(hook, PromptHook) else forward(inputs)

    @contextmanager
    def calling(self, call: Call, generation: Call | None = None) -> Iterator[None]:
        """Run what is inside as one call of the model."""
        told: dict[str, Any] = {"call": call, "rows": None, "layouts": {}, "generation": generation or self.generation}
        with self._in_pass({**self._pass.__dict__, **told}):
            yield

    @contextmanager
    def _in_pass(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Have what this thread's pass knows be ``values`` inside, and what it was before afterwards."""
        known = self._pass.__dict__
        before = dict(known)
        known.clear()
        known.update(values)
        try:
            yield
        finally:
            known.clear()
            known.update(before)

    def invert(self, hidden: Tensor, rows: Tensor | None = None, total: int = 0) -> Tensor:
        """Undo what the plan does to embeddings: ``hidden`` ``[batch, seq, width]`` in the base model's own space.

        Where ``hidden`` holds some ``rows`` alone, out of ``total``, these are told.

        Raises:
            CompositionError: if the composition has no inverse.
        """
        plan = self.plan()
        if plan is None or plan.embeddings is None:
            return hidden
        if rows is None:
            return plan.embeddings.inverse(hidden, self.call)
        whole = hidden.new_zeros(total, *hidden.shape[1:])
        return plan.embeddings.inverse(whole.index_copy(0, rows.to(hidden.device), hidden), self.call)[rows]

    def _place_hooks(self) -> None:
        """Make the hooks those that the plans in use need."""
        wanted = {site: make for plan in self._in_use for site, make in needed(self, plan)}
        for stale in [site for site in self._hooks if site not in wanted]:
            self._hooks.pop(stale).detach()
        for site, make in wanted.items():
            if site not in self._hooks:
                self._hooks[site] = make()
        for plan in self._in_use:
            for name in plan.replacing:
                self._sublayer_hook(name).attach_norm()
            if plan.branching is not None:
                self._sublayer_hook(plan.branching).attach_layer()

    def _sublayer_hook(self, name: str) -> SublayerHook:
        hook = self._hooks[key(SublayerHook, name)]
        assert isinstance(hook, SublayerHook)
        return hook

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_pass")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._pass = threading.local()
