"""The official OpenAI clients, for Python and for Node, work against the sandbox: whole and streamed."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import openai
import pytest

from hinow_async.sandbox import Behaviour, Sandbox

SCRIPT = Path(__file__).parent / "node" / "chat.mjs"
VERSION = "6.49.0"
INSTALLED = Path(__file__).parents[2] / ".make" / f"node-openai-{VERSION}"
"""Installed once for a checkout, and again when the version changes."""

IS_REQUIRED = "HINOW_ALL_TESTS" in os.environ
"""Where all checks have to pass, nothing is skipped."""

HELLO = [{"role": "user", "content": "Name three"}]
SAID = "The sandbox heard: Name three"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def client(sandbox):
    async with openai.AsyncOpenAI(base_url=sandbox.base_url, api_key=sandbox.api_key) as made:
        yield made


async def test_openais_python_client_chats(client):
    """Whole, streamed, and streamed through its own helper, which checks what it puts together."""
    whole = await client.chat.completions.create(model="hinow/himax", messages=HELLO)
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="hinow/himax", messages=HELLO, stream=True
        )
    ]
    async with client.chat.completions.stream(model="hinow/himax", messages=HELLO) as stream:
        final = await stream.get_final_completion()

    assert whole.choices[0].message.content == final.choices[0].message.content == SAID
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens > 0


async def test_openais_python_client_calls_tools(client):
    """From fragments, too."""
    options = {"model": "hinow/himax", "messages": HELLO, "tools": [TOOL]}
    whole = await client.chat.completions.create(**options)
    async with client.chat.completions.stream(**options) as stream:
        final = await stream.get_final_completion()

    for completion in (whole, final):
        (call,) = completion.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "sandbox"})


async def test_openais_python_client_knows_our_errors(client):
    """By their statuses and codes."""
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="himax", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert "hinow/himax" in [model.id async for model in client.models.list()]


async def test_openais_python_client_leaves_a_stream(client, sandbox):
    """The sandbox sees that it has gone."""
    sandbox.change(chat_reply="word " * 1000, chunk_delay=0.01)
    stream = await client.chat.completions.create(model="hinow/himax", messages=HELLO, stream=True)
    async for _ in stream:
        break
    await stream.close()
    async with asyncio.timeout(5):
        while sandbox.billing.in_flight:
            await asyncio.sleep(0.01)


async def run(*command: object, env: dict[str, str] | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def node_script() -> Path:
    """The script beside the package that it needs."""
    if not (INSTALLED / "ready").exists():
        INSTALLED.mkdir(parents=True, exist_ok=True)
        options = ("--prefix", INSTALLED, "--no-audit", "--no-fund", "--silent")
        await run("npm", "install", *options, f"openai@{VERSION}")
        (INSTALLED / "ready").touch()
    script = INSTALLED / SCRIPT.name  # a module finds packages beside it, not in the working folder
    shutil.copy(SCRIPT, script)
    return script


async def test_openais_node_client_chats():
    """Whole, streamed, tools from fragments, an error, the catalogue."""
    if not (shutil.which("node") and shutil.which("npm")):
        assert not IS_REQUIRED, "node and npm are not installed: apt-get install nodejs npm"
        pytest.skip("node and npm are not installed: apt-get install nodejs npm")
    try:
        script = await node_script()
    except AssertionError:
        if IS_REQUIRED:
            raise
        pytest.skip("the openai package for Node cannot be installed: no npm registry in reach")
    async with Sandbox(Behaviour()) as sandbox:
        env = {"HINOW_BASE_URL": sandbox.base_url, "HINOW_API_KEY": sandbox.api_key}
        said = json.loads(await run("node", script, env=env))

    assert said["whole"] == said["streamed"] == SAID
    assert said["tokens"] > 0
    assert (said["tool"], said["arguments"]) == ("weather", {"city": "sandbox"})
    assert said["refused"] == 404
    assert "hinow/himax" in said["models"]
