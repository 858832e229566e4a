"""Methods by name, and configurations from whatever a person writes: an object, a name, a dictionary, a file."""

import ast
import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from adapterhub.errors import ConfigError
from adapterhub.methods.base import AdapterConfig
from adapterhub.methods.spelling import in_own_words

DEFAULT_CONFIG = "seq_bn"
PLUGINS = "adapterhub.methods"  # the group of entry points by which other packages bring methods

_methods: dict[str, type[AdapterConfig]] = {}
_named: dict[str, AdapterConfig] = {}


def register(config_class: type[AdapterConfig], named: Mapping[str, AdapterConfig]) -> None:
    """Make a method known under ``config_class.method``, and its configurations under their names.

    Raises:
        ConfigError: if another method has one of the names, or this one does not say what it does.
    """
    if config_class.build is AdapterConfig.build and config_class.modules is AdapterConfig.modules:
        raise ConfigError(f"{config_class.__name__} defines neither build nor modules: it would act nowhere")
    taken = [name for name in named if name in _named]
    if taken or config_class.method in _methods:
        raise ConfigError(f"method {config_class.method!r}: {', '.join(taken) or 'its name'} is registered already")
    _methods[config_class.method] = config_class
    _named.update(named)


def named_configs() -> dict[str, AdapterConfig]:
    """Every named configuration, those of installed packages included."""
    _load_plugins()
    return dict(_named)


@cache
def _load_plugins() -> None:
    """Register the methods of other packages: entry points of the group ``adapterhub.methods``, each a configuration.

    One that cannot be loaded is named in a warning, and all else works.
    """
    for plugin in entry_points(group=PLUGINS):
        try:
            config_class = plugin.load()
            if not (isinstance(config_class, type) and issubclass(config_class, AdapterConfig)):
                raise ConfigError(f"{plugin.value} is no subclass of AdapterConfig")
            if config_class.method not in _methods:
                register(config_class, {plugin.name: config_class()})
        except Exception as error:  # another package's code
            warnings.warn(f"the method {plugin.name!r} ({plugin.value}) could not be loaded: {error}", stacklevel=2)


def load_config(
    source: "AdapterConfig | str | Mapping[str, Any] | Path | None" = None, **overrides: Any
) -> AdapterConfig:
    """A configuration from an object, a name with overrides (``"seq_bn[reduction_factor=8]"``), a dictionary of
    fields with its ``method`` (or one of ``adapters``), or a JSON file of such a dictionary; None is ``"seq_bn"``.

    Raises:
        ConfigError: for an unknown name or option, a malformed string, or a file that is not such a dictionary.
    """
    _load_plugins()
    config = _load(DEFAULT_CONFIG if source is None else source)
    return config.replace(**overrides) if overrides else config


def get_adapter_config_hash(
    config: "AdapterConfig | str | Mapping[str, Any] | Path", length: int = 16, ignore_params: Iterable[str] = ()
) -> str:
    """A digest of a configuration, ``length`` hexadecimal digits of SHA-256 over all its fields but some.

    Equal configurations have equal digests. They are not those of ``adapters``, which leave out some values.
    """
    left_out = set(ignore_params)
    fields = {name: value for name, value in load_config(config).to_dict().items() if name not in left_out}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:length]


def _load(source: "AdapterConfig | str | Mapping[str, Any] | Path") -> AdapterConfig:
    if isinstance(source, AdapterConfig):
        return source
    if isinstance(source, Mapping):
        return _from_dict(source)
    if isinstance(source, (str, Path)):
        text = str(source)
        return _from_file(Path(source)) if text.endswith(".json") or Path(text).is_file() else _from_string(text)
    raise ConfigError(f"a configuration is an object, a name, a dictionary or a JSON file, not {type(source).__name__}")


def _from_dict(given: Mapping[str, Any]) -> AdapterConfig:
    values = in_own_words(given)
    method = values.get("method")
    if not isinstance(method, str) or method not in _methods:
        raise ConfigError(f"a configuration names its method, one of {', '.join(_methods)}; this one says {method!r}")
    return _methods[method].from_dict(values)


def _from_file(path: Path) -> AdapterConfig:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {path} could not be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"configuration file {path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"configuration file {path} must hold a JSON object, and holds a {type(values).__name__}")
    return _from_dict(values)


def _from_string(text: str) -> AdapterConfig:
    parts = re.split(r"\|(?![^\[]*\])", text)  # bars outside of brackets
    if len(parts) > 1:
        return _methods["union"].from_dict({"configs": [_from_string(part) for part in parts]})
    match = re.fullmatch(r"\s*([\w+-]+)\s*(?:\[(.*)\])?\s*", text, re.DOTALL)
    if match is None:
        raise ConfigError(f"malformed configuration {text!r}: write a name, or name[option=value, ...]")
    name, options = match.groups()
    if name not in _named:
        raise ConfigError(f"unknown configuration {name!r}. Known: {', '.join(_named)}.")
    return _named[name].replace(**_options(text, options)) if options else _named[name]


def _options(text: str, options: str) -> dict[str, Any]:
    """Parse ``a=1, b=[0, 1], c=relu, d=all-linear`` by Python's own grammar; a bare word is a string."""
    try:
        call = ast.parse(f"f({options})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args and all(word.arg for word in call.keywords)
        return {str(word.arg): _value(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise ConfigError(f"malformed options in {text!r}: write name[option=value, ...] with literal values") from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and isinstance(node.right, ast.Name):
        return f"{_value(node.left)}-{node.right.id}"
    return ast.literal_eval(node)
