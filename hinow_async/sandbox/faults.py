"""What goes wrong, and when: a script of faults that the sandbox follows to the letter."""

import random
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Any, Literal

import attrs

Path = Literal["images", "chat", "models", "balance", "files"]
PATHS: tuple[Path, ...] = ("images", "chat", "models", "balance", "files")

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

_UNBILLED_ERRORS = frozenset({501, 503, 505, 529})
_FRAMING_HEADERS = frozenset({"connection", "content-length", "transfer-encoding"})


def _pairs(headers: Headers) -> tuple[tuple[str, str], ...]:
    items = headers.items() if isinstance(headers, Mapping) else headers
    return tuple((str(name), str(value)) for name, value in items)


def _ordinals(when: Container[int] | Iterable[int] | None) -> Container[int] | None:
    """Sets and ranges stay as they are; anything else becomes a set, which is quick to ask."""
    if when is None or isinstance(when, (set, frozenset, range)):
        return when
    return frozenset(when)  # type: ignore[arg-type]  # a sequence, as the docstring asks


def _pieces(sse: Iterable[str | bytes | float] | None) -> tuple[str | bytes | float, ...] | None:
    return None if sse is None else tuple(sse)


def _at_least(least: float) -> Any:
    return attrs.validators.optional(attrs.validators.ge(least))


def _one_of(*values: object) -> Any:
    return attrs.validators.optional(attrs.validators.in_(values))


