"""Folders that many downloads share: one handle, and one fsync for all whose files were named before it."""

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hinow_async._download.folder import Folder, Folders

WAITING = 8


class Disk:
    """Lets each fsync wait until it is told to go, and counts them."""

    def __init__(self, error: OSError | None = None) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.count = 0
        self._error = error

    def fsync(self, _: int) -> None:
        self.count += 1
        self.begun.release()
        self.go.acquire()
        error, self._error = self._error, None
        if error is not None:
            raise error


class Turns:
    """A folder's count of turns, which can be looked at."""

    def __init__(self) -> None:
        self.given = 0
        self._lock = threading.Lock()

    def __next__(self) -> int:
        with self._lock:
            self.given += 1
            return self.given - 1


@pytest.fixture
def folder(tmp_path: Path):
    made = Folder(tmp_path)
    made._turns = Turns()
    yield made
    made.close()


def _wait_together(folder: Folder, disk: Disk, pool: ThreadPoolExecutor) -> list:
    """One is syncing, and more come meanwhile; all of them have asked."""
    first = pool.submit(folder.sync)
    assert disk.begun.acquire(timeout=10)
    others = [pool.submit(folder.sync) for _ in range(WAITING)]
    while folder._turns.given < 2 + WAITING:  # the first one's two turns, and theirs
        time.sleep(0)
    return [first, *others]


def test_one_fsync_serves_all_who_came_while_another_ran(folder, monkeypatch):
    """Nine ask, two fsyncs are made: the first may have begun too soon for the eight."""
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    with ThreadPoolExecutor(WAITING + 1) as pool:
        asked = _wait_together(folder, disk, pool)
        disk.go.release(2)
        for future in asked:
            assert future.result(timeout=10) is None
    assert disk.count == 2


def test_a_later_one_is_not_served_by_an_earlier_fsync(folder, monkeypatch):
    """A file that is named after an fsync began needs one of its own."""
    disk = Disk()
    disk.go.release(2)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    folder.sync()
    folder.sync()
    assert disk.count == 2


def test_a_failed_fsync_fails_all_whom_it_was_to_serve(folder, monkeypatch):
    """None of them tries once more: a second fsync would be content, and prove nothing."""
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    with ThreadPoolExecutor(WAITING + 1) as pool:
        asked = _wait_together(folder, disk, pool)
        disk.go.release(1)
        assert disk.begun.acquire(timeout=10)
        disk._error = OSError(errno.EIO, "the disk is broken")
        disk.go.release(1)
        assert asked[0].result(timeout=10) is None
        for future in asked[1:]:
            assert future.exception(timeout=10).errno == errno.EIO
    assert disk.count == 2


def test_a_folder_is_shared_until_the_last_one_gives_it_back(tmp_path):
    """Two have one handle; with the second one's return it is closed."""
    folders = Folders()
    first, second = folders.take(tmp_path), folders.take(tmp_path)
    assert first is second
    folders.give_back(first)
    second.sync()
    folders.give_back(second)
    assert second._fd is None
    third = folders.take(tmp_path)
    assert third is not second
    folders.give_back(third)


def test_a_folder_that_was_replaced_is_opened_anew(tmp_path):
    """Whoever still has the old one keeps it; nobody new is given it."""
    folders, path = Folders(), tmp_path / "out"
    old = folders.take(path)
    path.rename(tmp_path / "elsewhere")
    new = folders.take(path)
    assert not old.is_at(path)
    assert new.is_at(path)
    os.close(new.open("a", os.O_CREAT | os.O_WRONLY))
    assert (path / "a").exists()
    folders.give_back(old)
    assert folders.take(path) is new
    folders.give_back(new)
    folders.give_back(new)
