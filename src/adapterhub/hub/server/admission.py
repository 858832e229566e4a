"""What may become a commit: every file is opened and checked, and the whole has to be what it says."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.card import CARD, Card
from adapterhub.hub.inspecting import AdapterInfo, Known, check_file, check_paths, inspect
from adapterhub.hub.server.errors import TooLargeError
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub


@dataclass(frozen=True)
class Findings:
    """What files turned out to be.

    Attributes:
        info: the adapter, fusion or composition in them, or None if there is none (yet).
        card: what their README.md says, or None without one.
    """

    info: AdapterInfo | None
    card: Card | None


def examine(hub: Hub, before: Mapping[str, Entry], after: Mapping[str, Entry], read: Collection[str] = ()) -> Findings:
    """Open and check the files that are new in ``after``, and then the whole.

    ``read`` are the files in ``before`` that made up an adapter: their values are not looked through again.

    Raises:
        UploadRefusedError: saying which file, what of it, and what to do.
    """
    if len(after) > hub.settings.max_commit_files:
        raise TooLargeError(f"{len(after):,} files are more than the {hub.settings.max_commit_files:,} allowed here")
    check_paths(after)
    try:
        for path, file in after.items():
            if before.get(path) != file:
                with hub.store.open(file.sha256) as stream:
                    check_file(path, stream)
        return _whole(hub, after, {path for path in read if before.get(path) == after.get(path)})
    except FileNotFoundError as error:  # the garbage collection was faster
        raise UploadRefusedError("some of the bytes were sent too long ago: upload them again") from error


def _whole(hub: Hub, files: Mapping[str, Entry], read: Collection[str]) -> Findings:
    card = None
    if (readme := files.get(CARD)) is not None:
        with hub.store.open(readme.sha256) as stream:
            card = Card.parse(stream.read())
    base = card.base if card is not None else None
    known = {path: Known(file.sha256, path in read) for path, file in files.items()}
    return Findings(inspect({path: _opener(hub, file) for path, file in files.items()}, base, known), card)


def _opener(hub: Hub, file: Entry) -> Callable[[], BinaryIO]:
    return partial(hub.store.open, file.sha256)
