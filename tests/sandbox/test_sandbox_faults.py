"""Faults do what they say, strike where they should, and are billed as they should be."""

import asyncio
import contextlib
import json
import socket
import time

import aiohttp
import pytest

from hinow_async.sandbox import Fault
from hinow_async.sandbox.faults import FaultScript


def body_of(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


def head_of(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[0].lower()


def strikes(fault: Fault, texts="abcdefgh") -> list[int]:
    script = FaultScript([fault])
    return [ordinal for ordinal, text in enumerate(texts) if script.choose(fault.path, text) is fault]


@pytest.mark.parametrize(
    ("conditions", "struck"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"when": {0, 3}}, [0, 3]),
        ({"when": [1]}, [1]),
        ({"when": range(2, 10**12)}, [2, 3, 4, 5, 6, 7]),
        ({"every": 3}, [2, 5]),
        ({"match": "c"}, [2]),
        ({"times": 2}, [0, 1]),
        ({"times": 0}, []),
        ({"every": 2, "times": 2, "when": range(3, 99)}, [3, 5]),
        ({"probability": 0}, []),
        ({"probability": 1}, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_where_a_fault_strikes(conditions, struck):
    """All conditions have to hold; ordinals count from 0."""
    assert strikes(Fault(status=503, **conditions)) == struck


def test_luck_can_be_repeated():
    """A probability strikes that share, the same requests for the same seed."""
    one, same, other = (strikes(Fault(delay=1, probability=0.3, seed=seed), "x" * 2000) for seed in (1, 1, 2))

    assert one == same
    assert one != other
    assert 500 < len(one) < 700


def test_the_first_fault_that_fits_strikes():
    """Faults are asked in order; each path counts for itself."""
    first, second, chat = Fault(status=503, when={1}), Fault(status=500), Fault(path="chat", status=429)
    script = FaultScript([first, second, chat])

    assert [script.choose("images", "") for _ in range(3)] == [second, first, second]
    assert script.choose("chat", "") is chat
    assert script.choose("files", "") is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"when": {1}},
        {"path": "image", "status": 500},
        {"status": 100},
        {"probability": 2, "status": 500},
        {"every": 0, "status": 500},
        {"body": "x", "garbage": b"y"},
        {"drop": "after", "body": "x"},
        {"drop": "before", "sse": ["x"]},
        {"drop": "never"},
        {"framing": "none"},
        {"truncate": -1},
    ],
)
def test_impossible_faults_are_refused(options):
    """A fault that does nothing, or two things of which one would be lost, is a ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        Fault(**options)


BILLED = [
    ({"status": 400}, 0),
    ({"status": 401}, 0),
    ({"status": 402}, 0),
    ({"status": 307, "headers": {"Location": "/"}}, 0),
    ({"status": 429, "headers": {"Retry-After": "1"}}, 0),
    ({"status": 501}, 0),
    ({"status": 503}, 0),
    ({"status": 529}, 0),
    ({"status": 500}, 1),
    ({"status": 502, "body": "<html>"}, 1),
    ({"status": 504}, 1),
    ({"status": 524}, 1),
    ({"status": 500, "billed": False}, 0),
    ({"status": 503, "billed": True}, 1),
    ({"status": 201}, 1),
    ({"drop": "before"}, 0),
    ({"drop": "after"}, 1),
    ({"drop": "after", "reset": True}, 1),
    ({"drop": "after", "billed": False}, 0),
    ({"garbage": b"{"}, 1),
    ({"garbage": b"{", "billed": False}, 0),
    ({"body": {"success": False, "error": "no"}}, 1),
    ({"truncate": 5}, 1),
    ({"raw": b"nonsense"}, 1),
    ({"sse": ["data: x\n\n"]}, 1),
    ({"delay": 0.01}, 1),
    ({"length": 5}, 1),
]


@pytest.mark.parametrize(("fault", "billed"), BILLED, ids=str)
async def test_what_each_fault_costs(behave, fault, billed):
    """Every kind of fault is billed once or not at all; nothing stays in flight; the next call is well."""
    async with behave(faults=[Fault(times=1, **fault)]) as caller:
        with contextlib.suppress(aiohttp.ClientError):
            await caller.draw("Struck")
        assert (await caller.draw("Well")).status == 200
        billing = caller.sandbox.billing

    assert (billing.requests, billing.images, billing.in_flight) == (billed + 1, billed + 1, 0)
    assert billing.by_prompt == {"Well": 1, **({"Struck": 1} if billed else {})}
    assert float(billing.usd) == pytest.approx(0.087 * (billed + 1))
    assert billing.refused == (1 if fault.get("status") == 429 else 0)


async def test_a_status_with_its_error(behave):
    """Without a body it is the contract's error object; the connection stays usable."""
    async with behave(faults=[Fault(status=503, headers={"Retry-After": "2"}, times=1)]) as caller:
        reply = await caller.draw()
        await caller.draw()
        (idle,) = caller.session.connector._conns.values()

    assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
    assert set(reply.error) == {"message", "code", "type"}
    assert len(idle) == 1


