"""What a command asks of the system, recorded by strace: its writes with their bytes, in their order."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import PurePath

import attrs

COMMAND = (sys.executable, "-c", "import sys; from hinow_async.cli import main; sys.exit(main(sys.argv[1:]))")
STRACE = ("strace", "-f", "-qq", "-e", "signal=none")
RECORDED = (
    "openat,lseek,write,pwrite64,writev,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,link,"
    "linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,sendto,sendmsg"
)
_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_WHOLE = re.compile(r"(\w+)\((.*)\) += (-?\d+).*", re.DOTALL)
_HANDLE = re.compile(r"(?:(\d+)|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@attrs.frozen
class Call:
    """One system call that went well."""

    pid: int
    name: str
    handles: tuple[tuple[int, str], ...]
    """Of its arguments: number (-1: the current folder) and path of each open file."""
    texts: tuple[bytes, ...]
    """Paths and data."""
    rest: str
    """The arguments without those."""
    result: int
    begun: int
    ended: int
    """Positions in the recording."""

    @property
    def data(self):
        return b"".join(self.texts)

    def path(self, number):
        """Its *number*-th path, whole."""
        name = self.texts[number].decode()
        above = self.handles[number][1] if self.name.endswith(("at", "at2")) else ""
        return os.path.normpath(PurePath(above, name))


def binary():
    """Return strace's path, if it is there and may trace."""
    found = shutil.which("strace")
    if found is not None:
        command = [found, "-f", "--seccomp-bpf", "-o", "/dev/null", "true"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
    return found


def record(arguments, log, after=(), **options):
    """Run a command; return its calls in the order in which they ended, *after* those of an earlier one."""
    traced = ("--seccomp-bpf", "-y", "-xx", "-s", "4000000", "-o", log, "-e", f"trace={RECORDED}")
    command = [*STRACE, *traced, *COMMAND, *map(str, arguments)]
    subprocess.run(command, check=False, capture_output=True, **options)
    return [*after, *read(log.read_text(), after[-1].ended + 1 if after else 0)]


def kill_at(call, number, arguments, **options):
    """Run a command that is killed when one of its threads begins *call* for the *number*-th time.

    Returns:
        Its exit status, `scene.KILLED` if that came to pass.
    """
    # Without --seccomp-bpf: with it strace 6.1 injects nothing.
    rule = f"inject={call}:signal=KILL:when={number}"
    command = [*STRACE, "-o", os.devnull, "-e", f"trace={call}", "-e", rule, *COMMAND, *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, **options).returncode


def read(log, first=0):
    """Yield the calls of a recording that went well; *first* is the position of its first line."""
    open_calls = {}
    for position, line in enumerate(log.splitlines(), first):
        pid, said = _LINE.fullmatch(line).groups()
        if said.endswith("<unfinished ...>"):
            open_calls[pid] = (position, said.removesuffix("<unfinished ...>"))
            continue
        begun = position
        if resumed := _RESUMED.fullmatch(said):
            begun, entered = open_calls.pop(pid)
            said = entered + resumed[2]
        if (whole := _WHOLE.fullmatch(said)) and int(whole[3]) >= 0:
            yield _call(int(pid), whole, begun, position)


def _call(pid, whole, begun, ended):
    name, arguments, result = whole.groups()
    handles = tuple(
        (int(number or -1), "" if is_deleted else _bytes(path).decode())
        for number, path, is_deleted in _HANDLE.findall(arguments)
    )
    texts = tuple(map(_bytes, _TEXT.findall(arguments)))
    rest = _TEXT.sub('""', _HANDLE.sub("", arguments))
    return Call(pid, name, handles, texts, rest, int(result), begun, ended)


def _bytes(escaped):
    return bytes.fromhex(escaped.replace("\\x", ""))
