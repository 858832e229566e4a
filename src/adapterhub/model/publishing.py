"""Publishing adapters of a model on a hub."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from adapterhub.errors import HubError, HubIdError

if TYPE_CHECKING:
    from adapterhub.hub.card_making import Facts
    from adapterhub.hub.client.pushing import Pushed

_Base: Any = PreTrainedModel if TYPE_CHECKING else object


class PublishingMixin(_Base):
    """Methods that send what a model holds to a hub."""

    def push_adapter_to_hub(
        self,
        repo_id: str,
        adapter_name: str,
        datasets_tag: str | None = None,
        local_path: str | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        overwrite_adapter_card: bool = False,
        create_pr: bool = False,
        revision: str | None = None,
        commit_description: str | None = None,
        adapter_card_kwargs: Mapping[str, Any] | None = None,
        *,
        adapterhub_tag: str | None = None,
        tag: str | None = None,
        format: str = "adapterhub",
        tokenizer: Any = None,
        base: str | None = None,
        sign_with: str | None = None,
        hub: str | None = None,
    ) -> "Pushed":
        """Publish an adapter of this model, with the head of its name and a card.

        Args:
            repo_id: where to: ``owner/name``, or a place in the catalogue (``sentiment/sst-2@owner``).
            adapter_name: which adapter.
            datasets_tag: the data set that it was trained on, by its name on the Hugging Face Hub.
            local_path: a folder to save it in on the way; what else is there is published with it, ``README.md`` say.
            commit_message, commit_description: what is new.
            private: show it to its owner alone, if the repository is a new one.
            token: of a user there, in the place of the one that was logged in with.
            overwrite_adapter_card: make a new card though there is one in ``local_path``.
            create_pr: has to be False: a change that others shall look at first goes to a branch.
            revision: the branch that it becomes the newest version of.
            adapter_card_kwargs: for the card: ``description``, ``license``, ``language``, ``tags``, or ``scores``:
                values by the names of metrics, claimed for ``datasets_tag``.
            adapterhub_tag: the place in the catalogue (``sentiment/sst-2``), where ``repo_id`` names a repository.
            tag: a name for this version.
            base: what the base model is called on a hub, where it was loaded from a path.
            format: ``"adapterhub"``, ``"peft"`` or ``"adapters"``.
            tokenizer: the one that it was trained with, which the fingerprint of the base model then covers.
            sign_with: the file of a private key to sign it with, or ``"sigstore"``, as in ``adapterhub.push``.
            hub: the address of a hub; by default the one that was logged in to last.

        Raises:
            AdapterNotFoundError: if there is no such adapter.
            HubError: as ``adapterhub.push``.
        """
        given = _Given(
            datasets_tag,
            local_path,
            commit_message,
            private,
            token,
            overwrite_adapter_card,
            create_pr,
            revision,
            commit_description,
            adapter_card_kwargs,
            adapterhub_tag,
            tag,
            base,
            sign_with,
            hub,
        )
        with given.folder() as folder:
            self.save_adapter(folder, adapter_name, format=format, tokenizer=tokenizer)
            return given.push(folder, repo_id, adapter_name)

    def push_adapter_setup_to_hub(
        self,
        repo_id: str,
        adapter_setup: Any,
        head_setup: Any = None,
        *positional: Any,
        format: str = "adapterhub",
        **options: Any,
    ) -> "Pushed":
        """Publish a composition with all its adapters and fusions as one; ``load_adapter_setup`` takes its name.

        ``adapter_setup``, ``head_setup`` and ``format`` are those of ``save_adapter_setup``; all else is as in
        ``push_adapter_to_hub`` after the name of the adapter, in that order.
        """
        given = _Given(*positional, **options)
        with given.folder() as folder:
            self.save_adapter_setup(folder, adapter_setup, head_setup, format=format)
            return given.push(folder, repo_id, str(adapter_setup))


@dataclass(frozen=True)
class _Given:
    """The arguments that say how something is published, in the order that scripts give them."""

    datasets_tag: str | None = None
    local_path: str | None = None
    commit_message: str | None = None
    private: bool | None = None
    token: str | None = None
    overwrite_adapter_card: bool = False
    create_pr: bool = False
    revision: str | None = None
    commit_description: str | None = None
    adapter_card_kwargs: Mapping[str, Any] | None = None
    adapterhub_tag: str | None = None
    tag: str | None = None
    base: str | None = None
    sign_with: str | None = None
    hub: str | None = None

    def __post_init__(self) -> None:
        if self.create_pr:
            raise HubError(
                "there are no pull requests here: publish to a branch (revision=...) and have others look at it"
            )

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The folder that a person named, or one for now."""
        if self.local_path is not None:
            yield Path(self.local_path)
            return
        with tempfile.TemporaryDirectory() as made:
            yield Path(made) / "adapter"

    def push(self, folder: Path, repo_id: str, what: str) -> "Pushed":
        """Publish what was saved in a folder."""
        from adapterhub.hub.client.pushing import push  # takes time, which whoever publishes nothing need not spend

        return push(
            folder,
            repo_id,
            facts=self._facts(),
            overwrite_card=self.overwrite_adapter_card,
            private=bool(self.private),
            message=self.commit_message or f"Upload of {what}",
            description=self.commit_description or "",
            branch=self.revision or "main",
            tag=self.tag,
            base=self.base,
            sign_with=self.sign_with,
            hub=self.hub,
            token=self.token,
        )

    def _facts(self) -> "Facts":
        """What the author says, for the card.

        Raises:
            HubIdError: if the place in the catalogue is none.
        """
        from adapterhub.hub.card import ClaimedScore
        from adapterhub.hub.card_making import Facts

        task, slash, dataset = (self.adapterhub_tag or "").partition("/")
        if slash and not (task and dataset):
            raise HubIdError(f"{self.adapterhub_tag!r} is no place in a catalogue: write task/dataset")
        card = self.adapter_card_kwargs or {}
        languages, data = card.get("language") or (), self.datasets_tag or dataset
        return Facts(
            description=str(card.get("description") or card.get("information") or ""),
            license=str(card.get("license") or ""),
            task=task,
            dataset=dataset,
            languages=(languages,) if isinstance(languages, str) else tuple(languages),
            datasets=(self.datasets_tag,) if self.datasets_tag else (),
            scores=tuple(ClaimedScore(data, name, value) for name, value in (card.get("scores") or {}).items()),
            tags=tuple(card.get("tags") or ()),
        )