@attrs.frozen(kw_only=True)
class Fault:
    """One thing that goes wrong. Durations are seconds, sizes bytes.

    Faults strike requests that would otherwise be served: those with a good key and host, a valid body
    and room under the limits. The first fault of the script whose conditions all hold strikes.

    Where it strikes (all that are given must hold; none given: every request of the path):

    - ``path``: ``images`` (the default), ``chat``, ``models``, ``balance`` or ``files``;
    - ``when``: ordinals of requests, counted per path from 0, in order of arrival;
    - ``every``: each n-th request of the path, beginning with the n-th;
    - ``match``: this text is in the prompt (of a chat: in the last user message; else in the URL's path);
    - ``probability``: 0 to 1, drawn from an own generator that starts at ``seed``;
    - ``times``: strikes at most so often.

    What it does:

    - ``delay``: answers so many seconds later, on top of the latency (alone it is a slow answer);
    - ``status``, ``headers``, ``body``: other than the true ones. A body is a JSON value, text or bytes; an
      error status without a body gets the contract's error object. The connection stays usable;
    - ``garbage``: these bytes as the body of a success that claims to be JSON;
    - ``drop``: closes the connection without an answer, ``"before"`` (not billed) or ``"after"`` (billed,
      after the latency). ``reset=True``: by RST instead of FIN, here and wherever else a connection is cut;
    - ``truncate``: sends so many bytes of the body, then closes the connection;
    - ``framing``: how the end of the body is marked: ``"length"``, ``"chunked"`` or ``"close"``;
    - ``length``: announces this Content-Length, true or not;
    - ``stall``: is silent for so long in the middle of the body (after ``truncate`` bytes when given);
    - ``raw``: these bytes go to the socket instead of any HTTP answer (then ``stall``, then the end);
    - ``sse``: a stream of exactly these pieces (str or bytes); a number among them is a pause in seconds.
      With ``drop="after"`` the connection is cut after the last piece. With a ``Content-Type`` in ``headers``
      it is any body that comes bit by bit.

    ``billed`` says whether the struck request is paid for. By default it is, except for ``drop="before"``,
    a ``status`` of 300 to 499, and 501, 503, 505 and 529, by which a service says that it did nothing.
    """

    path: Path = attrs.field(default="images", validator=attrs.validators.in_(PATHS))
    when: Container[int] | None = attrs.field(default=None, converter=_ordinals)
    every: int | None = attrs.field(default=None, validator=_at_least(1))
    match: str | None = None
    probability: float | None = attrs.field(
        default=None, validator=attrs.validators.optional([attrs.validators.ge(0), attrs.validators.le(1)])
    )
    seed: int = 0
    times: int | None = attrs.field(default=None, validator=_at_least(0))

    delay: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    status: int | None = attrs.field(
        default=None,
        validator=attrs.validators.optional([attrs.validators.ge(200), attrs.validators.le(999)]),
    )
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    body: Any = None
    garbage: bytes | None = None
    drop: Literal["before", "after"] | None = attrs.field(default=None, validator=_one_of("before", "after"))
    reset: bool = False
    truncate: int | None = attrs.field(default=None, validator=_at_least(0))
    framing: Literal["length", "chunked", "close"] | None = attrs.field(
        default=None, validator=_one_of("length", "chunked", "close")
    )
    length: int | None = attrs.field(default=None, validator=_at_least(0))
    stall: float | None = attrs.field(default=None, validator=_at_least(0))
    raw: bytes | None = None
    sse: tuple[str | bytes | float, ...] | None = attrs.field(default=None, converter=_pieces)
    billed: bool | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse combinations of which one half would silently do nothing."""
        contents = [name for name in ("body", "garbage", "raw", "sse") if getattr(self, name) is not None]
        if len(contents) > 1:
            raise ValueError(f"a fault has one content, not {' and '.join(contents)}")
        if self.drop is not None and contents not in ([], ["sse"]):
            raise ValueError(f"a fault that drops the connection sends no {contents[0]}")
        if self.drop == "before" and self.sse is not None:
            raise ValueError('a stream is cut with drop="after"')
        if not (self.delay or self.status or self.headers or contents or self.cuts_by_hand):
            raise ValueError("a fault that does nothing: say what goes wrong")

    @property
    def cuts_by_hand(self) -> bool:
        """Whether the answer cannot be a well-made HTTP answer and is written byte by byte."""
        options = (self.drop, self.truncate, self.framing, self.length, self.stall, self.raw, self.sse)
        return any(value is not None for value in options) or any(
            name.lower() in _FRAMING_HEADERS for name, _ in self.headers
        )

    @property
    def refuses(self) -> bool:
        """Whether the request gets neither its work nor a sign of it."""
        return self.drop == "before" or (self.status or 0) >= 300

    @property
    def is_billed(self) -> bool:
        """Whether a request that it strikes is paid for (see the class)."""
        if self.billed is not None:
            return self.billed
        if self.drop == "before":
            return False
        status = self.status or 200
        return not (300 <= status < 500 or status in _UNBILLED_ERRORS)


class _Trigger:
    """One fault with what it has to remember: its draws and how often it struck."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._random = random.Random(fault.seed)  # noqa: S311 - luck that can be repeated, no secret
        self._struck = 0

    def strikes(self, ordinal: int, text: str) -> bool:
        if not self._holds(ordinal, text):
            return False
        self._struck += 1
        return True

    def _holds(self, ordinal: int, text: str) -> bool:
        fault = self.fault
        return (
            (fault.times is None or self._struck < fault.times)
            and (fault.when is None or ordinal in fault.when)
            and (fault.every is None or (ordinal + 1) % fault.every == 0)
            and (fault.match is None or fault.match in text)
            and (fault.probability is None or self._random.random() < fault.probability)
        )


class FaultScript:
    """Chooses the fault of each request, and counts the requests of each path."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._ordinals: Counter[str] = Counter()
        self._triggers: dict[str, list[_Trigger]] = {path: [] for path in PATHS}
        for fault in faults:
            self._triggers[fault.path].append(_Trigger(fault))

    def choose(self, path: Path, text: str) -> Fault | None:
        """The fault that strikes the next request of *path*, whose prompt (or URL path) is *text*."""
        ordinal = self._ordinals[path]
        self._ordinals[path] = ordinal + 1
        for trigger in self._triggers[path]:
            if trigger.strikes(ordinal, text):
                return trigger.fault
        return None
