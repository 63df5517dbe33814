"""A disk as it would be after a power cut: replayed from a recording, it keeps what was synced, and no more.

Bytes written since a file's last fsync are gone, and so are names made, changed or removed since the last
fsync of their folder: POSIX promises no more, and file systems that keep more are kinder than they need be.
"""

import os
import re
from pathlib import PurePath

import attrs

_SYNCS = {"fsync", "fdatasync"}


@attrs.define(eq=False)
class File:
    live: bytearray = attrs.field(factory=bytearray)
    durable: bytes = b""
    synced: int = -1

    @property
    def state(self):
        return bytes(self.live)

    def write(self, offset, data):
        self.live.extend(bytes(max(0, offset - len(self.live))))
        self.live[offset : offset + len(data)] = data


@attrs.define(eq=False)
class Folder:
    live: dict[str, object] = attrs.field(factory=dict)
    durable: dict[str, object] = attrs.field(factory=dict)
    synced: int = -1
    """When the sync began that its durable state is of."""

    @property
    def state(self):
        return dict(self.live)


class Disk:
    """What is below one folder, which was empty."""

    def __init__(self, root):
        self._root = PurePath(root)
        self._top = Folder()
        self._positions = {}
        """Where the next `write` goes, by the number of the open file; None: to its end."""

    def apply(self, call):
        """Do what a call did; a sync is done by `sync`."""
        do = getattr(self, f"_{call.name.removesuffix('at2').removesuffix('at')}", None)
        if do is not None:
            do(call)

    def node(self, path):
        """Return the file or folder of this name as it is now; None: it is none of this disk."""
        path = PurePath(path)
        if not path.is_absolute() or not path.is_relative_to(self._root):
            return None
        node = self._top
        for part in path.relative_to(self._root).parts:
            if not isinstance(node, Folder) or part not in node.live:
                return None
            node = node.live[part]
        return node

    def lay_out(self, target, keep=lambda node: node.durable):
        """Write what is left after a power cut into *target*; *keep* says what of a file or a folder is."""
        _lay_out(self._top, target, keep)

    # -- calls -------------------------------------------------------------------------------------

    def _place(self, path):
        path = PurePath(path)
        above = self.node(path.parent)
        return (above, path.name) if isinstance(above, Folder) else (None, "")

    def _open(self, call):
        if "O_TMPFILE" in call.rest:
            return
        above, name = self._place(call.path(0))
        if above is None:
            return
        if "O_CREAT" in call.rest and name not in above.live:
            above.live[name] = File()
        if "O_TRUNC" in call.rest:
            above.live[name].live.clear()
        self._positions[call.result] = None if "O_APPEND" in call.rest else 0

    def _lseek(self, call):
        if self._positions.get(call.handles[0][0]) is not None:
            self._positions[call.handles[0][0]] = call.result

    def _write(self, call):
        number, path = call.handles[0]
        file = self.node(path)
        if not isinstance(file, File):
            return
        position = self._positions[number]
        file.write(len(file.live) if position is None else position, call.data[: call.result])
        if position is not None:
            self._positions[number] = position + call.result

    _writev = _write

    def _pwrite64(self, call):
        file = self.node(call.handles[0][1])
        if isinstance(file, File):
            file.write(int(_last_number(call)), call.data[: call.result])

    def _ftruncate(self, call):
        file = self.node(call.handles[0][1])
        if isinstance(file, File):
            size = int(_last_number(call))
            del file.live[size:]
            file.write(size, b"")

    def _fallocate(self, call):
        file = self.node(call.handles[0][1])
        if isinstance(file, File):
            file.write(int(_last_number(call)), b"")

    def _mkdir(self, call):
        above, name = self._place(call.path(0))
        if above is not None:
            above.live[name] = Folder()

    def _link(self, call):
        above, name = self._place(call.path(1))
        if above is not None:
            above.live[name] = self.node(call.path(0))

    def _rename(self, call):
        self._link(call)
        self._unlink(call)

    def _unlink(self, call):
        above, name = self._place(call.path(0))
        if above is not None:
            del above.live[name]

    _rmdir = _unlink


def replay(calls, root):
    """Yield each call with the disk as it is when that call begins."""
    disk, syncing = Disk(root), {}
    moments = [(call.begun, 0, call) for call in calls] + [(call.ended, 1, call) for call in calls]
    for _, is_end, call in sorted(moments, key=lambda moment: moment[:2]):
        if not is_end:
            yield call, disk
        if call.name not in _SYNCS:
            if is_end:
                disk.apply(call)
            continue
        if not is_end and (node := disk.node(call.handles[0][1])) is not None:
            syncing[call] = node, node.state
        elif call in syncing:
            node, state = syncing.pop(call)
            if call.begun > node.synced:  # of two at once the later one knows more
                node.durable, node.synced = state, call.begun


def _last_number(call):
    return re.findall(r"\d+", call.rest)[-1]


def _lay_out(folder, target, keep):
    target.mkdir(exist_ok=True)
    for name, node in keep(folder).items():
        if isinstance(node, Folder):
            _lay_out(node, target / name, keep)
        elif not name.endswith("-shm"):  # shared memory: it is made anew
            with open(os.fspath(target / name), "wb") as file:  # noqa: PTH123
                file.write(keep(node))
