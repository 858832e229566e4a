"""What a file is by its content: things that are no data of an adapter, whole pictures, texts, sentencepiece models."""

import re

from adapterhub.errors import UploadRefusedError

START = 1024
# What files begin with that a program would run or unpack, at an offset.
_BEGINNINGS = (
    (0, b"PK\x03\x04", "a zip archive, or the PyTorch file that is one"),
    (0, b"PK\x05\x06", "a zip archive"),
    (0, b"PK\x07\x08", "a zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a rar archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (0, b"\x04\x22\x4d\x18", "an lz4 archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "a program (ELF)"),
    (0, b"MZ", "a program (Windows)"),
    (0, b"\xca\xfe\xba\xbe", "a program (Java or macOS)"),
    (0, b"\xcf\xfa\xed\xfe", "a program (macOS)"),
    (0, b"\xce\xfa\xed\xfe", "a program (macOS)"),
    (0, b"\x00asm", "a program (WebAssembly)"),
    (0, b"\x93NUMPY", "an array of numpy"),
    (0, b"\x89HDF\r\n", "an HDF5 file"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"%PDF", "a PDF"),
    (0, b"#!", "a script"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")  # the opcode PROTO
_OLD_PICKLE = re.compile(
    rb"c(?:__builtin__|builtins|os|posix|nt|sys|subprocess|torch[\w.]*)\n\w+\n[^\w\s]"
)  # protocol 0
_PAGE = re.compile(rb"\s*<(?:!doctype|html|head|body|script|svg|iframe|\?xml|\?php)[\s>]", re.IGNORECASE)
_END_OF_ZIP = b"PK\x05\x06"
_TAIL = 65_557  # where unzip looks for it
_PNG = b"\x89PNG\r\n\x1a\n"
_BREAKS = {*range(0x20)} - {0x09, 0x0A, 0x0C, 0x0D}


def foreign(start: bytes) -> str | None:
    """What a file is that begins so and is nothing that a repository holds, or None."""
    for offset, mark, what in _BEGINNINGS:
        if start[offset : offset + len(mark)] == mark:
            return what
    if _PICKLE.match(start) or _OLD_PICKLE.match(start):
        return "a pickle"
    return "a page that a browser would run" if _PAGE.match(start.removeprefix(b"\xef\xbb\xbf")) else None


def check_text(data: bytes, where: str) -> None:
    """Pass UTF-8 without control characters.

    Raises:
        UploadRefusedError: for anything else.
    """
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise UploadRefusedError(f"{where} is no text: {error}. Save it as UTF-8, or leave it out.") from error
    if bad := sorted(_BREAKS & set(data)):
        raise UploadRefusedError(f"{where} is no text: it holds the control character 0x{bad[0]:02x}. Leave it out.")


def check_picture(data: bytes, where: str) -> None:
    """Pass a whole PNG or JPEG with nothing behind it or hidden in it that could be unpacked.

    Raises:
        UploadRefusedError: for anything else.
    """
    whole = (
        _ends_as_png(data) if data.startswith(_PNG) else data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9")
    )
    if not whole or _END_OF_ZIP in data[-_TAIL:]:
        raise UploadRefusedError(f"{where} is no PNG or JPEG, or has something else behind or in it. Save it again.")


def check_pieces(data: bytes, where: str) -> None:
    """Pass the model of a sentencepiece tokenizer, or a table of tokens as text.

    Raises:
        UploadRefusedError: for anything else.
    """
    if not _is_message(data):
        check_text(data, where)
    if _END_OF_ZIP in data[-_TAIL:]:
        raise UploadRefusedError(f"{where} has an archive behind it. Copy the model of the tokenizer again.")


def _ends_as_png(data: bytes) -> bool:
    """Whether the chunks of a PNG end with its last one, where the file does."""
    place = len(_PNG)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind, place = data[place + 4 : place + 8], place + 12 + length
        if kind == b"IEND":
            return place == len(data)
    return False


def _is_message(data: bytes) -> bool:
    """Whether these are the fields of a sentencepiece model: messages with the numbers 1 to 5, to the last byte."""
    place, fields = 0, 0
    while place < len(data):
        if data[place] not in (0x0A, 0x12, 0x1A, 0x22, 0x2A):
            return False
        length, shift, place = 0, 0, place + 1
        while place < len(data) and shift < 35:
            byte = data[place]
            length, shift, place = length | (byte & 0x7F) << shift, shift + 7, place + 1
            if byte < 0x80:
                break
        place, fields = place + length, fields + 1
    return fields > 0 and place == len(data)
