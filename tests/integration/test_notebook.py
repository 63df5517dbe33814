"""In a real kernel: saving and batches show themselves, and stay in the saved notebook."""

import json
import os
import subprocess
import sys

from hinow_async.sandbox import Behaviour, Sandbox

RUN = """
import json, sys, nbformat
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(text) for text in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=60).execute()
print(json.dumps([[dict(output) for output in cell.outputs] for cell in notebook.cells]))
"""


def run_notebook(folder, environment, *cells):
    """Execute the cells in a fresh kernel; return the outputs of each."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def shown(outputs):
    return [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def test_a_batch_shows_itself_and_its_report(tmp_path, monkeypatch):
    """One bar in the cell that ran it, with counts, limit and money; the report is a table; else nothing."""
    with Sandbox.in_thread(Behaviour(picture_size=64)) as sandbox:
        monkeypatch.setenv("HINOW_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("HINOW_API_KEY", sandbox.api_key)
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        (tmp_path / "prompts.txt").write_text("A fox\nA hen\n")
        outputs = run_notebook(
            tmp_path,
            dict(os.environ),
            "from hinow_async import AsyncHinow\nfrom hinow_async.batch import generate_batch\n"
            "client = AsyncHinow()",
            "report = await generate_batch(client, 'prompts.txt', 'out')",
            "report",
            "seen = []\n_ = await generate_batch(client, 'prompts.txt', 'out', on_progress=seen.append)",
            "await client.aclose()",
        )

    assert [outputs[cell] for cell in (0, 3, 4)] == [[], [], []]
    (bar,) = shown(outputs[1])
    assert bar.startswith('<progress value="2" max="2"></progress> 2 of 2 done, 0 in flight (limit ')
    assert bar.endswith("estimated $0.17 spent, $0.00 to come")
    (table,) = shown(outputs[2])
    assert "<th>items done</th><td>2 of 2 (0 from before)</td>" in table


def test_a_saving_that_takes_long_shows_itself(tmp_path, monkeypatch):
    """Top-level `await` in one cell after the other, one client in all; the last state stays in the file."""
    with Sandbox.in_thread(Behaviour(bandwidth=5000)) as sandbox:
        monkeypatch.setenv("HINOW_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("HINOW_API_KEY", sandbox.api_key)
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        outputs = run_notebook(
            tmp_path,
            dict(os.environ),
            "from hinow_async import AsyncHinow\nclient = AsyncHinow()",
            "result = await client.images.generate('A lighthouse')\nsaved = await result.save('slow')",
            "print(saved[0].path, saved[0].size_bytes)\nsaved[0]",
            "await client.aclose()",
        )

    assert [output.get("text") for output in outputs[0]] == []
    (bar,) = shown(outputs[1])
    (picture,) = (tmp_path / "slow").iterdir()
    size = picture.stat().st_size
    assert f'value="{size}" max="{size}"' in bar
    assert "image/png" in outputs[2][1]["data"]
    assert outputs[3] == []
