"""A model run from one of its layers on: what lies below, the *trunk*, is computed once and fed in later.

Nothing below the lowest active adapter depends on an adapter, so what the lowest adapted layer reads is the same in
every epoch, for every seed, and for every adapter that acts no lower.
"""

import hashlib
import json
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.engine.adapter import EMBEDDINGS, prompt_sites, site_paths
from adapterhub.engine.calls import STATES
from adapterhub.engine.hooks import rows_first
from adapterhub.engine.running_order import RunningOrder, first_read
from adapterhub.engine.setup import AdapterSetup
from adapterhub.errors import TrunkError
from adapterhub.sites.fused import still
from adapterhub.sites.trace import first_tensor

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine
    from adapterhub.engine.plan import Plan

_ALL_STATES = ("output_hidden_states", "output_attentions")
# What of a configuration does not change what layers compute.
_NAMES = ("_name_or_path", "transformers_version", "architectures", "id2label", "label2id", "problem_type", "dtype")


class Trunk:
    """The embeddings and the first ``depth`` layers of a model with adapters, which can be left out of its calls.

    Inside ``with Trunk(model) as trunk:`` the model takes, beside its other arguments, ``trunk_states``
    ``[batch, seq, width]``, as ``trunk.states(**inputs)`` gives them, and runs from layer ``depth`` on. All else of its
    forward pass (masks, rotary embeddings, heads, gradients) is as it would be. Calls without ``trunk_states`` run the
    whole model. ``depth`` is by default the number of layers below the lowest active adapter, all of them where none is
    active; of an encoder-decoder the layers of the encoder count alone. One pass of the model on a few tokens says
    whether it gives the same from there on.

    A ladder acts in no layer but reads all: with nothing else active all layers are left out, and ``trunk_states`` are
    what each of them read and the last one gave, one after another in the last dimension.

    Raises:
        TrunkError: if an active adapter acts below ``depth``, or the model cannot be run from that layer on: because
            it has several towers side by side, say, or layers that hand on more than hidden states.
        SiteError: if no small input is found on which the model runs.
    """

    def __init__(self, model: PreTrainedModel, depth: int | None = None) -> None:
        if not hasattr(model, "engine"):
            raise TrunkError(f"{type(model).__name__} has no adapters: call adapterhub.init(model)")
        self.engine: Engine = cast(Any, model).engine
        self._order = RunningOrder.of(self.engine)
        self._placed: list[_Skipped] = []
        self._fits: Plan | None = None
        layers = self._check_layers()
        plan = self.engine.plan()
        lowest, acting = self._lowest(plan)
        self.depth = min(lowest, layers) if depth is None else depth
        self.kept = tuple(range(min(self._lowest_read(plan), self.depth), self.depth + 1))  # layers whose input is kept
        if not 0 < self.depth <= layers:
            why = f"{acting} acts at the bottom of the model" if depth is None else f"depth is from 1 to {layers}"
            raise TrunkError(f"no layer can be left out of {type(model).__name__}: {why}")
        self._check_plan(plan)
        self._check_same()
        self._frozen = False

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all modules that belong to the trunk: those that run first before its last layer is done."""
        last = self.engine.sites.layers[self.depth - 1].path
        begun = self._order.begun.items()
        return tuple(path for path, number in begun if number < self.depth or f"{path}.".startswith(f"{last}."))

    @property
    def width(self) -> int:
        """The width of what is kept of a token."""
        return sum(states.shape[-1] for states in self._seen)

    @torch.no_grad()
    def states(self, **inputs: Any) -> Tensor:
        """What layer ``depth`` reads for the ``inputs`` of the model, ``[batch, seq, width]``.

        They are computed in evaluation mode and without adapters; nothing above the trunk runs.
        """
        model, layers = self.engine.model, self.engine.sites.layers[: self.depth]
        found: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            found.append(cast(Tensor, first_tensor(output)))
            if module is last:
                raise _EnoughError

        def keep_read(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(cast(Tensor, first_read(args, kwargs)))

        modules = [model.get_submodule(layer.path) for layer in layers]
        last = modules[-1]
        with ExitStack() as stack:
            if 0 in self.kept:
                stack.callback(modules[0].register_forward_pre_hook(keep_read, with_kwargs=True).remove)
            for number in self.kept:
                if number:
                    stack.callback(modules[number - 1].register_forward_hook(keep).remove)
            stack.enter_context(suppress(_EnoughError))
            stack.enter_context(still(model))
            stack.enter_context(AdapterSetup(None))
            with torch.no_grad():  # ``still`` allows gradients
                model(**inputs)
        if len(found) != len(self.kept):
            raise TrunkError(f"{layers[-1].name} did not run on {', '.join(inputs)}")
        return torch.cat([rows_first(self.engine, states, states) for states in found], dim=-1)

    def feed(self, states: Tensor, plan: "Plan | None", arguments: dict[str, Any]) -> tuple[Tensor, ...]:
        """What a call with these ``arguments`` goes on with, in the order and precision of the model's own states: what
        each layer in ``kept`` is to read.

        Raises:
            TrunkError: if they do not fit the trunk, something is asked for that lower layers would give, or lower
                layers are to be trained.
        """
        if plan is not self._fits:
            self._check_plan(plan)
        if not self._frozen and torch.is_grad_enabled():
            self._check_frozen()
        config = self.engine.model.config
        asked = [name for name in _ALL_STATES if arguments.get(name, getattr(config, name, False))]
        if asked or arguments.get("past_key_values") is not None:
            raise TrunkError(
                f"{', '.join(asked) or 'past_key_values'}: layers below {self.depth} do not run in a call with {STATES}"
            )
        if states.dim() != 3 or states.shape[-1] != self.width:
            raise TrunkError(
                f"{STATES} are [batch, seq, {self.width}] here, and these are {list(states.shape)}: take those of "
                "Trunk.states"
            )
        if "use_cache" in self._order.inputs:
            arguments["use_cache"] = False
        parts = states.split([seen.shape[-1] for seen in self._seen], dim=-1)
        return tuple(
            rows_first(self.engine, part, part).to(seen.dtype) for part, seen in zip(parts, self._seen, strict=True)
        )

    def fingerprint(self) -> str:
        """A SHA-256 over all that the states of given inputs depend on: parameters, buffers and configuration."""
        digest = hashlib.sha256(f"{type(self.engine.model.base_model).__name__} {self.kept}".encode())
        config = self.engine.model.config.to_dict()
        told = {name: config[name] for name in config if name not in _NAMES and not name.startswith("adapterhub")}
        digest.update(json.dumps(told, sort_keys=True, default=str).encode())
        for path in sorted(self.paths):
            module = self.engine.model.get_submodule(path)
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    digest.update(f"\n{path}.{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
                    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def __enter__(self) -> Self:
        self._place()
        self.engine.trunk = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.trunk = None
        self._remove()

    @property
    def _seen(self) -> tuple[Tensor, ...]:
        """What the layers in ``kept`` read in the pass that was watched; the last of them, what the one below gave."""
        layers = self.engine.sites.layers
        return tuple(
            cast(Tensor, first_tensor(self._order.gave[layers[number - 1].path]) if number else self._order.read)
            for number in self.kept
        )

    def _check_layers(self) -> int:
        """How many layers come one after another in the first tower.

        Raises:
            TrunkError: if several towers run side by side, or a layer runs several times.
        """
        sites, model = self.engine.sites, self.engine.model
        name = type(model).__name__
        if len(sites.towers) > 1 and not model.config.is_encoder_decoder:
            raise TrunkError(f"{name} has the towers {', '.join(sites.towers)}, none of which lies below all others")
        again = [layer.name for layer in sites.layers if self._order.calls[layer.path] != 1]
        if again:
            raise TrunkError(
                f"{again[0]} of {name} does not run once in a pass, but {self._order.calls[again[0]]} times"
            )
        return sum(layer.tower == sites.towers[0] for layer in sites.layers)

    def _lowest(self, plan: "Plan | None") -> tuple[int, str]:
        """How many layers lie below all that a plan does, and what is lowest."""
        engine = self.engine
        if plan is None:
            return len(engine.sites.layers), "nothing"
        if plan.moved is not None:
            return 0, "a prefix with shift_positions"
        places = {place.name: place for place in engine.places}
        paths = site_paths(engine.sites, engine.places)
        found = [(len(engine.sites.layers), "nothing")]
        for site in sorted(plan.acting):
            place = places[site]
            if place.kind == "side":
                continue
            if site in (EMBEDDINGS, *prompt_sites(engine.sites)):
                below = 0
            elif place.layer is None:
                begun = self._order.begun.get(paths[site], 0)
                below = begun if begun == len(engine.sites.layers) else max(begun - 1, 0)
            else:
                below = place.layer + (place.kind == "layer")  # which acts on what the layer gives
            found.append((below, f"what is active at {site}"))
        return min(found, key=lambda one: one[0])

    def _lowest_read(self, plan: "Plan | None") -> int:
        """The lowest layer of which something is read beside it; behind the last one where nothing is."""
        layers = self.engine.sites.layers
        read = () if plan is None else plan.sides
        return next((layer.index for layer in layers if layer.path in read), len(layers))

    def _check_plan(self, plan: "Plan | None") -> None:
        """Pass a plan that acts above the trunk alone."""
        if self._lowest_read(plan) < self.kept[0]:
            raise TrunkError(f"a ladder reads more than the states that are kept: {len(self.kept)} of {self.depth + 1}")
        lowest, acting = self._lowest(plan)
        if lowest < self.depth:
            raise TrunkError(
                f"{acting} acts below layer {self.depth}, where a trunk of {self.depth} layers ends: leave out those "
                f"layers (leave_out={list(range(self.depth))} in the configuration), or take a trunk of less depth"
            )
        self._fits = plan

    def _check_frozen(self) -> None:
        """Pass a trunk of which nothing is to be trained."""
        for path in self.paths:
            for name, parameter in self.engine.model.get_submodule(path).named_parameters(recurse=False):
                if parameter.requires_grad:
                    raise TrunkError(f"{path}.{name} is below layer {self.depth} and is to be trained: freeze it")
        self._frozen = True

    def _check_same(self) -> None:
        """Pass a model that gives the same from layer ``depth`` on."""
        layer = self.engine.sites.layers[self.depth - 1]
        handed = self._order.gave[layer.path]
        more = [one for one in handed[1:] if one is not None] if isinstance(handed, (tuple, list)) else []
        name = type(self.engine.model).__name__
        if more:
            raise TrunkError(f"{layer.name} of {name} hands on more than hidden states, which a trunk does not keep")
        self._place()
        try:
            found = self._order.again(self.engine, trunk=self._seen)
        except Exception as error:  # any model's code runs here
            raise TrunkError(f"{name} does not run from layer {self.depth} on: {error}") from error
        finally:
            self._remove()
        wanted = self._order.output
        if len(found) != len(wanted) or not all(_close(*pair) for pair in zip(found, wanted, strict=True)):
            raise TrunkError(
                f"{name} gives something else when it is run from layer {self.depth} on: its upper layers read more "
                "than what the layer below gives"
            )

    def _place(self) -> None:
        """Put what was computed before in the place of what the modules of the trunk compute.

        Raises:
            TrunkError: if that was done already.
        """
        if self.engine.trunk is not None:
            raise TrunkError("a trunk of this model is in use already: leave its block first")
        source, read, first = self._order.source, self._order.read, self._seen[0]
        if source is not None and read is not None and read.shape == first.shape:
            self._placed.append(_Skipped(self.engine, self.engine.model.get_submodule(source), None, 0))
        for layer in self.engine.sites.layers[: self.depth]:
            gave = self._order.gave[layer.path]
            rest = tuple(gave[1:]) if isinstance(gave, (tuple, list)) else None
            number = max(0, layer.index + 1 - self.kept[0])  # below what is kept, the first of that
            module = self.engine.model.get_submodule(layer.path)
            self._placed.append(_Skipped(self.engine, module, rest, number))

    def _remove(self) -> None:
        while self._placed:
            self._placed.pop().remove()


class _EnoughError(Exception):
    """Ends a pass whose hidden states are known."""


class _Skipped:
    """The ``forward`` of a module of a trunk: in a call where states are fed in, that of a ``number`` among them."""

    def __init__(self, engine: "Engine", module: nn.Module, rest: tuple[Any, ...] | None, number: int) -> None:
        self.engine, self.module, self.rest, self.number = engine, module, rest, number
        self.own = module.__dict__.get("forward")  # which accelerate may have put there
        self.original = module.forward
        module.__dict__["forward"] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        fed = self.engine.call.trunk
        if fed is None:
            return self.original(*args, **kwargs)
        states = fed[self.number]
        return states if self.rest is None else (states, *self.rest)

    def remove(self) -> None:
        """Have the module run as before."""
        if self.own is None:
            del self.module.__dict__["forward"]
        else:
            self.module.__dict__["forward"] = self.own


def _close(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    if not found.is_floating_point():
        return torch.equal(found, wanted)
    return torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