@pytest.mark.parametrize(
    ("body", "raw", "kind"),
    [
        ({"detail": "no"}, b'{"detail":"no"}', "application/json"),
        ([], b"[]", "application/json"),
        ("<html>é", "<html>é".encode(), "text/plain; charset=utf-8"),
        (b"\xff", b"\xff", "application/octet-stream"),
        ("", b"", "text/plain; charset=utf-8"),
    ],
)
async def test_a_body_of_ones_own(behave, body, raw, kind):
    """JSON values, text and bytes, each labelled as such; its own headers replace the label."""
    faults = [
        Fault(status=502, body=body, when={0}),
        Fault(body=body, headers=[("content-type", "x/y")], when={1}),
    ]
    async with behave(faults=faults) as caller:
        first, second = await caller.draw(), await caller.draw()

    assert (first.status, first.body, first.headers["Content-Type"]) == (502, raw, kind)
    assert (second.status, second.headers.getall("Content-Type")) == (200, ["x/y"])


async def test_two_headers_of_one_name(behave):
    """Headers may come twice."""
    twice = [("Retry-After", "1"), ("Retry-After", "9")]
    async with behave(faults=[Fault(status=429, headers=twice)]) as caller:
        assert (await caller.draw()).headers.getall("Retry-After") == ["1", "9"]


async def test_garbage_claims_to_be_json(behave):
    """A success with bytes that are none."""
    async with behave(faults=[Fault(garbage=b"\x00\xff{")]) as caller:
        reply = await caller.draw()

    assert (reply.status, reply.body, reply.headers["Content-Type"]) == (
        200,
        b"\x00\xff{",
        "application/json",
    )


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_dropped_connection(behave, when):
    """No byte of an answer, then the end; or a reset, when asked for."""
    async with behave(
        latency=0.1, faults=[Fault(drop=when, when={0}), Fault(drop=when, reset=True)]
    ) as caller:
        started = time.perf_counter()
        assert await caller.raw_draw() == b""
        elapsed = time.perf_counter() - started
        with pytest.raises(ConnectionResetError):
            await caller.raw_draw()

    assert (elapsed >= 0.1) == (when == "after")


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("cut", [0, 20])
async def test_a_truncated_answer(behave, framing, cut):
    """So many bytes of the body, then the end, in each framing; closing alone does not give the cut away."""
    async with behave(faults=[Fault(truncate=cut, framing=framing, when={0})]) as caller:
        raw = await caller.raw_draw()
        whole = (await caller.draw()).body

    sent = body_of(raw)
    assert sent == (b"%x\r\n%b\r\n" % (cut, whole[:cut]) if framing == "chunked" and cut else whole[:cut])
    assert (b"content-length: %d" % len(whole) in head_of(raw)) == (framing == "length")
    assert (b"transfer-encoding: chunked" in head_of(raw)) == (framing == "chunked")
    assert b"x-request-id" in head_of(raw)


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_other_framings_are_whole(behave, framing):
    """Without a cut a body in another framing is a good answer."""
    async with behave(faults=[Fault(framing=framing)]) as caller:
        assert (await caller.draw()).json["success"] is True


async def test_a_wrong_length(behave):
    """Content-Length lies as told: too long is an answer cut short."""
    async with behave(faults=[Fault(length=10_000)]) as caller:
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.draw()
        assert b"content-length: 10000" in head_of(await caller.raw_draw())


async def test_raw_bytes(behave):
    """Exactly these bytes instead of HTTP."""
    async with behave(faults=[Fault(raw=b"SSH-2.0-x\r\n")]) as caller:
        assert await caller.raw_draw() == b"SSH-2.0-x\r\n"
        with pytest.raises(aiohttp.ClientError):
            await caller.draw()


async def test_a_stalled_body(behave):
    """Silence in the middle of a body that then goes on; or after a cut, before the end."""
    async with behave(faults=[Fault(stall=0.15, times=1), Fault(stall=0.15, truncate=4)]) as caller:
        started = time.perf_counter()
        assert (await caller.draw()).json["success"] is True
        between = time.perf_counter()
        assert body_of(await caller.raw_draw()) == b'{"su'
        ended = time.perf_counter()

    assert between - started >= 0.15
    assert ended - between >= 0.15


