"""A relay before the service, which knows how far each exchange is, and kills at that very moment.

It speaks as much HTTP/1.1 as the two sides of a batch do. Links in answers lead back to it.
"""

import contextlib
import itertools
import os
import re
import signal
import socket
import threading
import time
import urllib.parse

MOMENTS = (
    "connection accepted",
    "headers read",
    "body read",
    "half the answer written",
    "answer written",
    "file half written",
)


class Relay:
    """One service behind a port of its own; entered, it listens."""

    def __init__(self, origin):
        self._upstream = urllib.parse.urlsplit(origin).netloc
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._name = f"127.0.0.1:{self._listener.getsockname()[1]}"
        if len(self._name) != len(self._upstream):
            raise OSError("the two ports are not of one length, and links cannot be exchanged in place")
        self._threads = []
        self._sockets = []
        self._lock = threading.Lock()
        self._moment = None
        self._left = 0
        self._wait = 0.0
        self._pid = None
        self._has_pid = threading.Event()

    @property
    def base_url(self):
        return f"http://{self._name}/v1"

    def aim(self, moment, number, wait=0.0):
        """Kill so many seconds after the *number*-th such moment from now on."""
        self._has_pid.clear()
        with self._lock:
            self._moment, self._left, self._wait = moment, number, wait

    def at(self, pid):
        """Whom to kill."""
        self._pid = pid
        self._has_pid.set()

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _start(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _tell(self, moment):
        with self._lock:
            if moment != self._moment:
                return
            self._left -= 1
            if self._left:
                return
            self._moment = None
        self._has_pid.wait(10)
        time.sleep(self._wait)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def _accept(self):
        with contextlib.suppress(OSError):  # closed: that is the end
            for _ in itertools.count():
                end, _ = self._listener.accept()
                self._sockets.append(end)
                self._start(self._serve, end)

    def _serve(self, down):
        self._tell("connection accepted")
        host, port = self._upstream.split(":")
        with contextlib.suppress(OSError), down, socket.create_connection((host, int(port))) as up:
            self._sockets.append(up)
            with down.makefile("rb") as requests, up.makefile("rb") as answers:
                while self._exchange(down, up, requests, answers):
                    pass

    def _exchange(self, down, up, requests, answers):
        """Relay a request and its answer; False: that was the last one."""
        head = _head(requests)
        is_paid, is_file = head.startswith(b"POST "), head.startswith(b"GET /files/")
        if is_paid:
            self._tell("headers read")
        body = requests.read(_length(head))
        up.sendall(self._swapped(head + body, self._name, self._upstream))
        if is_paid:
            self._tell("body read")
        head = _head(answers)
        answer = self._swapped(head + answers.read(_length(head)), self._upstream, self._name)
        middle = len(head) + (len(answer) - len(head)) // 2
        down.sendall(answer[:middle])
        if is_paid or is_file:
            self._tell("half the answer written" if is_paid else "file half written")
        down.sendall(answer[middle:])
        if is_paid:
            self._tell("answer written")
        return len(answer) == len(head) + _length(head) > 0

    @staticmethod
    def _swapped(data, old, new):
        return data.replace(old.encode(), new.encode())


def _head(file):
    return b"".join(itertools.takewhile(lambda line: line, _lines(file)))


def _lines(file):
    while line := file.readline():
        yield line
        if line == b"\r\n":
            return


def _length(head):
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0
