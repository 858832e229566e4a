"""Adapters and flexible heads together: each adapter's head follows it, row by row where that is asked for."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from adapterhub.checkpoints import Part, load_into, whole_state
from adapterhub.composition import Composition, Parallel
from adapterhub.engine import Plan, calls
from adapterhub.engine.repeat import repeated_inputs
from adapterhub.errors import AdapterExistsError, HeadError
from adapterhub.heads import BaseInfo, FlexibleHeadsMixin, Head, StaticHead, build_head
from adapterhub.heads.routing import heads_of
from adapterhub.model.core import AdapterMixin
from adapterhub.saving import native


class FlexibleAdapterMixin(FlexibleHeadsMixin, AdapterMixin):
    """Adapters and flexible heads, for the base class of an architecture."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; adapters and heads that ``save_pretrained`` wrote come back.

        A head that the checkpoint brings (``RobertaForMaskedLM``, say) is kept as the head ``"default"``, and active.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        head_class = native.head_class_of(model)
        if head_class is not None:
            options = {name: value for name, value in kwargs.items() if name not in ("config", "output_loading_info")}
            headed = head_class.from_pretrained(pretrained_model_name_or_path, *args, **options)
            model.hold_head("default", StaticHead.from_model(headed))
        return loaded

    def base_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that are of neither an adapter nor a head."""
        added = (self.adapters, self.fusions, self.heads)
        apart = {id(parameter) for module in added for parameter in module.parameters()}
        return (parameter for parameter in self.parameters() if id(parameter) not in apart)

    def head_part(self, name: str | None) -> tuple[str, Part] | None:
        """Name and content of a flexible head (None: the active one), if there is one of that name."""
        if name is None:
            name = self.active_head if isinstance(self.active_head, str) else None
        head = None if name is None else self.heads.get(name)
        return None if name is None or head is None else (name, Part(head.to_dict(), whole_state(head)))

    def stage_head(self, name: str, part: Part, overwrite_ok: bool) -> Callable[[], None]:
        """Build a saved head, and return what adds it to the model.

        Raises:
            AdapterExistsError: if there is a head of that name, unless ``overwrite_ok``.
            HeadError: if its configuration does not fit the model.
            TensorMismatchError: if its tensors do not fit its configuration.
        """
        if name in self.heads and not overwrite_ok:
            raise AdapterExistsError(f"there is a head {name!r} already: delete it, or pass overwrite_ok=True")
        with torch.random.fork_rng(devices=[]):  # as for an adapter: values that are replaced shift nobody's numbers
            head = build_head(part.config, BaseInfo.of(self))
        load_into(head, part.tensors, f"head {name!r}")
        return lambda: self.hold_head(name, head, overwrite_ok, set_active=False)

    def hold_head(self, head_name: str, head: Head, overwrite_ok: bool = False, set_active: bool = True) -> None:
        super().hold_head(head_name, head, overwrite_ok, set_active)
        self.forget_vocabularies_of(head_name)

    def delete_head(self, head_name: str) -> None:
        super().delete_head(head_name)
        self.forget_vocabularies_of(head_name)

    def _head_parameters(self) -> Iterator[nn.Parameter]:
        active = self.active_head
        names = [active] if isinstance(active, str) else active or []
        held = (self.heads[name] for name in names if name in self.heads)  # what is in banks does not train
        return (parameter for head in held for parameter in head.parameters())

    def _context_head(self) -> Any:
        setup = self.engine.setup if "engine" in self.__dict__ else None  # discovery runs a model that is to have one
        return None if setup is None else setup.head_setup or heads_of(setup.adapter_setup, self.heads)

    def _rowwise(self, chosen: Any) -> Any:
        """Under a ``Parallel`` every channel is a batch for a head of its own, or for the one that is active."""
        channels = self._channels()
        if channels == 1 or chosen is None or isinstance(chosen, Composition):
            return chosen
        names = (chosen,) * channels if isinstance(chosen, str) else tuple(chosen)
        if len(names) != channels:
            raise HeadError(
                f"{len(names)} heads are active, {', '.join(names)}, for the {channels} channels of a Parallel"
            )
        return Parallel(*names)

    def _plan(self) -> Plan | None:
        # Discovery runs a model that is to have an engine.
        return self.engine.plan() if "engine" in self.__dict__ else None

    def _task_ids(self) -> Any:
        return self.engine.call.task_ids

    def _channels(self) -> int:
        plan = self._plan()
        return 1 if plan is None else plan.channels

    def _run_base(self, inputs: dict[str, Any]) -> Any:
        plan = self._plan()
        if plan is not None and self.engine.repeats_inputs:
            rows = calls.batch_rows(self, (), inputs)
            self.engine.repeat_rows(plan.channels)
            inputs = repeated_inputs(inputs, rows, plan.channels)
        if plan is None or not plan.prompts:
            return super()._run_base(inputs)
        return self.engine.run_base(super()._run_base, inputs)

    def _activate_heads(self, setup: Composition) -> None:
        head = heads_of(setup, self.heads)
        if head is not None:
            self.active_head = head
