"""Chromium without a window, driven by its DevTools protocol over a WebSocket.

https://chromedevtools.github.io/devtools-protocol/
"""

import asyncio
import base64
import contextlib
import itertools
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import aiohttp

STARTING = 60.0  # seconds; the first start on a busy machine
PATIENCE = 20.0

KEYS = {
    "Enter": 13, "Escape": 27, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


def binary():
    """Where Chromium is."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path is not None), None)


@contextlib.contextmanager
def running():
    """Run Chromium with a profile of its own; give the address of its WebSocket."""
    if binary() is None:
        raise FileNotFoundError("Chromium is not installed: apt-get install chromium")
    # A profile is written to until the last of its processes is gone.
    with tempfile.TemporaryDirectory(prefix="hinow-chromium-", ignore_cleanup_errors=True) as folder:
        command = [
            binary(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--remote-debugging-port=0", f"--user-data-dir={folder}/profile", "about:blank",
        ]  # fmt: skip
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield _address(process, Path(folder))
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process, folder):
    told = folder / "profile/DevToolsActivePort"
    until = time.monotonic() + STARTING
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            port, path = told.read_text().split()
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(0.02)
    raise RuntimeError("Chromium does not start: " + (folder / "log").read_text(errors="replace")[-2000:])


class Tab:
    """One tab, and what was said and loaded in it."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers = {}
        self._events = asyncio.Condition()
        self.session = None
        self.said = []
        """Console messages, exceptions, and what the browser complains of (content security policy)."""
        self.loaded = []
        """Addresses that were asked for."""
        self.loads = 0

    async def call(self, method, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        answered = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(message)
        try:
            answer = await asyncio.wait_for(answered, PATIENCE)
        except TimeoutError:
            raise AssertionError(f"Chromium does not answer: {method} {params}") from None
        assert "error" not in answer, answer
        return answer["result"]

    async def listen(self):
        async for message in self._socket:
            data = message.json()
            if "id" in data:
                self._answers.pop(data["id"]).set_result(data)
            else:
                await self._take(data["method"], data["params"])

    async def _take(self, method, params):
        if method == "Runtime.consoleAPICalled":
            self.said.append([argument.get("value") for argument in params["args"]])
        elif method == "Runtime.exceptionThrown":
            self.said.append(params["exceptionDetails"])
        elif method == "Log.entryAdded":
            self.said.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.loaded.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            async with self._events:
                self.loads += 1
                self._events.notify_all()

    async def open(self, path):
        """Open a file, and wait until it is loaded."""
        before = self.loads
        await self.call("Page.navigate", url=Path(path).resolve().as_uri())
        async with self._events:
            await asyncio.wait_for(self._events.wait_for(lambda: self.loads > before), PATIENCE)

    async def value(self, expression):
        """The value of an expression; of a promise what it comes to."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression):
        """Wait until an expression is true, a frame at a time."""
        waiting = f"(async () => {{ while (!({expression})) await new Promise(requestAnimationFrame); }})()"
        await self.value(waiting)

    async def press(self, *keys):
        for key in keys:
            known = {"windowsVirtualKeyCode": KEYS[key]} if key in KEYS else {"text": key}
            if key == "Enter":
                known["text"] = "\r"
            await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **known)
            known.pop("text", None)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **known)

    async def type(self, text):
        await self.call("Input.insertText", text=text)

    async def scheme(self, name):
        """Prefer `light` or `dark`."""
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}]
        )

    async def size(self, width, height):
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def screenshot(self):
        """What is seen, as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])


@contextlib.asynccontextmanager
async def tab(address):
    """Open a tab, and close it."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, max_msg_size=0) as socket,
    ):
        made = Tab(socket)
        listening = asyncio.create_task(made.listen())
        try:
            target = (await made.call("Target.createTarget", url="about:blank"))["targetId"]
            attached = await made.call("Target.attachToTarget", targetId=target, flatten=True)
            made.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                await made.call(f"{domain}.enable")
            yield made
            made.session = None
            await made.call("Target.closeTarget", targetId=target)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
