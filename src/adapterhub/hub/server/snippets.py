"""Code to copy for an adapter: each piece names the commit, so that it loads the same bytes for ever."""

from dataclasses import dataclass
from urllib.parse import quote

_LOADERS = {
    "adapter": "load_adapter",
    "fusion": "load_adapter_fusion",
    "composition": "load_adapter_setup",
    "head": "load_head",
    "embeddings": "load_embeddings",
}
_ACTIVE = ("adapter", "fusion", "composition")


@dataclass(frozen=True)
class Snippet:
    """A piece of code.

    Attributes:
        key: what its tab is known by.
        title: what it is for.
        language: ``python`` or ``shell``.
        code: the code.
    """

    key: str
    title: str
    language: str
    code: str


@dataclass(frozen=True)
class Subject:
    """What the code is about.

    Attributes:
        hub: the address of this hub.
        repository: ``owner/name``.
        commit: the commit that is loaded; "" where the files lie elsewhere.
        base: the base model, or "" where that is not known.
        format: of the files: ``adapterhub``, ``adapters`` or ``peft``.
        weights: the path of the file of weights, or "".
        kind: ``adapter``, ``fusion``, ``composition``, ``head`` or ``embeddings``.
    """

    hub: str
    repository: str
    commit: str
    base: str
    format: str
    weights: str
    kind: str = "adapter"

    @property
    def pinned(self) -> str:
        """The identifier that never changes its meaning; without a commit, that of the newest version."""
        return f"{self.repository}@{self.commit}" if self.commit else f"@{self.repository}"


def snippets(subject: Subject) -> list[Snippet]:
    """The pieces that make sense for an adapter."""
    made = [Snippet("load", "Load", "python", _load(subject))]
    if subject.kind == "adapter":
        made += [
            Snippet("stack", "Stack", "python", _stack(subject)),
            Snippet("train", "Fine-tune", "python", _train(subject)),
        ]
    if not subject.commit:
        return made
    if subject.format == "peft":
        made.append(Snippet("peft", "PEFT", "python", _peft(subject)))
    if subject.format == "adapters":
        made.append(Snippet("adapters", "adapters", "python", _adapters(subject)))
    return [*made, Snippet("shell", "Shell", "shell", _shell(subject))]


def _model(subject: Subject) -> str:
    base = subject.base or "BASE-MODEL"
    return f'from adapterhub import AutoAdapterModel\n\nmodel = AutoAdapterModel.from_pretrained("{base}")\n'


def _load(subject: Subject) -> str:
    active = "    set_active=True,\n" if subject.kind in _ACTIVE else ""
    return f'{_model(subject)}model.{_LOADERS[subject.kind]}(\n    "{subject.pinned}",\n{active})\n'


def _stack(subject: Subject) -> str:
    return (
        f"{_model(subject)}"
        f'first = model.load_adapter("{subject.pinned}")\n'
        'model.add_adapter("mine", config="seq_bn")\n\n'
        "from adapterhub import Stack\n\n"
        'model.set_active_adapters(Stack(first, "mine"))\n'
    )


def _train(subject: Subject) -> str:
    return (
        f"{_model(subject)}"
        f'name = model.load_adapter("{subject.pinned}")\n'
        "model.train_adapter(name)  # the base model stays frozen\n"
    )


def _peft(subject: Subject) -> str:
    return (
        "import os\n\n"
        f'os.environ["HF_ENDPOINT"] = "{subject.hub}"  # before the imports below\n\n'
        "from peft import PeftModel\nfrom transformers import AutoModel\n\n"
        f'base = AutoModel.from_pretrained("{subject.base or "BASE-MODEL"}")\n'
        f'model = PeftModel.from_pretrained(base, "{subject.repository}", revision="{subject.commit}")\n'
    )


def _adapters(subject: Subject) -> str:
    return (
        "import os\n\n"
        f'os.environ["HF_ENDPOINT"] = "{subject.hub}"  # before the imports below\n\n'
        "from adapters import AutoAdapterModel\n\n"
        f'model = AutoAdapterModel.from_pretrained("{subject.base or "BASE-MODEL"}")\n'
        f'model.load_adapter("{subject.repository}", version="{subject.commit}", set_active=True)\n'
    )


def _shell(subject: Subject) -> str:
    lines = f"adapterhub pull {subject.pinned}\n"
    if subject.weights:
        address = f"{subject.hub}/{subject.repository}/resolve/{subject.commit}/{quote(subject.weights)}"
        lines += f"\n# or a file at a time\ncurl -fLO {address}\n"
    return lines