async def test_a_scripted_stream(behave):
    """The pieces as they are, pauses and all; with drop the end is missing."""
    pieces = [": ping\n\n", b"data: \xff", 0.05, "\n\n"]
    faults = [Fault(path="chat", sse=pieces, when={0}), Fault(path="chat", sse=pieces, drop="after")]
    async with behave(faults=faults) as caller:
        reply = await caller.chat("x", stream=True)
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.chat("x", stream=True)

    assert reply.body == b": ping\n\ndata: \xff\n\n"
    assert reply.headers["Content-Type"] == "text/event-stream"


async def test_a_late_answer(behave):
    """The delay comes on top of the latency."""
    async with behave(latency=0.05, faults=[Fault(delay=0.1)]) as caller:
        started = time.perf_counter()
        assert (await caller.draw()).status == 200

    assert time.perf_counter() - started >= 0.15


async def test_faults_of_downloads(behave):
    """Status, another body, and a cut with the true length and ETag; the link is well again afterwards."""
    faults = [
        Fault(path="files", status=404, when={0}),
        Fault(path="files", body=b"<html>", when={1}),
        Fault(path="files", truncate=10, when={2}),
        Fault(path="files", status=206, headers={"Content-Range": "bytes 0-9/99"}, when={3}),
    ]
    async with behave(faults=faults) as caller:
        (url,) = await caller.urls()
        gone, other = await caller.fetch(url), await caller.fetch(url)
        cut = await caller.raw(caller.head(f"GET {url.removeprefix(caller.sandbox.origin)} HTTP/1.1"))
        wrong, whole = await caller.fetch(url, Range="bytes=5-"), await caller.fetch(url)

    assert (gone.status, other.status, other.body) == (404, 200, b"<html>")
    assert body_of(cut) == whole.body[:10]
    assert f"content-length: {len(whole.body)}".encode() in head_of(cut)
    assert f"etag: {whole.headers['ETag']}".encode() in head_of(cut)
    assert (wrong.headers.getall("Content-Range"), wrong.body) == (["bytes 0-9/99"], whole.body[5:])
    assert caller.sandbox.billing.requests == 1


@pytest.mark.parametrize("path", ["models", "balance"])
async def test_faults_of_lists(behave, path):
    """Reading the catalogue and the balance can fail too."""
    async with behave(faults=[Fault(path=path, status=429, times=1)]) as caller:
        statuses = [(await caller.ask("GET", f"/{path}")).status for _ in range(2)]

    assert statuses == [429, 200]
    assert caller.sandbox.billing.refused == 1


async def test_faults_strike_what_would_be_served(behave):
    """Refused and invalid requests are no ordinals of the script."""
    async with behave(faults=[Fault(status=503, when={0})]) as caller:
        statuses = [(await caller.draw(quality="ultra")).status, (await caller.draw()).status]

    assert statuses == [400, 503]


async def test_a_caller_who_goes_away_has_paid(behave):
    """The work goes on and is billed; then nothing is in flight any more."""
    async with behave(latency=0.2) as caller:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.draw(), 0.05)
        billing = caller.sandbox.billing
        during = (billing.requests, billing.in_flight)
        while billing.in_flight:
            await asyncio.sleep(0.01)

    assert during == (1, 1)
    assert (billing.requests, billing.in_flight) == (1, 0)


async def test_a_caller_who_breaks_off_his_request_pays_nothing(behave, caplog):
    """A body that never comes is no request; nothing is logged as an error."""
    async with behave() as caller:
        host, port = caller.sandbox.origin.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(caller.head("POST /v1/images HTTP/1.1", 1000) + b'{"model"')
            await asyncio.sleep(0.05)
        assert (await caller.draw()).status == 200

    assert caller.sandbox.billing.requests == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_idempotency_keys_are_counted(behave):
    """Each key with how often it was billed; a key does not make a request free."""
    async with behave() as caller:
        for _ in range(2):
            await caller.draw(headers={"Idempotency-Key": "one"})
        await caller.draw(headers={"Idempotency-Key": "two"})

    assert caller.sandbox.billing.by_key == {"one": 2, "two": 1}
    assert caller.sandbox.billing.by_prompt == {"A lighthouse": 3}


async def test_json_bodies_are_valid_after_all(behave):
    """A fault of another path leaves the answer alone."""
    async with behave(faults=[Fault(path="chat", garbage=b"x")]) as caller:
        assert json.loads((await caller.draw()).body)["success"] is True
