"""Which names were there before, in some ten bytes a name: a `set` of them would take a hundred and more.

A table of 64-bit hashes with open addressing and linear probing. Python's own hashes are keyed anew in each
process, so that nobody can choose names whose hashes collide; two of a million do with a chance of 3e-8.
"""

from __future__ import annotations

import mmap
from typing import Final

_SMALLEST: Final = 1 << 10
_MASK: Final = (1 << 64) - 1
_ODD: Final = 0x9E37_79B9_7F4A_7C15
"""2 to the 64 over the golden ratio: spreads what `hash` leaves alike (Knuth, TAOCP 3, section 6.4)."""


class Seen:
    """A set of texts that can be added to."""

    def __init__(self) -> None:
        self._slots = _free_slots(_SMALLEST)
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
        if 5 * self._count > 4 * len(self._slots):
            self._grow()
        return True

    def _place(self, mark: int) -> int:
        """Return where *mark* lies, or would."""
        slots = self._slots
        size = len(slots)
        place = mark % size
        while (found := slots[place]) and found != mark:
            place = (place + 1) % size
        return place

    def _grow(self) -> None:
        before = self._slots
        self._slots = _free_slots(len(before) * 3 // 2)
        for mark in before:
            if mark:
                self._slots[self._place(mark)] = mark


def _free_slots(count: int) -> memoryview:
    """Return so many zeros of 64 bits, which stand for free slots.

    They are mapped, so that a table that was outgrown goes back to the system: as a hole among other blocks
    it would count as memory of the process for good. A copy, for else a forked child would write into ours.
    """
    return memoryview(mmap.mmap(-1, 8 * count, access=mmap.ACCESS_COPY)).cast("Q")


def _mark(text: str) -> int:
    """Return 64 bits that stand for *text*, never 0."""
    mark = (hash(text) * _ODD) & _MASK
    return (mark ^ mark >> 32) or 1
