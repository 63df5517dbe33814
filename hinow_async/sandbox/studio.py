"""From an order to its answer: the pictures and the words, in the form that the behaviour asks for."""

import base64
import time
from typing import Any

from hinow_async.sandbox import chat
from hinow_async.sandbox.answers import Answer, of_type
from hinow_async.sandbox.behaviour import Behaviour
from hinow_async.sandbox.files import Files, Picture
from hinow_async.sandbox.orders import Order

PROVIDER = "sandbox"


class Studio:
    """Does the work of accepted orders."""

    def __init__(self, behaviour: Behaviour, files: Files) -> None:
        self.behaviour = behaviour
        self.origin = ""
        """What the paths of files are put behind."""
        self._files = files

    async def draw(self, order: Order) -> Answer:
        """The answer to an order of pictures. They are drawn when fetched, unless they travel in it."""
        form, status = self.behaviour.answer_form, self.behaviour.status
        if form == "openai_b64":
            pictures = [{"b64_json": _base64(picture)} for picture in await self._pictures(order)]
            return Answer.of({"created": int(time.time()), "data": pictures}, status)
        urls = await self._urls(order)
        if form == "openai":
            return Answer.of({"created": int(time.time()), "data": [{"url": url} for url in urls]}, status)
        data = {"urls": urls, "model": order.model.id, "provider": PROVIDER}
        return Answer.of(data if form == "bare" else {"success": True, "data": data}, status)

    async def talk(
        self, order: Order, body: dict[str, Any], words: dict[str, Any] | None, name: str
    ) -> Answer:
        """The answer to a chat: the message *words*, or else the picture of *order*; *name* is its id."""
        message = words or chat.picture_reply((await self._urls(order))[0])
        talk = chat.Talk(body["model"], body["messages"], message, name, int(time.time()))
        if body.get("stream") is not True:
            return Answer(self.behaviour.status, talk.completion())
        stream = talk.stream(self.behaviour.chunk_delay)
        return Answer(self.behaviour.status, b"", of_type("text/event-stream"), stream)

    async def _urls(self, order: Order) -> list[str]:
        if self.behaviour.answer_form == "data_uris":
            pictures = await self._pictures(order)
            return [f"data:{picture.media_type};base64,{_base64(picture)}" for picture in pictures]
        if order.motif is None:
            return []
        return [
            self.origin + path for path in self._files.publish(order.motif, order.count, time.monotonic())
        ]

    async def _pictures(self, order: Order) -> list[Picture]:
        if order.motif is None:
            return []
        return [await self._files.picture(order.motif, index) for index in range(order.count)]


def _base64(picture: Picture) -> str:
    return base64.b64encode(picture.content).decode("ascii")
