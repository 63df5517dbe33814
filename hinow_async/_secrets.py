"""The API key, kept so that no repr, log, pickle or captured traceback can show it."""

from __future__ import annotations

from typing import Any, NoReturn

MASK = "**********"


class MaskedStr(str):
    """A string that goes over the wire as it is and shows itself masked.

    Header values are repr'd by captured traceback locals, debug logs and aiohttp's RequestInfo;
    all of them go through `repr`, the wire goes through `str`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the mask, never the value."""
        return f"'{MASK}'"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse to be pickled: the bytes would hold the value."""
        raise TypeError("an API key is never pickled; read it from the environment of the other process")


class Secret:
    """An API key. `reveal()` is the one way to its text."""

    __slots__ = ("_bytes", "_value")

    def __init__(self, value: object) -> None:
        self._value = value.strip() if isinstance(value, str) else value
        self._bytes = self._value.encode(errors="replace") if isinstance(self._value, str) else b""

    def problem(self) -> str | None:
        """Say what is wrong with the key, without showing it; None: it can be sent."""
        if not isinstance(self._value, str):
            return f"api_key must be a string, not {type(self._value).__name__}"
        if not self._value:
            return "api_key is empty"
        if not (self._value.isascii() and self._value.isprintable() and " " not in self._value):
            return "api_key contains a space, a control character or a character outside ASCII"
        return None

    def reveal(self) -> str:
        """Return the key's text."""
        return str(self._value)

    def bearer(self) -> MaskedStr:
        """Return the value of the Authorization header (contract, section Service)."""
        return MaskedStr(f"Bearer {self._value}")

    def redact(self, text: str) -> str:
        """Return *text* without the key, should a service have echoed it."""
        return text.replace(str(self._value), MASK) if self._value else text

    def redact_bytes(self, body: bytes) -> bytes:
        """Like `redact`, for an answer as it came."""
        return body.replace(self._bytes, MASK.encode()) if self._bytes and self._bytes in body else body

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("an API key is never pickled; read it from the environment of the other process")


def as_secret(value: str | Secret) -> Secret:
    """Wrap a key; one already wrapped is returned as it is."""
    return value if isinstance(value, Secret) else Secret(value)
