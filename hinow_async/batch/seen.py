"""Which names were there before, in some twenty bytes a name: a `set` of them would take a hundred and more.

A table of 64-bit hashes with open addressing and linear probing. Python's own hashes are keyed anew in each
process, so that nobody can choose names whose hashes collide; two of a million do with a chance of 3e-8.
"""

from __future__ import annotations

from array import array
from typing import Final

_SMALLEST: Final = 1 << 10
_MASK: Final = (1 << 64) - 1
_ODD: Final = 0x9E37_79B9_7F4A_7C15
"""2 to the 64 over the golden ratio: spreads what `hash` leaves alike (Knuth, TAOCP 3, section 6.4)."""


class Seen:
    """A set of texts that can be added to."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _SMALLEST))  # 0: free
        self._count = 0

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def __contains__(self, text: str) -> bool:
        """Whether *text* was added."""
        mark = _mark(text)
        return self._slots[self._place(mark)] == mark

    def add(self, text: str) -> bool:
        """Add *text*; return whether it is new."""
        mark = _mark(text)
        place = self._place(mark)
        if self._slots[place] == mark:
            return False
        self._slots[place] = mark
        self._count += 1
        if 3 * self._count > 2 * len(self._slots):
            self._grow()
        return True

    def _place(self, mark: int) -> int:
        """Return where *mark* lies, or would."""
        slots = self._slots
        last = len(slots) - 1
        place = mark & last
        while (found := slots[place]) and found != mark:
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        before = self._slots
        self._slots = array("Q", bytes(2 * 8 * len(before)))
        for mark in before:
            if mark:
                self._slots[self._place(mark)] = mark


def _mark(text: str) -> int:
    """Return 64 bits that stand for *text*, never 0."""
    mark = (hash(text) * _ODD) & _MASK
    return (mark ^ mark >> 32) or 1
