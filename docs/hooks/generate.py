"""Parts of pages that are made from the code when the site is built: ``<!-- generate: NAME -->`` in a page."""

import contextlib
import dataclasses
import io
import re
import sys
from pathlib import Path

_TESTS = str(Path(__file__).resolve().parents[2] / "tests")


def on_page_markdown(markdown: str, **kwargs: object) -> str:
    """Put the generated parts in their places."""
    return re.sub(r"<!-- generate: (\w+) -->", lambda match: globals()[match[1]](), markdown)


def configurations() -> str:
    """Named configurations, with what each changes in the defaults."""
    from adapterhub.methods import named_configs
    from adapterhub.methods.bottleneck import BottleneckConfig

    defaults = BottleneckConfig().to_dict()
    lines = ["| name | differs from the defaults in |", "|---|---|"]
    for name, config in named_configs().items():
        changes = [f"`{key}={value!r}`" for key, value in config.to_dict().items() if value != defaults[key]]
        lines.append(f"| `{name}` | {', '.join(changes) or 'nothing'} |")
    return "\n".join(lines)


def options() -> str:
    """Every option of the bottleneck configuration with its default."""
    from adapterhub.methods.bottleneck import BottleneckConfig

    lines = ["| option | default |", "|---|---|"]
    lines += [f"| `{field.name}` | `{field.default!r}` |" for field in dataclasses.fields(BottleneckConfig)]
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
    """The families that the tests run on, with what discovery finds in each."""
    from adapterhub.sites import discover

    sys.path.insert(0, _TESTS)
    import tiny

    lines = ["| family | towers | layer norm | sublayers of a layer |", "|---|---|---|---|"]
    for family in tiny.FAMILIES:
        with contextlib.redirect_stderr(io.StringIO()):
            sites = discover(tiny.model(family))
        last = sites.layers[-1]
        placing = "after the sublayer" if last.sublayers[0].norm else "before the sublayer"
        kinds = ", ".join(sub.kind.replace("_", "-") for sub in last.sublayers)
        lines.append(f"| {family} | {' and '.join(filter(None, sites.towers)) or 'one'} | {placing} | {kinds} |")
    return "\n".join(lines)


def commands() -> str:
    """The help of every command."""
    import typer

    from adapterhub.cli.app import app

    group = typer.main.get_command(app)
    texts = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        usage = re.sub(r"\[/?bold\]", "`", (command.help or "").replace("\\[", "["))
        lines = [f"## adapterhub {name}", "", usage, "", "| argument | meaning | default |", "|---|---|---|"]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            spelled = ", ".join(
                f"`{text}`"
                for text in (parameter.opts if parameter.opts[0].startswith("-") else [parameter.name.upper()])
            )
            meaning = re.sub(r"\[/?bold\]", "`", (getattr(parameter, "help", "") or "").replace("\\[", "[")).replace(
                "|", "\\|"
            )
            default = (
                "" if parameter.default in (None, False) or callable(parameter.default) else f"`{parameter.default}`"
            )
            lines.append(f"| {spelled} | {meaning} | {default} |")
        texts.append("\n".join(lines))
    return "\n\n".join(texts)
