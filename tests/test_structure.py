"""The shape of the house: imports point down the list of rooms, and what is public is documented."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import adapterhub

SOURCE = Path(adapterhub.__file__).parent
ROOMS = [
    "errors",
    "files",
    "fingerprint",
    "quantised",
    "sites",
    "methods",
    "composition",
    "engine",
    "http",
    "hub",
    "checkpoints",
    "heads",
    "saving",
    "pool",
    "model",
    "classes",
    "auto",
    "dropin",
    "inference",
    "training",
    "loading",
    "converting",
    "verifying",
    "serving",
    "sweep",
    "cli",
    "__main__",
]
# ``adapterhub/__init__.py`` hands out names lazily; reading its version is no import of what it hands out.
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "adapterhub" and len(parts) > 1 else None


def imported(path: Path) -> set[str]:
    """Modules of this package that a file imports when it runs; those for types alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "adapterhub":
                found |= {f"adapterhub.{alias.name}" for alias in node.names}
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if room(name) in ROOMS}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_down(path: Path) -> None:
    own = room("adapterhub." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))
    assert own in ROOMS
    up = [name for name in imported(path) if ROOMS.index(str(room(name))) > ROOMS.index(own)]
    assert up == []


@pytest.mark.parametrize("path", sorted((SOURCE / "methods").glob("*.py")), ids=lambda path: path.name)
def test_methods_know_no_transformer(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [module for module in modules if module.partition(".")[0] == "transformers"]


@pytest.mark.parametrize("name", adapterhub.__all__)
def test_public_names_are_documented(name: str) -> None:
    thing = getattr(adapterhub, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        for method, function in inspect.getmembers(thing, inspect.isfunction):
            ours = (function.__module__ or "").startswith("adapterhub")
            assert method.startswith("_") or not ours or inspect.getdoc(function), f"{name}.{method}"


def loaded_by(code: str, *names: str) -> list[str]:
    """Which of some modules a new process has loaded once it ran ``code``."""
    asked = f"{code}\nimport json, sys; print(json.dumps([one for one in {names!r} if one in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def test_importing_the_package_is_cheap() -> None:
    assert loaded_by("import adapterhub", "torch", "transformers") == []


def test_models_with_adapters_load_nothing_of_a_hub() -> None:
    assert loaded_by("import adapterhub; adapterhub.AutoAdapterModel, adapterhub.init", "httpx", "rich", "pandas") == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["hub", "user", "list", "--dir", "hub"], ["list", "--hub", "http://127.0.0.1:9"]]
)
def test_commands_of_a_hub_load_no_models(arguments: list[str], tmp_path: Path) -> None:
    code = f"import os; os.chdir({str(tmp_path)!r})\nfrom adapterhub.cli.app import run; run({arguments!r})"
    assert loaded_by(code, "torch", "transformers") == []


def test_models_of_every_kind_have_names() -> None:
    from adapterhub import BertAdapterModel, GPT2AdapterModel, RobertaModelWithHeads, T5AdapterModel

    assert BertAdapterModel.__name__ == "BertAdapterModel"
    assert RobertaModelWithHeads.__name__ == "RobertaAdapterModel"
    assert GPT2AdapterModel.can_generate() and T5AdapterModel.can_generate()
    with pytest.raises(AttributeError, match="no attribute 'NothingAdapterModel'"):
        _ = adapterhub.NothingAdapterModel
