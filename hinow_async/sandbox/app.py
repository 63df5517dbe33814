"""The service: from a request to its answer, charging and failing as its behaviour says."""

import asyncio
import hmac
import itertools
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import attrs
from aiohttp import web

from hinow_async.sandbox import chat
from hinow_async.sandbox.account import LIMITING, Account
from hinow_async.sandbox.answers import Answer, Refused, with_fault
from hinow_async.sandbox.behaviour import Behaviour
from hinow_async.sandbox.billing import LOGGED_BODY, RequestLog
from hinow_async.sandbox.catalogue import Catalogue
from hinow_async.sandbox.exchange import Delivered, Exchange
from hinow_async.sandbox.faults import Fault, FaultScript, Path
from hinow_async.sandbox.files import FileGone, Files, part_of
from hinow_async.sandbox.orders import Order, find_model, motif_of, read_image_order, read_json
from hinow_async.sandbox.studio import Studio

_Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]
_Work = Callable[[], Awaitable[Answer]]


class Service:
    """HInow in small: its handlers and all its state, on one event loop at a time."""

    def __init__(self, behaviour: Behaviour, api_key: str) -> None:
        self.behaviour = behaviour
        self.account = Account(behaviour)
        self.log = RequestLog()
        self.files = Files()
        self._studio = Studio(behaviour, self.files)
        self._authorization = f"Bearer {api_key}".encode()
        self._hosts: frozenset[str] = frozenset()
        self._ids = map(f"req_{secrets.token_hex(4)}{{:08x}}".format, itertools.count())
        self._faults = FaultScript(behaviour.faults)
        self._catalogue = Catalogue(behaviour.models)
        self._random = random.Random(behaviour.seed)  # noqa: S311 - luck that can be repeated, no secret
        self._routes: dict[str, tuple[str, _Handler]] = {
            "/v1/images": ("POST", self._images),
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/models": ("GET", self._models),
            "/v1/balance": ("GET", self._balance),
        }

    def change(self, **changes: Any) -> None:
        """Behave differently from the next request on; limits and faults start anew when they are named."""
        behaviour = attrs.evolve(self.behaviour, **changes)
        if "faults" in changes:
            self._faults = FaultScript(behaviour.faults)
        self.account.follow(behaviour, limits_anew=not LIMITING.isdisjoint(changes))
        self._catalogue = Catalogue(behaviour.models)
        self.behaviour = self._studio.behaviour = behaviour

    def bind(self, port: int) -> None:
        """Answer on this port, and for no other name than loopback's."""
        self._studio.origin = f"http://127.0.0.1:{port}"
        names = ("127.0.0.1", "localhost")
        self._hosts = frozenset({f"{name}:{port}" for name in names} | (set(names) if port == 80 else set()))

    # -- every request ---------------------------------------------------------------------------

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.account.billing.received += 1
        received = self.log.write(request.method, request.raw_path, request.headers)
        exchange = Exchange(request, request.raw_path.partition("?")[0], next(self._ids), received)
        try:
            return await self._dispatch(exchange)
        except Refused as refusal:
            return await self._send(exchange, refusal.answer)
        except web.HTTPRequestEntityTooLarge:
            return await self._send(exchange, Answer.error(413, "the body is too large"))
        except (ConnectionError, web.RequestPayloadError):
            return Delivered()  # the caller went away in the middle of the request

    async def _dispatch(self, exchange: Exchange) -> web.StreamResponse:
        method, handler = self._route(exchange.path)
        self._check_host(exchange)
        if exchange.request.method != method:
            raise Refused(405, f"only {method} is allowed here", headers=(("Allow", method),))
        if handler != self._file:
            self._check_key(exchange)
        return await handler(exchange)

    def _route(self, path: str) -> tuple[str, _Handler]:
        if path in self._routes:
            return self._routes[path]
        if path.startswith("/files/"):
            return "GET", self._file
        return "GET", self._model if path.startswith("/v1/models/") else self._nothing

    def _check_host(self, exchange: Exchange) -> None:
        """A browser that resolves a stranger's name to loopback still sends the stranger's name."""
        host = (exchange.header("Host") or "").lower()
        if host not in self._hosts and host not in self.behaviour.hosts:
            raise Refused(421, "this host is not served here", "misdirected_request")

    def _check_key(self, exchange: Exchange) -> None:
        given = exchange.header("Authorization")
        if given is None:
            raise Refused(401, "the API key is missing", "missing_api_key")
        if not given.startswith("Bearer hi_"):
            raise Refused(401, "the API key is malformed: Bearer, and a key that starts with hi_")
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._authorization):
            raise Refused(401, "the API key is not valid")

    async def _send(
        self, exchange: Exchange, answer: Answer, fault: Fault | None = None, bandwidth: float | None = None
    ) -> web.StreamResponse:
        self.account.billing.refused += answer.status == 429
        return await exchange.send(answer, fault, bandwidth)

    # -- requests that cost money ----------------------------------------------------------------

    async def _images(self, exchange: Exchange) -> web.StreamResponse:
        body = await self._read(exchange)
        order = read_image_order(body, self._catalogue, self.behaviour.picture_size)
        return await self._work(exchange, "images", order, body, lambda: self._studio.draw(order))

    async def _chat(self, exchange: Exchange) -> web.StreamResponse:
        body = await self._read(exchange)
        model = find_model(body, self._catalogue)
        messages = chat.read_messages(body)
        prompt = chat.last_question(messages)
        motif = motif_of(model, prompt, {}, self.behaviour.picture_size) if model.draws_in_chat else None
        words = None if model.draws_in_chat else chat.reply(body, messages, self.behaviour.chat_reply)
        order = Order(model, prompt, 0 if motif is None else 1, motif)

        def work() -> Awaitable[Answer]:
            return self._studio.talk(order, body, words, exchange.request_id)

        return await self._work(exchange, "chat", order, body, work)

    async def _read(self, exchange: Exchange) -> dict[str, Any]:
        raw = await exchange.read()
        body = read_json(raw)
        if len(raw) <= LOGGED_BODY:
            exchange.received.body = body
        return body

    async def _work(
        self, exchange: Exchange, path: Path, order: Order, body: dict[str, Any], work: _Work
    ) -> web.StreamResponse:
        """Admit, bill, take the time that the work takes, answer."""
        # No await from here to `enter`: two requests cannot take the last place.
        self.account.admit(order)
        fault = self._faults.choose(path, order.prompt)
        billed = fault is None or fault.is_billed
        if fault is not None and fault.refuses and not billed:
            await _sleep(fault.delay)
            return await self._send(exchange, with_fault(fault, None), fault)
        if billed:
            self.account.bill(order, exchange.header("Idempotency-Key"))
        self.account.billing.enter()
        try:
            await _sleep(self._latency(body) + (fault.delay if fault is not None else 0))
            answer = await work()
            if fault is not None:
                answer = with_fault(fault, answer)
            if answer.stream is not None:  # a stream is work until its last piece
                return await self._send(exchange, answer, fault)
        finally:
            self.account.billing.leave()
        return await self._send(exchange, answer, fault)

    def _latency(self, body: dict[str, Any]) -> float:
        latency = self.behaviour.latency
        seconds = latency(body) if callable(latency) else latency
        return seconds + self._random.uniform(0, self.behaviour.latency_jitter)

    # -- requests that are free ------------------------------------------------------------------

    async def _free(self, exchange: Exchange, path: Path, answer: Answer) -> web.StreamResponse:
        """Answer, or fail as the script says."""
        fault = self._faults.choose(path, exchange.path)
        if fault is not None:
            await _sleep(fault.delay)
            answer = with_fault(fault, answer)
        return await self._send(
            exchange, answer, fault, self.behaviour.bandwidth if path == "files" else None
        )

    async def _models(self, exchange: Exchange) -> web.StreamResponse:
        entries = self._catalogue.entries(self.behaviour)
        return await self._free(exchange, "models", Answer.of({"object": "list", "data": entries}))

    async def _model(self, exchange: Exchange) -> web.StreamResponse:
        segments = [unquote(segment) for segment in exchange.path.removeprefix("/v1/models/").split("/")]
        escaped = any("/" in segment for segment in segments)
        model = None if escaped else self._catalogue.find("/".join(segments))
        if model is None:
            raise Refused(404, "there is no such model", "model_not_found")
        return await self._free(exchange, "models", Answer.of(model.entry(self.behaviour)))

    async def _balance(self, exchange: Exchange) -> web.StreamResponse:
        data = {
            "balance": float(self.account.balance),
            "account_id": "acc_sandbox",
            "project_id": "proj_sandbox",
        }
        return await self._free(exchange, "balance", Answer.of({"success": True, "data": data}))

    async def _nothing(self, exchange: Exchange) -> web.StreamResponse:
        raise Refused(404, "there is nothing here")

    async def _file(self, exchange: Exchange) -> web.StreamResponse:
        try:
            picture = await self.files.fetch(exchange.path, time.monotonic(), self.behaviour.urls_expire)
        except FileGone:
            raise Refused(403, "this link has expired", "link_expired") from None
        if picture is None:
            raise Refused(404, "there is no such file")
        wanted = exchange.header("Range") if self.behaviour.ranges else None
        answer = part_of(picture, wanted, exchange.header("If-Range"))
        return await self._free(exchange, "files", answer)


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
