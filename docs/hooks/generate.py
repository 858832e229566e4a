"""Parts of pages that are made when the site is built: ``<!-- generate: NAME -->`` and ``<!-- include: FILE -->``."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_EVERYWHERE = ("help", "json", "quiet", "debug")
_ROOT = Path(__file__).resolve().parents[2]


def on_page_markdown(markdown: str, **kwargs: object) -> str:
    """Put the generated parts, and files as code, in their places."""
    markdown = re.sub(r"<!-- generate: (\w+) -->", lambda match: globals()[match[1]](), markdown)
    return re.sub(r"<!-- include: (\S+) -->", lambda match: _listing(_ROOT / match[1]), markdown)


def _listing(path: Path) -> str:
    return f"```python\n{path.read_text(encoding='utf-8').rstrip()}\n```"


def configurations() -> str:
    """Named configurations, with what each changes in the defaults of its method."""
    from adapterhub.methods import load_config, named_configs

    lines = ["| name | method | differs from its defaults in |", "|---|---|---|"]
    for name, config in named_configs().items():
        if config.method == "union":
            parts = ", ".join(f"`{part['method']}`" for part in config.to_dict()["configs"])
            lines.append(f"| `{name}` | union | of {parts} |")
            continue
        defaults = load_config({"method": config.method}).to_dict()
        changes = [f"`{key}={value!r}`" for key, value in config.to_dict().items() if value != defaults[key]]
        lines.append(f"| `{name}` | {config.method} | {', '.join(changes) or 'nothing'} |")
    return "\n".join(lines)


def bottleneck_options() -> str:
    """Every option of the bottleneck configuration with its default."""
    return _options("bottleneck")


def lora_options() -> str:
    """Every option of the LoRA configuration with its default."""
    return _options("lora")


def _options(method: str) -> str:
    from adapterhub.methods import load_config

    config = load_config({"method": method})
    lines = ["| option | default |", "|---|---|"]
    lines += [f"| `{field.name}` | `{getattr(config, field.name)!r}` |" for field in dataclasses.fields(config)]
    return "\n".join(lines)


def heads() -> str:
    """Every type of head."""
    from adapterhub.heads import registered_heads
    from adapterhub.heads.base import head_class

    lines = ["| type | what it is |", "|---|---|"]
    for kind in registered_heads():
        doc = (head_class(kind).__doc__ or "").strip().splitlines()[0]
        lines.append(f"| `{kind}` | {doc} |")
    return "\n".join(lines)


def architectures() -> str:
    """What the sweep over all architectures found."""
    from adapterhub.sites.corrections import CORRECTIONS
    from adapterhub.sweep.exceptions import SETTINGS
    from adapterhub.sweep.report import Report, markdown

    table = markdown(Report.read(_ROOT / "benchmarks" / "results" / "architectures.json"))
    return f"{len(CORRECTIONS)} input and {len(SETTINGS)} default configurations need a correction by name. {table}"


def commands() -> str:
    """The help of every command."""
    import typer

    from adapterhub.cli.app import app

    return "\n\n".join(_commands("adapterhub", typer.main.get_command(app)))


def _commands(path: str, group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        full = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _commands(full, command)
            continue
        lines = [f"## {full}", "", _code(command.help), "", "| argument | meaning | default |", "|---|---|---|"]
        rows = (parameter for parameter in command.params if parameter.name not in _EVERYWHERE)
        yield "\n".join([*lines, *map(_argument, rows)])


def settings() -> str:
    """Every setting of a hub."""
    from adapterhub.hub.server.settings import Settings

    return _settings(Settings)


def serving_settings() -> str:
    """Every setting of a server of a model."""
    from adapterhub.serving.settings import Settings

    return _settings(Settings)


def _settings(kind: Any) -> str:
    """Every setting of a server, from the documentation of its class."""
    lines = ["| setting | default | |", "|---|---|---|"]
    text = (kind.__doc__ or "").partition("Attributes:")[2]
    for names, meaning in re.findall(r"^        (\w[\w, ]*): (.*(?:\n            .*)*)", text, re.MULTILINE):
        fields = [kind.model_fields[name] for name in names.split(", ")]
        defaults = (_default(field.get_default(call_default_factory=True)) for field in fields)
        shown = ", ".join(f"`{text}`" for text in defaults if text)
        given = ", ".join(f"`{kind.model_config['env_prefix']}{name.upper()}`" for name in names.split(", "))
        lines.append(f"| {given} | {shown} | {' '.join(meaning.replace('``', '`').split())} |")
    return "\n".join(lines)


def _default(value: Any) -> str:
    if hasattr(value, "get_secret_value"):
        return ""
    return json.dumps(value) if isinstance(value, bool | dict | list) else str(value)


def _argument(parameter: Any) -> str:
    """A row of the table of a command."""
    options = [text for text in parameter.opts if text.startswith("-")] or [parameter.name.upper()]
    shown = parameter.show_default if isinstance(parameter.show_default, str) else ""
    if not shown and isinstance(parameter.default, str | int | float | Path) and parameter.default is not False:
        shown = f"`{parameter.default}`"
    name, meaning = ", ".join(f"`{text}`" for text in options), _code(parameter.help).replace("|", "\\|")
    return f"| {name} | {meaning} | {shown} |"


def _code(text: str | None) -> str:
    """Bold in a terminal is code on a page."""
    return re.sub(r"\[/?bold\]", "`", (text or "").replace("\\[", "["))
