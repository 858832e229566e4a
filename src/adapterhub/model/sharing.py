"""What a person calls on a model so that adapters hold parameters in common."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from adapterhub.composition import MultiTask
from adapterhub.engine import Adapter, Engine, sharing
from adapterhub.engine.named import NamedModules
from adapterhub.errors import ConfigError

_Base: Any = PreTrainedModel if TYPE_CHECKING else object


class SharingMixin(_Base):
    """Parameters that adapters of a model hold in common: those of all tasks in MTL-LoRA."""

    engine: Engine
    adapters: NamedModules[Adapter]

    def share_parameters(
        self,
        adapter_names: "MultiTask | Iterable[str] | str",
        name: str | None = None,
        reference_adapter_name: str | None = None,
    ) -> None:
        """Make adapters hold one set of those parameters that their method shares, trained by all and counted once.

        Share before an optimiser is made: parameters are new ones afterwards. Sharing is kept by ``save_pretrained``,
        ``save_adapter_setup`` and copies of the model; an adapter that is saved by itself is whole.

        Args:
            adapter_names: a ``MultiTask``, names, or one text with a comma between names.
            name: of the group; by default the names of the adapters with a comma between.
            reference_adapter_name: whose values all get; the first by default.

        Raises:
            AdapterNotFoundError: if an adapter is not there.
            ConfigError: for fewer than two adapters, a method that shares nothing, adapters that are not alike, a
                reference that is none of them, or the name of another group. Nothing is changed then.
        """
        names = _names(adapter_names)
        adapters = [self.engine.get(one) for one in names]
        reference = reference_adapter_name or names[0]
        if len(names) < 2 or reference not in names:
            raise ConfigError(
                f"parameters are shared by at least two adapters, of which one is the reference; given are "
                f"{', '.join(names)}, and the reference {reference!r}"
            )
        group = name or ",".join(names)
        members = sharing.names_by_group(self.adapters.values()).get(group, ())
        if others := [one for one in members if one not in names]:
            raise ConfigError(
                f"there is a group {group!r} already, with {', '.join(others)} in it: give another name, or share with "
                "all of them"
            )
        sharing.share(adapters, group, self.adapters[reference])

    def unshare_parameters(self, adapter_names: "MultiTask | Iterable[str] | str", name: str | None = None) -> None:
        """Give adapters parameters of their own, with the values of those that they share.

        Args:
            adapter_names: as in ``share_parameters``.
            name: of the group, if all of them have to be in it.

        Raises:
            AdapterNotFoundError: if an adapter is not there.
            ConfigError: if one of them shares nothing, or is not in the group. Nothing is changed then.
        """
        names = _names(adapter_names)
        adapters = [self.engine.get(one) for one in names]
        found = sharing.names_by_group(self.adapters.values())
        members = {one for group, inside in found.items() if name in (None, group) for one in inside}
        if strange := [one for one in names if one not in members]:
            groups = "; ".join(f"{group!r} of {', '.join(inside)}" for group, inside in found.items()) or "none"
            where = "with any other adapter" if name is None else f"in a group {name!r}"
            raise ConfigError(f"{', '.join(strange)} shares no parameters {where}. Groups: {groups}.")
        for adapter in adapters:
            sharing.unshare(adapter)


def _names(given: "MultiTask | Iterable[str] | str") -> list[str]:
    names = given.names() if isinstance(given, MultiTask) else given.split(",") if isinstance(given, str) else given
    return list(dict.fromkeys(names))
