"""Pages of docs/ that are partly written by hand and partly by a run."""

from __future__ import annotations

from pathlib import Path


def write_section(page: Path, name: str, text: str) -> None:
    """Put *text* between the marks of *name* in the page."""
    content = page.read_text("utf-8")
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, _, rest = content.partition(begin)
    _, mark, tail = rest.partition(end)
    if not mark:
        raise ValueError(f"{page} has no section {name}")
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", "utf-8")
