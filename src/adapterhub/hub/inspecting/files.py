"""Which files a repository may hold: data that no program runs, under names that mean one file everywhere.

A type is told by the name and by the content, and both must agree. Nothing is ever unpacked.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO, NoReturn

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting import content, signatures
from adapterhub.hub.inspecting.configs import read_config
from adapterhub.hub.inspecting.signatures import SIGNATURE, SIGNATURE_BYTES
from adapterhub.hub.inspecting.strict_json import parse
from adapterhub.hub.inspecting.tensors import BinaryFile, read_header

Opener = Callable[[], BinaryIO]

PATH, SEGMENT, LEVELS = 1024, 255, 16  # bytes of a path and of a part of it, and parts
JSON, TEXT, TABLE, VOCABULARY, PICTURE = (size * 1024 * 1024 for size in (1, 1, 4, 64, 8))
WEIGHTS = ".safetensors"
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{name}{n}" for name in ("com", "lpt") for n in "123456789¹²³"
}
_NOT_IN_NAMES = '<>:"|?*\\'
_BARE = {
    "license",
    "licence",
    "copying",
    "notice",
    "authors",
    "citation",
    "readme",
    "changelog",
    ".gitattributes",
    ".gitignore",
}
_TEXTS = (".md", ".txt", ".rst", ".jinja", ".jinja2", ".bib", ".cff", ".yaml", ".yml")
_TABLES = (".csv", ".tsv", ".jsonl")
_VOCABULARIES = (".txt", ".vocab", ".bpe", ".codes", ".tiktoken", ".merges")
_LARGE_JSON = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
_PIECES = ".model"  # of sentencepiece
_PICTURES = (".png", ".jpg", ".jpeg")
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz")
_OTHER_WEIGHTS = (".h5", ".hdf5", ".keras", ".msgpack", ".onnx", ".gguf", ".ggml", ".pb", ".tflite", ".ot")
_PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4", ".7z", ".rar", ".whl", ".jar", ".egg")
_CODE = (".py", ".pyc", ".pyi", ".so", ".dll", ".dylib", ".exe", ".sh", ".bash", ".bat", ".cmd", ".ps1", ".js", ".mjs")
_SOURCES = (
    ".ts",
    ".wasm",
    ".php",
    ".rb",
    ".pl",
    ".lua",
    ".r",
    ".jl",
    ".ipynb",
    ".c",
    ".cpp",
    ".h",
    ".cu",
    ".java",
    ".go",
)
_PAGES = (".html", ".htm", ".xhtml", ".xml", ".svg", ".css", ".pdf")
UNPICKLE = (
    "convert it with `adapterhub convert IN OUT --format FORMAT --allow-pickle` (FORMAT adapterhub, adapters or peft)"
)
_REMEDIES = {
    **dict.fromkeys(
        _PICKLED, f"a pickle can run code when it is opened: {UNPICKLE}, or leave it out if it is no weights"
    ),
    **dict.fromkeys(_OTHER_WEIGHTS, "weights are taken as safetensors alone"),
    **dict.fromkeys(_PACKED, "archives are not taken: upload the files that are in it"),
    **dict.fromkeys(
        _CODE + _SOURCES, "code is not taken: an adapter is data, which the library that loads it gives its meaning"
    ),
    ".sig": f"a signature is {SIGNATURE!r}, beside the files that it is over",
    **dict.fromkeys(_PAGES, "pages and SVG can hold scripts: write README.md, and save pictures as PNG"),
}


def check_files(files: Mapping[str, Opener]) -> None:
    """Pass the files of a repository: ``check_paths``, and ``check_file`` for each.

    Raises:
        UploadRefusedError: naming the first file that is refused, why, and what to do.
    """
    check_paths(files)
    for path, opened in files.items():
        with opened() as file:
            check_file(path, file)


def check_paths(paths: Iterable[str]) -> None:
    """Pass paths that name as many files on every system.

    Raises:
        UploadRefusedError: for a path that is none, two that differ in case alone, or a file that is a folder too.
    """
    spelt: dict[str, str] = {}
    leaves: dict[str, str] = {}
    for path in paths:
        check_path(path)
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            part = "/".join(parts[:end])
            if spelt.setdefault(part.casefold(), part) != part:
                _refuse(path, f"differs from {spelt[part.casefold()]!r} in case alone: rename one of them")
        leaves[path] = path
    for path in leaves:
        parents = path.split("/")[:-1]
        if clash := next((one for end in range(len(parents)) if (one := "/".join(parents[: end + 1])) in leaves), None):
            _refuse(path, f"lies in {clash!r}, which is a file too: rename one of them")


def check_path(path: str) -> None:
    """Pass a relative path of parts that every system can have as names, in one spelling (NFC).

    Raises:
        UploadRefusedError: for any other.
    """
    if unicodedata.normalize("NFC", path) != path:
        _refuse(path, "is not in the composed form of Unicode (NFC): rename it")
    if any(unicodedata.category(letter)[0] in "CZ" and letter != " " for letter in path):
        _refuse(path, "holds a character that cannot be seen (control, direction, odd space): rename it")
    if bad := sorted(set(path) & set(_NOT_IN_NAMES)):
        _refuse(path, f"holds {' '.join(bad)}, which not every system can have in names: rename it")
    parts = path.split("/")
    if len(path.encode()) > PATH or len(parts) > LEVELS or any(len(part.encode()) > SEGMENT for part in parts):
        _refuse(path, f"is too long: at most {SEGMENT} bytes a part, {PATH} in all, and {LEVELS} parts")
    for part in parts:
        if part in ("", ".", ".."):
            _refuse(path, "must be relative, without '.', '..', and empty parts")
        if part != part.strip(" ") or part.endswith("."):
            _refuse(path, "has a part that begins or ends with a space, or ends with a full stop: rename it")
        if part.casefold() in (".git", "git~1", ".gitmodules"):
            _refuse(path, f"has {part!r} in it, which git keeps for itself: leave it out")
        if part.split(".")[0].rstrip(" ").casefold() in _RESERVED:
            _refuse(path, f"has {part!r} in it, which names a device on Windows: rename it")


def check_type(path: str) -> None:
    """Pass a file whose name says that it is of a type that is taken; ``check_file`` looks whether that is so.

    Raises:
        UploadRefusedError: for any other, with what to do.
    """
    name, suffix = _parts(path)
    if (
        path != SIGNATURE
        and suffix not in (WEIGHTS, ".json", _PIECES, *_PICTURES)
        and _text_limit(name, suffix) is None
    ):
        _refuse(path, _REMEDIES.get(suffix) or f"is of a type that is not taken ({suffix or 'none'}). {_taken()}")


def check_file(path: str, file: BinaryFile) -> None:
    """Pass a file whose name says what may be in a repository, and whose content is that.

    Of safetensors files the header is read (``check_finite`` reads the values), JSON is parsed, and the configurations
    among it checked (``configs``). A file is never unpacked or run.

    Raises:
        UploadRefusedError: for anything else, with what to do.
    """
    name, suffix = _parts(path)
    size = file.seek(0, 2)
    file.seek(0)
    found = content.foreign(file.read(content.START))
    if suffix == WEIGHTS:
        _check_weights(path, file, found)
    elif found:
        _refuse(path, f"is {found}, whatever its name says: {_told(found)}")
    elif path == SIGNATURE:
        signatures.read(_all(path, file, size, SIGNATURE_BYTES), path)
    elif suffix == ".json":
        _check_json(path, name, file, size)
    elif suffix in _PICTURES:
        content.check_picture(_all(path, file, size, PICTURE), path)
    elif suffix == _PIECES:
        content.check_pieces(_all(path, file, size, VOCABULARY), path)
    elif (limit := _text_limit(name, suffix)) is not None:
        content.check_text(_all(path, file, size, limit), path)
    else:
        check_type(path)


def _parts(path: str) -> tuple[str, str]:
    """The name of a file and its ending, in small letters."""
    name = path.rpartition("/")[2].casefold()
    return name, "" if name in _BARE or "." not in name else "." + name.rpartition(".")[2]


def _check_weights(path: str, file: BinaryFile, found: str | None) -> None:
    """Pass a safetensors file; the length that it begins with may look like the mark of another format."""
    try:
        read_header(file, path)
    except UploadRefusedError:
        if found:
            _refuse(path, f"is {found}, whatever its name says: {_told(found)}")
        raise


def _check_json(path: str, name: str, file: BinaryFile, size: int) -> None:
    if name in _LARGE_JSON:
        content.check_text(_all(path, file, size, VOCABULARY), path)
    elif name.endswith(("config.json", "_setup.json")):
        read_config(_all(path, file, size, JSON), path)
    else:
        parse(_all(path, file, size, TABLE), path)


def _text_limit(name: str, suffix: str) -> int | None:
    if name in _BARE:
        return TEXT
    if suffix in _VOCABULARIES and (suffix != ".txt" or name in ("vocab.txt", "merges.txt")):
        return VOCABULARY
    return TEXT if suffix in _TEXTS else TABLE if suffix in _TABLES else None


def _all(path: str, file: BinaryFile, size: int, limit: int) -> bytes:
    if size > limit:
        _refuse(path, f"is {size:,} bytes, and a file of its type may be {limit:,}: leave it out, or make it smaller")
    file.seek(0)
    return file.read()


def _told(found: str) -> str:
    if found == "a pickle" or "PyTorch" in found:
        return _REMEDIES[".bin"]
    return "an adapter is data, in safetensors, JSON and text. Leave it out"


def _taken() -> str:
    return "Weights are taken as safetensors, and beside them JSON, texts, small tables, tokenizers, PNG and JPEG"


def _refuse(path: str, why: str) -> NoReturn:
    raise UploadRefusedError(f"{path[:200]!r} {why}.")
