"""Runs the notebooks of these pages, and keeps what their cells show: `make notebooks`.

With `--into FOLDER` they are written there, and those of these pages stay as they are. Needs the dependency
group `test`. A notebook whose outputs differ in numbers alone (times, rates) is left as it was, so that
running it again changes nothing; the names of the others are printed.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent / "notebooks"
_NUMBERS = re.compile(r"[0-9][0-9.,]*")
_PICTURES = re.compile(r"<figure.*?</figure>", re.DOTALL)  # which of them are the first of a batch is chance


def run(notebook: Any) -> None:
    """Execute all cells in a folder of their own; an error in one of them is raised."""
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=60, resources={"metadata": {"path": folder}}).execute()


def tidy(notebook: Any) -> None:
    """Take out what is another at each run, or of this machine."""
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            output.get("metadata", {}).clear()
            if "text/html" in output.get("data", {}):
                output.data.pop("text/plain", None)  # the repr: with ids and times


def form(notebook: Any) -> list[tuple[str, str, list[Any]]]:
    """Return what stays the same from run to run: all but numbers and the pictures themselves."""
    return [
        (cell.cell_type, cell.source, [_form(each) for each in cell.get("outputs", ())])
        for cell in notebook.cells
    ]


def _form(output: Any) -> Any:
    shown = {"stream": output.get("text", ""), **output.get("data", {})}
    return {kind: _NUMBERS.sub("0", _PICTURES.sub("picture", text)) for kind, text in shown.items()}


def main() -> None:
    """Run all notebooks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=NOTEBOOKS)
    into = parser.parse_args().into
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        old = nbformat.read(path, as_version=4)
        new = nbformat.read(path, as_version=4)
        run(new)
        tidy(new)
        has_changed = form(new) != form(old)
        if has_changed:
            sys.stdout.write(f"{path.name}\n")
        if has_changed or into != NOTEBOOKS:
            nbformat.write(new, into / path.name)


if __name__ == "__main__":
    main()
