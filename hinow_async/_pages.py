"""Pages that need nothing but themselves: how one begins and ends, and the look that all have. Pure.

Style and script are constant files of ours, which the page's content security policy names by their hashes.
So nothing that stands in the text of a page can run, load anything, or look like a part of it.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Final

from hinow_async._markup import text


def asset(package: str, name: str) -> str:
    """Return a file of ours that pages carry."""
    return resources.files(package).joinpath(name).read_text("utf-8")


LOOK: Final = asset("hinow_async", "_pages.css")
"""Colours, light and dark, the top of a page, and cards; the beginning of each page's style."""


def beginning(*, title: str, mark: str, style: str, script: str = "") -> str:
    """Return a page up to its body.

    Args:
        title: Text from anywhere.
        mark: Markup of ours that tells our pages from others.
        style: The only one that the page may have.
        script: The only one that may run; without one none may.
    """
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{mark}\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
    )


def ending(script: str = "") -> str:
    """Return the end of a page."""
    run = f"<script>{script}</script>\n" if script else ""
    return f"{run}</body>\n</html>\n"


def _policy(style: str, script: str) -> str:
    run = f" script-src {_hash(script)};" if script else ""
    return (
        f"default-src 'none'; img-src 'self' data:; style-src {_hash(style)};{run}"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
