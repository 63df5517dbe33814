"""A sandbox and a plain HTTP caller of it: nothing of the client takes part."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
import pytest

from hinow_async.sandbox import Behaviour, Sandbox

PINNED = "openai/gpt-image-2-2026-04-21"


@attrs.frozen
class Reply:
    """What came back."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, str]:
        return self.json["error"]


@attrs.frozen
class Caller:
    """Speaks HTTP to a sandbox."""

    sandbox: Sandbox
    session: aiohttp.ClientSession

    async def ask(self, method: str, url: str, *, key: str | None = "", **more: Any) -> Reply:
        headers = dict(more.pop("headers", {}))
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {key or self.sandbox.api_key}")
        url = url if url.startswith("http") else self.sandbox.base_url + url
        async with self.session.request(method, url, headers=headers, **more) as response:
            return Reply(response.status, response.headers, await response.read())

    async def draw(
        self, prompt: str = "A lighthouse", model: str = PINNED, headers: Any = None, **parameters: Any
    ) -> Reply:
        body = {"model": model, "prompt": prompt, "parameters": parameters}
        return await self.ask("POST", "/images", json=body, headers=headers or {})

    async def urls(self, prompt: str = "A lighthouse", **parameters: Any) -> list[str]:
        return (await self.draw(prompt, **parameters)).json["data"]["urls"]

    async def fetch(self, url: str, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("GET", url, key=None, headers=named)

    async def chat(self, *messages: Any, model: str = "hinow/himax", **more: Any) -> Reply:
        said = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
        return await self.ask("POST", "/chat/completions", json={"model": model, "messages": said, **more})

    async def raw(self, request: bytes) -> bytes:
        """Send these bytes, and return all that comes until the connection ends."""
        host, port = self.sandbox.origin.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()

    async def raw_draw(self, prompt: str = "A lighthouse") -> bytes:
        """The bytes of the answer to a request for a picture, for answers that are no good HTTP."""
        body = b'{"model":"%b","prompt":"%b"}' % (PINNED.encode(), prompt.encode())
        return await self.raw(self.head("POST /v1/images HTTP/1.1", len(body)) + body)

    def head(self, first: str, length: int = 0) -> bytes:
        host = self.sandbox.origin.removeprefix("http://")
        lines = (first, f"Host: {host}", f"Authorization: Bearer {self.sandbox.api_key}")
        return "\r\n".join((*lines, f"Content-Length: {length}", "", "")).encode()


@asynccontextmanager
async def calling(behaviour: Behaviour | None = None) -> AsyncIterator[Caller]:
    """A sandbox of this behaviour, with small pictures unless it says otherwise, and its caller."""
    async with Sandbox(behaviour or Behaviour(picture_size=64)) as sandbox:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Caller(sandbox, session)


@pytest.fixture
def behave():
    """`async with behave(latency=1) as caller`: a sandbox with these options and small pictures."""
    return lambda **options: calling(Behaviour(**{"picture_size": 64, **options}))


@pytest.fixture
async def caller():
    """The caller of a sandbox without limits, latency or faults."""
    async with calling() as made:
        yield made
