"""For the site: each notebook becomes a page with its cells and what they showed (a hook of MkDocs).

Nothing is run, and nothing but MkDocs is needed. The notebook itself lies beside its page.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - tests of the pages do without MkDocs

    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        notebook = json.loads(Path(str(file.abs_src_path)).read_text("utf-8"))
        uri = file.src_uri.removesuffix("ipynb") + "md"
        files.append(File.generated(config, uri, content=page(notebook, Path(file.src_uri).name)))
    return files


def page(notebook: dict[str, Any], name: str) -> str:
    """Return the Markdown of a notebook whose file has this *name*."""
    pieces = [piece for cell in notebook["cells"] for piece in _cell(cell)]
    download = f"[Download this notebook]({name})"
    return "\n\n".join([pieces[0], download, *pieces[1:]]) + "\n"


def _cell(cell: dict[str, Any]) -> list[str]:
    source = _joined(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *(_output(output) for output in cell["outputs"])]


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "text/html" in data:
        # A line of its own: an empty one in a block of HTML would end it for Markdown.
        return f'<div class="output">{_joined(data["text/html"]).replace(chr(10), "&#10;")}</div>'
    text = html.escape(_joined(output.get("text", data.get("text/plain", ""))).rstrip())
    return f'<div class="output"><pre>{text.replace(chr(10), "&#10;")}</pre></div>'


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
