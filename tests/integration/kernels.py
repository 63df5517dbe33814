"""Real kernels for tests, in a process of their own: they leave sockets behind that are not ours."""

import json
import os
import subprocess
import sys

RUN = """
import json, sys, nbformat
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(text) for text in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=60).execute()
print(json.dumps([[dict(output) for output in cell.outputs] for cell in notebook.cells]))
"""

# A cell that prints "now" is interrupted there; what it prints, and the name of its error, is kept.
INTERRUPT = """
import json, sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel()
ends = {}

def execute(name, code):
    ends[name] = ""
    def look(message):
        kind, content = message["msg_type"], message["content"]
        if kind == "stream" and content["text"].startswith("now"):
            manager.interrupt_kernel()
        elif kind == "stream":
            ends[name] += content["text"]
        elif kind == "error":
            ends[name] = content["ename"]
    client.execute_interactive(code, timeout=60, output_hook=look)

try:
    for name, code in json.load(sys.stdin).items():
        execute(name, code)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
print(json.dumps(ends))
"""


def run(script, cells, folder, sandbox):
    """Run a script with a kernel whose clients speak to *sandbox*; return what it prints as JSON."""
    address = {"HINOW_BASE_URL": sandbox.base_url, "HINOW_API_KEY": sandbox.api_key}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **address, "IPYTHONDIR": str(folder / ".ipython")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def run_notebook(cells, folder, sandbox):
    """Execute named cells in one kernel; return the outputs of each, as the saved file has them."""
    return dict(zip(cells, run(RUN, list(cells.values()), folder, sandbox), strict=True))


def run_interrupted(cells, folder, sandbox):
    """Execute named cells in one kernel, each interrupted where it prints "now".

    Returns:
        What each printed beside that, or the name of the error that ended it.
    """
    return run(INTERRUPT, cells, folder, sandbox)
