"""Names of files: ours always, and valid on Linux, macOS and Windows.

A text that had to be changed to become a name gets a short hash of the original, so that two texts never
end in one name, on file systems that normalise Unicode too. Texts that differ in case alone are told apart
by `fold`, for whoever knows both. What may be in a name is the narrowest of the three systems' rules
(https://learn.microsoft.com/windows/win32/fileio/naming-a-file; NFC; 255 bytes in ext4 and APFS), with room
left for what `numbered` and temporary files add.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

from hinow_async._models.images import ImageFormat

MOST_BYTES: Final = 180
"""The longest name that is made here, in bytes of UTF-8; Windows' 255 units of UTF-16 are never fewer."""

# 56 bits: a million changed texts share a hash once in 100,000 times. No common id ends in so many digits.
_HASH_DIGITS: Final = 14
_HASHED: Final = re.compile(rf"-[0-9a-f]{{{_HASH_DIGITS}}}")
_FORBIDDEN: Final = frozenset('<>:"/\\|?*')
# Control, format (bidi overrides, joiners), surrogate, private and unassigned characters, all separators but
# the plain space.
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
    | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"}
)
# A leading hyphen would be read as an option, a tilde as a home, a dot hides the file.
_NOT_FIRST: Final = " .-~"
_NOT_LAST: Final = " ."
_EXTENSIONS: Final = {"png": "png", "jpeg": "jpg", "webp": "webp"}


def extension(picture_format: ImageFormat) -> str:
    """Return the file name extension of a picture's true format."""
    return _EXTENSIONS[picture_format]


def safe_name(text: str, *, has_twin: bool = False) -> str:
    """Return *text* as the stem of a file name: itself where that is valid, else like it, with a hash.

    Distinct texts get distinct names, unless they differ in case alone: such twins are found with `fold`,
    and the later one is given its hash by *has_twin*.
    """
    if not has_twin and _is_valid(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    plain = "".join("_" if _is_forbidden(char) else char for char in _normal(text)).lstrip(_NOT_FIRST)
    kept = _cut(plain, MOST_BYTES - 1 - _HASH_DIGITS).rstrip(_NOT_LAST)
    if not kept.strip("_"):
        kept = "item"
    return f"_{kept}-{digest}" if _is_reserved(kept) else f"{kept}-{digest}"


def fold(name: str) -> str:
    """Return what names have in common that a file system may take for one: case and normalisation."""
    return _normal(_normal(name).casefold())


def slug(prompt: str, limit: int = 40) -> str:
    """Return the beginning of *prompt* in letters of any script, digits and hyphens, at most *limit* long."""
    text = unicodedata.normalize("NFKC", prompt[: 16 * limit].lower())
    words = "".join(char if _is_of_word(char) else " " for char in text).split()
    whole = _normal("-".join(words))
    if len(whole) <= limit:
        return whole or "image"
    cut = whole[:limit]
    at_word = cut if whole[limit] == "-" else cut.rpartition("-")[0]
    return (at_word if len(at_word) > limit // 2 else cut).rstrip("-")


def file_stem(prompt: str, fingerprint: str) -> str:
    """Return the stem for a request's pictures: a slug of the prompt, 8 hex digits of the fingerprint."""
    return f"{slug(prompt)}-{fingerprint[:8]}"


def numbered(stem: str, index: int, ext: str, n: int = 1) -> str:
    """Return `<stem>-<index>.<ext>`, or from the second of its kind on `<stem>-<index>-<n>.<ext>`."""
    return f"{stem}-{index}.{ext}" if n == 1 else f"{stem}-{index}-{n}.{ext}"


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _is_valid(text: str) -> bool:
    return (
        text == _normal(text)
        and bool(text)
        and text[0] not in _NOT_FIRST
        and text[-1] not in _NOT_LAST
        and not _has_forbidden(text)
        and len(text.encode()) <= MOST_BYTES
        and not _is_reserved(text)
        and not _HASHED.fullmatch(text[-_HASH_DIGITS - 1 :].lower())
    )


def _has_forbidden(text: str) -> bool:
    if text.isascii():  # nearly every id is: this is asked of each item of a batch
        return not text.isprintable() or not _FORBIDDEN.isdisjoint(text)
    return any(map(_is_forbidden, text))


def _is_forbidden(char: str) -> bool:
    if char in _FORBIDDEN:
        return True
    return char != " " and unicodedata.category(char) in _FORBIDDEN_CATEGORIES


def _is_reserved(name: str) -> bool:
    """Whether Windows takes the name for a device, whatever its extension."""
    return name.partition(".")[0].strip().casefold() in _RESERVED


def _is_of_word(char: str) -> bool:
    # Marks belong to letters: without them Devanagari or Thai would fall to pieces.
    return unicodedata.category(char)[0] in "LM" or unicodedata.category(char) == "Nd"


def _cut(text: str, most_bytes: int) -> str:
    """Cut to *most_bytes* of UTF-8, between two characters."""
    return text.encode()[:most_bytes].decode("utf-8", "ignore")
