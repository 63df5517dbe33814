"""Pictures in a chat message (the contract: how the image model hands them back is not published).

They are looked for in every place that gateways use: `message.images[].image_url.url`, content parts of
type `image_url`, markdown images, and bare `data:` URIs in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hinow_async._models.chat import Message

# Linear on hostile text: each alternative begins with a literal, and no part of one can match
# what its neighbour matches ("![" is found, then one run without brackets, then one without spaces).
# A description may hold brackets in pairs, and a link parentheses, as CommonMark has it.
_MARKDOWN = re.compile(
    r"!\[(?:[^\[\]]|\[[^\[\]]{0,100}\]){0,1000}\]\(\s{0,10}<?((?:[^\s<>()]|\([^\s<>()]{0,1000}\))+)"
)
_DATA_URI = re.compile(
    r"data:image/[A-Za-z0-9.+-]{1,40}(?:;[A-Za-z0-9.=_-]{1,40}){0,4};base64,[A-Za-z0-9+/=]+"
)


def find_images(message: Message) -> list[str]:
    """Return the URLs and `data:` URIs of the message's pictures, in order of appearance, each once."""
    found = dict.fromkeys(_listed(message))
    for text in _texts(message):
        spans = [(match.start(), match.group(1)) for match in _MARKDOWN.finditer(text)]
        inside = {url for _, url in spans}
        spans += [
            (match.start(), match.group())
            for match in _DATA_URI.finditer(text)
            if match.group() not in inside
        ]
        found.update(dict.fromkeys(url for _, url in sorted(spans)))
    return list(found)


def _listed(message: Message) -> Iterator[str]:
    images = message.extra.get("images")
    for item in images if isinstance(images, list) else ():
        yield from _url_of(item)
    if isinstance(message.content, tuple):
        for part in message.content:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if isinstance(kind, str) and kind in {"image_url", "output_image", "image"}:
                yield from _url_of(part)


def _url_of(item: Any) -> Iterator[str]:
    if isinstance(item, str):
        yield item
    elif isinstance(item, Mapping):
        value = item.get("image_url", item.get("url"))
        if isinstance(value, Mapping):
            value = value.get("url")
        if isinstance(value, str) and value:
            yield value


def _texts(message: Message) -> Iterator[str]:
    if isinstance(message.content, str):
        yield message.content
    elif message.content is not None:
        for part in message.content:
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield part["text"]
