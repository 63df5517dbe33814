"""In a real kernel: a cell that is interrupted leaves nothing hanging, and the next cell goes on."""

import json

import pytest
from kernels import run_interrupted

from hinow_async.sandbox import Behaviour, Sandbox

BEGIN = """
import asyncio, pathlib
from hinow_async import AsyncHinow, Limits
from hinow_async.batch import generate_batch

client = AsyncHinow()
one_by_one = AsyncHinow(limits=Limits(max_in_flight=1))

async def announce(is_time):
    while not is_time():
        await asyncio.sleep(0.01)
    print("now", flush=True)

def tell_left(*folders):
    stats = client.stats(), one_by_one.stats()
    tasks = [task for task in asyncio.all_tasks() if "hinow_async" in task.get_coro().cr_code.co_filename]
    parts = [str(path) for folder in folders for path in pathlib.Path(folder).rglob("*.part*")]
    print(sum(each.in_flight + each.waiting for each in stats), tasks, parts)
"""

GENERATE = """
_ = asyncio.create_task(announce(lambda: client.stats().in_flight))
await client.images.generate("slow")
"""

SAVE = """
result = await client.images.generate("A lighthouse", num_images=3, resolution="4k", quality="high")
seen = []
_ = asyncio.create_task(announce(lambda: seen))
await result.save("saved", on_progress=lambda done, total: seen.append(done))
"""

MANY = """
_ = asyncio.create_task(announce(lambda: client.stats().in_flight == 3))
async with client.images.generate_many(["slow 1", "slow 2", "slow 3"], save_to="many") as outcomes:
    async for outcome in outcomes:
        pass
"""

BATCH = """
def is_half_done():
    manifest = pathlib.Path("batch/manifest.jsonl")  # it has a line once the picture counts as saved
    return manifest.exists() and manifest.stat().st_size and one_by_one.stats().in_flight

_ = asyncio.create_task(announce(is_half_done))
prompts = ["quick", "slow", "later"]
report = await generate_batch(one_by_one, prompts, "batch")
"""

AGAIN = """
report = await generate_batch(one_by_one, prompts, "batch")
print(report.reused, report.maybe_paid, report.saved)
"""

CELLS = {
    "begin": BEGIN,
    "generate": GENERATE,
    "generate left": "tell_left()",
    "save": SAVE,
    "save left": "tell_left('saved')",
    "many": MANY,
    "many left": "tell_left('many')",
    "batch": BATCH,
    "batch left": "tell_left('batch')",
    "batch again": AGAIN,
    "usable": "print(len((await client.images.generate('quick', num_images=2)).images))",
    "close": "await client.aclose()\nawait one_by_one.aclose()\ntell_left()",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What each cell printed, or the name of its error; and what the sandbox billed, by prompt."""

    def latency(body):
        return 60 if body["prompt"].startswith("slow") else 0

    folder = tmp_path_factory.mktemp("interrupts")
    with Sandbox.in_thread(Behaviour(bandwidth=50_000, latency=latency)) as sandbox:
        printed = run_interrupted(CELLS, folder, sandbox)
        return printed, sandbox.billing, folder


@pytest.mark.parametrize("what", ["generate", "save", "many", "batch"])
def test_an_interrupted_cell_leaves_nothing(ran, what):
    """No call in flight or waiting, no task of ours and no file of which only a part is there."""
    printed, _, _ = ran
    assert printed[what] in {"KeyboardInterrupt", "CancelledError"}
    assert printed[f"{what} left"] == "0 [] []\n"


def test_an_interrupted_batch_goes_on(ran):
    """What was saved is reused, what may have been paid is not sent again, and the rest is made."""
    printed, _, folder = ran
    assert printed["batch again"] == "1 1 1\n"
    (failure,) = (folder / "batch/failures.jsonl").read_text().splitlines()
    assert json.loads(failure)["prompt"] == "slow"


def test_the_client_is_usable_after_interrupts(ran):
    """And can be closed."""
    printed, _, _ = ran
    assert (printed["usable"], printed["close"]) == ("2\n", "0 [] []\n")
