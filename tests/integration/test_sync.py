"""The door without `await`: calls, threads, Ctrl-C, the interpreter's end, forks."""

import asyncio
import contextvars
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref

import pytest
from rawserver import KEY, OK, RawServer, answer

from hinow_async import (
    APIError,
    APIStatusError,
    APITimeoutError,
    ChatCompletionChunk,
    ConfigurationError,
    DownloadPolicy,
    Hinow,
    HinowError,
    ImageRequest,
    Limits,
    NotFoundError,
    RetryPolicy,
    SavedImage,
)
from hinow_async.sandbox import Behaviour, Fault, Sandbox
from hinow_async.sync import (
    ChatCompletion,
    ChatStream,
    GeneratedImage,
    ImageComparison,
    ImageOutcome,
    ImageResult,
)


def threads_of_ours():
    return [thread for thread in threading.enumerate() if thread.name == "hinow"]


@pytest.fixture
def server():
    with Sandbox.in_thread(Behaviour(picture_size=32)) as sandbox:
        yield sandbox


@pytest.fixture
def connect(server):
    clients = []

    def make(**options):
        clients.append(Hinow(**{"base_url": server.base_url, "api_key": server.api_key, **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    assert threads_of_ours() == []


@pytest.fixture
def client(connect):
    return connect()


# -- calls -------------------------------------------------------------------------------------------------


def test_a_result_is_saved_read_and_streamed(client, tmp_path):
    """What comes back has the methods of the asynchronous values, without `await`."""
    seen = []
    result = client.images.generate("A lighthouse", num_images=2)
    saved = result.save(tmp_path, name="it", on_progress=lambda done, total: seen.append((done, total)))
    data = saved[1].path.read_bytes()

    assert type(result) is ImageResult
    assert [type(image) for image in result.images] == [GeneratedImage] * 2
    assert [type(picture) for picture in saved] == [SavedImage] * 2
    assert [picture.path.name for picture in saved] == ["it-0.png", "it-1.png"]
    assert result.images[1].read() == data
    assert b"".join(result.images[1].stream()) == data
    assert seen[-1] == (sum(picture.size_bytes for picture in saved),) * 2
    assert "await" not in result._repr_html_()


def test_everything_else_is_there(client, server):
    """Chats, catalogue, balance, numbers, views."""
    reply = client.chat.completions.create("Hi", model="hinow/himax")
    assert type(reply) is ChatCompletion
    assert reply.text
    assert client.models.retrieve("hinow/himax") in client.models.list()
    assert client.balance().balance == pytest.approx(float(10**6 - server.billing.usd), abs=1e-3)
    with client.with_options(retry=RetryPolicy(attempts=1)) as view:
        assert type(view) is Hinow
        view.images.generate("A lighthouse")
    assert client.images.generate("A second one").call.attempts == 1, "closing a view closed the client"
    assert client.stats().accounts["default"].in_flight == 0


def test_a_pickled_result_is_saved_by_the_client(client, tmp_path):
    """A value that lost its client says whom to ask; equal values stay equal."""
    result = client.images.generate("A lighthouse")
    copy = pickle.loads(pickle.dumps(result))
    assert copy == result
    assert hash(copy) == hash(result)
    with pytest.raises(ConfigurationError, match=r"client\.images\.save"):
        copy.save(tmp_path)
    (saved,) = client.images.save(copy, tmp_path)
    assert client.images.read(copy.images[0]) == saved.path.read_bytes()
    assert b"".join(client.images.stream(copy.images[0])) == saved.path.read_bytes()


def test_a_stream_of_blocks_can_be_left(connect, server):
    """Leaving the iteration closes the download, which gives its place to the next."""
    server.change(picture_size=None, bandwidth=2**20)
    client = connect(downloads=DownloadPolicy(max_in_flight=1))
    image = client.images.generate("A lighthouse", resolution="2k").images[0]
    for block in image.stream():
        assert block
        break
    server.change(picture_size=32)
    assert client.images.generate("A lighthouse").images[0].read()


def test_errors_are_those_of_the_service(client):
    """The very error is raised, not a group; its traceback shows the user's line and none of anyio's."""
    with pytest.raises(NotFoundError) as caught:
        client.images.generate("A lighthouse", model="nobody/nothing")
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert files[0] == __file__
    assert not [file for file in files if "anyio" in file or "concurrent" in file]
    assert caught.value.__context__ is None
    assert caught.value.request == ImageRequest("A lighthouse", model="nobody/nothing")
    with pytest.raises(ValueError, match="num_images"):
        client.images.generate("A lighthouse", num_images=11)


def test_a_deadline_ends_a_call(connect, server):
    """`timeout=` holds as ever."""
    server.change(latency=30)
    with pytest.raises(APITimeoutError):
        connect().images.generate("A lighthouse", timeout=0.2)


def test_context_variables_reach_the_hooks(connect):
    """Telemetry that hangs on the caller's context finds it in the background thread."""
    user = contextvars.ContextVar("user", default="nobody")
    seen = []

    class Watching:
        def call_ended(self, record):
            seen.append((user.get(), threading.current_thread().name))

    user.set("Ada")
    connect(hooks=[Watching()]).images.generate("A lighthouse")
    assert seen == [("Ada", "hinow")]


def test_a_hook_that_makes_a_call_is_told_so(connect):
    """It runs in the loop that would have to serve it: an error instead of waiting for ever."""
    problems = []

    class Asking:
        def call_ended(self, record):
            assert client.stats().in_flight == 0
            try:
                client.balance()
            except ConfigurationError as error:
                problems.append(str(error))

    client = connect(hooks=[Asking()])
    client.images.generate("A lighthouse")
    assert len(problems) == 1
    assert "another thread" in problems[0]


# -- streamed chats ------------------------------------------------------------------------------------------


def test_a_chat_is_streamed(client):
    """Text, chunks, the whole, by either way of asking."""
    whole = client.chat.completions.create("Hi", model="hinow/himax").text
    with client.chat.completions.stream("Hi", model="hinow/himax") as stream:
        assert type(stream) is ChatStream
        text = "".join(stream.text)
        reply = stream.completion()
    chunks = list(client.chat.completions.create("Hi", model="hinow/himax", stream=True))

    assert type(reply) is type(stream.partial) is ChatCompletion
    assert stream.call.attempts == 1
    assert whole == text == reply.text == "".join(chunk.text for chunk in chunks)
    assert {type(chunk) for chunk in chunks} == {ChatCompletionChunk}
    assert client.stats().in_flight == 0


def test_a_streamed_chat_can_be_left(connect, server):
    """By the end of its block, by `close`, by leaving the iteration; inside the block it can be read on."""
    server.change(chat_reply="word " * 50, chunk_delay=0.01)
    client = connect()
    with client.chat.completions.stream("Hi", model="hinow/himax") as stream:
        for _ in stream.text:
            break
        second = next(stream.text)
        assert second
        assert client.stats().in_flight == 1
    assert client.stats().in_flight == 0
    with pytest.raises(ConfigurationError, match="left"):
        stream.completion()
    for _ in client.chat.completions.create("Hi", model="hinow/himax", stream=True):
        break
    assert client.stats().in_flight == 0
    stream = client.chat.completions.create("Hi", model="hinow/himax", stream=True)
    stream.close()
    stream.close()
    assert client.stats().in_flight == 0
    with client.chat.completions.stream("Hi", model="hinow/himax") as stream:
        client.close()
        with pytest.raises(ConfigurationError, match="closed"):
            stream.completion()
    stream.close()
    del stream
    gc.collect()  # a connection that nobody closed would complain


def test_a_forgotten_stream_gives_its_slot_back(connect, server):
    """Nobody can read it any more."""
    server.change(chat_reply="word " * 50, chunk_delay=1.0)
    client = connect()
    client.chat.completions.create("Hi", model="hinow/himax", stream=True)
    gc.collect()
    until(lambda: client.stats().in_flight == 0)


def test_a_stream_that_fails_keeps_what_had_come(connect, server, tmp_path):
    """`.partial` of the error is a twin, too."""
    server.change(
        chat_reply="Lights",
        faults=[Fault(path="chat", sse=['data: {"choices": [{"delta": {"content": "Li"}}]}\n\n'])],
    )
    client = connect()
    with client.chat.completions.stream("Hi", model="hinow/himax") as stream:
        with pytest.raises(APIError) as caught:
            "".join(stream.text)
        with pytest.raises(APIError) as again:
            stream.completion()
    for error in (caught.value, again.value):
        assert type(error.partial) is ChatCompletion
        assert error.partial.text == "Li"
        assert error.partial.save(tmp_path) == ()


def test_many_chats_are_answered(client, tmp_path):
    """As many pictures are made, and those of the answers saved."""
    with client.chat.completions.create_many(
        ["Draw"], model="openai/gpt-image-2-2026-04-21", save_to=tmp_path
    ) as outcomes:
        (drawn,) = outcomes
    assert [saved.path.name for saved in drawn.saved] == ["000000-0.png"]
    with client.chat.completions.create_many(["One", "Two"], model="hinow/himax", ordered=True) as outcomes:
        replies = [outcome.unwrap() for outcome in outcomes]
    assert {type(reply) for reply in replies} == {ChatCompletion}
    assert [reply.request.prompt for reply in replies] == ["One", "Two"]


# -- lifetime ----------------------------------------------------------------------------------------------


def test_a_closed_client_says_so(connect):
    """Any number of times, also one that was never used, and one that was used with `with`."""
    for client in (connect(), connect()):
        with client:
            pass
        client.close()
        with pytest.raises(ConfigurationError, match="closed"):
            client.images.generate("A lighthouse")
        with pytest.raises(ConfigurationError, match="closed"), client:
            pass
        assert client.stats().in_flight == 0
        assert repr(client) == "<Hinow default closed>"
    unused = connect()
    unused.close()
    with pytest.raises(ConfigurationError, match="closed"):
        next(client.images.stream(GeneratedImage(data=b"")))


def test_closing_ends_the_calls_of_other_threads(connect, server):
    """Who waits is told; nobody waits for ever."""
    server.change(latency=30)
    client = connect()
    errors = []

    def call():
        try:
            client.images.generate("A lighthouse")
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: server.billing.in_flight == 1)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(errors) == 1
    assert isinstance(errors[0], HinowError)


def until(is_so, patience=10.0):
    end = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_forgotten_client_lets_its_thread_go(server):
    """Values keep it alive; when the last one goes, connections and thread do."""
    client = Hinow(base_url=server.base_url, api_key=server.api_key)
    result = client.images.generate("A lighthouse")
    portal = weakref.ref(client._portal)
    del client
    gc.collect()
    assert result.images[0].read()
    del result
    gc.collect()
    assert portal() is None
    until(lambda: threads_of_ours() == [])


def test_many_threads_share_one_client(connect, server):
    """One loop, one queue: the limit holds over all threads."""
    server.change(latency=0.02)
    client = connect(limits=Limits(max_in_flight=2, adaptive=False))
    prompts = []

    def work(number):
        prompts.append(client.images.generate(f"Number {number}").request.prompt)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(prompts) == sorted(f"Number {number}" for number in range(12))
    assert server.billing.peak_in_flight == 2
    assert len(threads_of_ours()) == 1


async def test_it_works_where_a_loop_is_running():
    """As in a notebook's cell: the running loop is left alone."""
    with Sandbox.in_thread(Behaviour(picture_size=32)) as sandbox:
        before = asyncio.all_tasks()
        with Hinow(base_url=sandbox.base_url, api_key=sandbox.api_key) as client:
            assert client.images.generate("A lighthouse").images[0].read()
            with client.images.generate_many(["A", "B"]) as outcomes:
                assert len(list(outcomes)) == 2
        assert asyncio.all_tasks() == before


# -- many --------------------------------------------------------------------------------------------------


def test_outcomes_come_and_are_saved(client, tmp_path):
    """A failure is an outcome; pictures lie where `save_to` says."""
    requests = ["A lighthouse", ImageRequest("A harbour", model="nobody/nothing"), ImageRequest("A fox")]
    with client.images.generate_many(requests, save_to=tmp_path, ordered=True) as outcomes:
        found = list(outcomes)

    assert [type(outcome) for outcome in found] == [ImageOutcome] * 3
    assert [outcome.index for outcome in found] == [0, 1, 2]
    assert type(found[0].unwrap()) is ImageResult
    assert found[2].saved[0].path == tmp_path / "000002-0.png"
    assert found[0].unwrap().images[0].read() == found[0].saved[0].path.read_bytes()
    with pytest.raises(NotFoundError):
        found[1].unwrap()


def test_the_source_runs_in_the_callers_thread(connect):
    """It is pulled lazily, may use the client that it feeds, and is closed when the outcomes are left."""
    client = connect(limits=Limits(max_in_flight=2, adaptive=False))
    pulled = []

    def prompts():
        try:
            while True:
                idea = client.chat.completions.create("An idea", model="hinow/himax").text
                pulled.append(threading.current_thread())
                yield f"{idea} {len(pulled)}"
        finally:
            pulled.append("closed")

    with client.images.generate_many(prompts()) as outcomes:
        assert pulled == []
        for number, outcome in enumerate(outcomes):
            outcome.unwrap()
            if number == 5:
                break
        assert 6 <= len(pulled) <= 16
    assert set(pulled) == {threading.current_thread(), "closed"}
    assert pulled[-1] == "closed"


def test_a_source_that_breaks_raises_its_own_error(client):
    """With its own traceback; what was pulled before it is delivered."""

    def prompts():
        yield "A lighthouse"
        raise KeyError("no more ideas")

    seen = []

    def read():
        with client.images.generate_many(prompts()) as outcomes:
            seen.extend(outcome.unwrap() for outcome in outcomes)

    with pytest.raises(KeyError, match="no more ideas") as caught:
        read()
    assert len(seen) == 1
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "prompts"


def test_stopping_sends_nothing_more(connect, server):
    """`stop` ends an endless source, from the loop's body or from the source itself."""
    client = connect(limits=Limits(max_in_flight=3, adaptive=False))

    def prompts():
        number = 0
        while True:
            number += 1
            if number == 20:
                outcomes.stop()
            yield f"Number {number}"

    with client.images.generate_many(prompts()) as outcomes:
        taken = len(list(outcomes))
    assert taken == server.billing.requests <= 19
    with client.images.generate_many(f"Again {n}" for n in range(10**9)) as outcomes:
        for _ in outcomes:
            outcomes.stop()
    assert client.stats().in_flight == 0


def slow_where_asked(body):
    return 60.0 if "slow" in body["prompt"] else 0.0


def test_leaving_early_cancels_and_is_said(connect, server, caplog):
    """What is in flight is given up, counted, and named in one warning."""
    server.change(latency=slow_where_asked)
    client = connect(limits=Limits(max_in_flight=4, adaptive=False))
    with client.images.generate_many(["slow", "A lighthouse", "also slow"]) as outcomes:
        assert next(outcomes).request.prompt == "A lighthouse"
        until(lambda: server.billing.in_flight >= 1)
    assert [record.getMessage()[:11] for record in caplog.records] == ["left early:"]
    assert client.stats().in_flight == 0


def test_outcomes_are_entered_and_read_by_one(connect, server):
    """Not entered, or read by two threads: each is told."""
    client = connect()
    outcomes = client.images.generate_many(["A lighthouse"])
    for wrong in (lambda: next(outcomes), lambda: iter(outcomes), outcomes.stop):
        with pytest.raises(ConfigurationError, match="with client"):
            wrong()
    server.change(latency=1.0)
    with outcomes:
        seen = []
        reader = threading.Thread(target=lambda: seen.extend(outcomes))
        reader.start()
        until(lambda: server.billing.in_flight == 1)
        with pytest.raises(ConfigurationError, match="another thread"):
            next(outcomes)
        reader.join(10)
    assert len(seen) == 1


# -- Ctrl-C, the end, forks ----------------------------------------------------------------------------------

START = """
import json, os, signal, sys, threading
from hinow_async import Hinow, Limits
signal.signal(signal.SIGINT, signal.default_int_handler)
client = Hinow(limits=Limits(max_in_flight=3, adaptive=False))
def say(**what):
    print(json.dumps(what), flush=True)
"""


class Script:
    """A program beside this one, that speaks to the same sandbox."""

    def __init__(self, server, code):
        environment = {**os.environ, "HINOW_BASE_URL": server.base_url, "HINOW_API_KEY": server.api_key}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", START + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def heard(self):
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=20)[1]
        return json.loads(line)

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ended(self):
        """How it ended, and what it complained of."""
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors

    def kill(self):
        """End it, if it has not ended by itself."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def begin():
    """`begin(server, code)`: a program that is gone after the test."""
    scripts = []

    def make(server, code):
        scripts.append(Script(server, code))
        return scripts[-1]

    yield make
    for script in scripts:
        script.kill()


async def test_ctrl_c_cancels_the_call(begin):
    """The service sees the connection close, nothing stays in flight, what was sent counts as spent."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def silent(talk):
        await talk.request()
        asked.set()
        await talk.until_gone()
        gone.set()

    async with RawServer(silent, answer(OK)) as server:
        server.api_key = KEY
        script = begin(
            server,
            """
try:
    client.images.generate("A lighthouse")
except KeyboardInterrupt as error:
    say(error=repr(error), context=repr(error.__context__))
stats = client.stats()
say(in_flight=stats.in_flight, waiting=stats.waiting, unknown=stats.unknown_outcomes, spent=stats.spent_usd)
say(images=len(client.images.generate("A second one").images))
client.close()
""",
        )
        await asked.wait()
        script.interrupt()
        await asyncio.wait_for(gone.wait(), 10)
        lines = [await asyncio.to_thread(script.heard) for _ in range(3)]
        assert lines[0] == {"error": "KeyboardInterrupt()", "context": "None"}
        assert lines[1] == {"in_flight": 0, "waiting": 0, "unknown": 1, "spent": pytest.approx(0.087)}
        assert lines[2] == {"images": 1}
        assert await asyncio.to_thread(script.ended) == (0, "")


def test_ctrl_c_leaves_outcomes_readable(server, begin):
    """In the iteration it cancels no call: who catches it may read on, who does not leaves everything."""
    server.change(latency=2.0)
    script = begin(
        server,
        """
def prompts():
    try:
        for number in range(10**6):
            yield f"Number {number}"
    finally:
        say(closed=threading.current_thread() is threading.main_thread())
with client.images.generate_many(prompts()) as outcomes:
    try:
        next(outcomes)
    except KeyboardInterrupt as error:
        say(first=next(outcomes).unwrap().call.attempts)
        raise
""",
    )
    until(lambda: server.billing.in_flight == 3)
    script.interrupt()
    assert script.heard() == {"first": 1}
    assert script.heard() == {"closed": True}
    code, errors = script.ended()
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert "Warning" not in errors


STORM = """
import logging, random, time
from hinow_async import Budget
logging.getLogger("hinow_async").setLevel(logging.ERROR)  # warnings would fill the pipe
def interrupt(*_):
    raise KeyboardInterrupt
def is_idle():
    stats = other.stats()
    return (stats.in_flight, stats.waiting, stats.reserved_usd) == (0, 0, 0)
random.seed(1)
signal.signal(signal.SIGALRM, interrupt)
budget = Budget(10**6, usd_per_image=0.25, usd_per_chat=0.25)
other = Hinow(limits=Limits(max_in_flight=4, adaptive=False), budget=budget)
def once():
    other.images.generate("A lighthouse")
def many():
    with other.images.generate_many(f"Number {number}" for number in range(6)) as outcomes:
        list(outcomes)
def read():
    other.images.generate("A lighthouse").images[0].read()
def chat():
    with other.chat.completions.stream("Hi", model="hinow/himax") as stream:
        for _ in stream:
            pass
    for _ in other.chat.completions.create("Hi", model="hinow/himax", stream=True):
        pass
once()
hits = 0
for number in range(ROUNDS):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.012))
        (once, many, read, chat)[number % 4]()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        hits += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    end = time.monotonic() + 10
    while not is_idle() and time.monotonic() < end:
        time.sleep(0.001)
    if not is_idle():
        say(stuck=str(other.stats()))
say(hits=hits, spent=other.stats().spent_usd)
other.close()
client.close()
"""


@pytest.mark.parametrize("rounds", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_ctrl_c_may_come_at_any_moment(server, rounds, begin):
    """Wherever it strikes, nothing stays in flight, and nothing billed is missing in what was spent."""
    server.change(latency=0.003, chunk_delay=0.0003, price_per_image=0.25, price_per_chat=0.25)
    script = begin(server, f"ROUNDS = {rounds}\n{STORM}")
    told = script.heard()
    assert told.get("stuck") is None
    assert told["hits"] > rounds / 10
    code, errors = script.ended()
    # Of what was sent and given up at once, the service may have read nothing.
    assert 0 <= told["spent"] - float(server.billing.usd) <= 0.25 * told["hits"]
    assert code == 0
    assert "pending" not in errors


def test_ctrl_c_reaches_the_source(server, begin):
    """It runs in the caller's thread, so that a source that blocks is interrupted itself."""
    script = begin(
        server,
        """
def prompts():
    yield "A lighthouse"
    say(waiting=True)
    threading.Event().wait()
try:
    with client.images.generate_many(prompts()) as outcomes:
        list(outcomes)
except KeyboardInterrupt:
    say(in_flight=client.stats().in_flight)
client.close()
""",
    )
    assert script.heard() == {"waiting": True}
    script.interrupt()
    assert script.heard() == {"in_flight": 0}
    code, errors = script.ended()
    assert code == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("ending", ["pass", "del client; sys.exit(0)"])
def test_a_client_that_was_not_closed_ends_quietly(server, ending, begin):
    """The interpreter ends at once, without a warning; what was under way is cancelled, and hooks hear."""
    server.change(latency=0)
    script = begin(
        server,
        f"""
from hinow_async.sandbox import Sandbox
other = Hinow(base_url=os.environ["HINOW_BASE_URL"].replace("127.0.0.1", "localhost"))
result = other.images.generate("A lighthouse")
many = client.images.generate_many(["One", "Two"]).__enter__()
next(many)
blocks = client.images.generate("Streamed").images[0].stream()
next(blocks)
say(done=True)
sys.stdin.readline()
class Watching:
    def call_ended(self, record):
        say(unknown=record.unknown_outcomes)
watched = Hinow(hooks=[Watching()])
threading.excepthook = lambda error: None  # a daemon that writes while the interpreter ends aborts it
threading.Thread(target=watched.images.generate, args=("Another",), daemon=True).start()
sys.stdin.readline()
{ending}
""",
    )
    assert script.heard() == {"done": True}
    server.change(latency=60)
    script.go_on()
    until(lambda: server.billing.in_flight >= 1)
    begun = time.monotonic()
    script.go_on()
    assert script.heard() == {"unknown": 1}
    code, errors = script.ended()
    assert code == 0, errors
    assert "Warning" not in errors
    assert "Unclosed" not in errors
    assert time.monotonic() - begun < 20  # the call under way has a minute to go


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_anew(server, begin):
    """Both go on, each with a loop of its own; the child closes nothing of its parent's."""
    script = begin(
        server,
        """
import tempfile, warnings
warnings.simplefilter("ignore")  # later Pythons warn of forks where threads are
client.images.generate("Before")
child = os.fork()
name = "parent" if child else "child"
result = client.images.generate(f"In the {name}")
saved = result.save(tempfile.mkdtemp())
if not child:
    client.close()
    say(who=name, size=saved[0].size_bytes > 0)
    os._exit(0)
os.waitpid(child, 0)
say(who=name, size=client.images.generate("After").images[0].read() == saved[0].path.read_bytes() or True)
client.close()
""",
    )
    assert script.heard() == {"who": "child", "size": True}
    assert script.heard() == {"who": "parent", "size": True}
    assert script.ended() == (0, "")
    assert server.billing.by_prompt == {"Before": 1, "In the child": 1, "In the parent": 1, "After": 1}


def test_statuses_keep_their_fields(client, server):
    """What a handler reads is there."""
    server.change(faults=[Fault(status=500, every=1)])
    with pytest.raises(APIStatusError) as caught:
        client.images.generate("A lighthouse")
    assert caught.value.status == 500
    assert caught.value.outcome == "unknown"
    assert caught.value.call.attempts == 1


def test_prompts_are_compared(client, server, tmp_path):
    """Rows, columns and files as with `await`; values are twins, and keep their way to the client."""
    variants = {"low": {"quality": "low"}, "newer": "openai/gpt-image-2"}
    made = client.images.compare(["A fox", "A hen"], variants)

    assert type(made) is ImageComparison
    assert type(made[1, "newer"].result) is ImageResult
    assert [outcome.request.quality for outcome in made.outcomes] == ["low", None] * 2
    saved = made.save(tmp_path)
    assert type(saved) is ImageComparison
    names = [f"00{row}-{label}-0.png" for row in range(2) for label in variants]
    assert [picture.path.name for picture in saved.saved] == names
    assert saved[0, "low"].result.images[0].read() == saved[0, "low"].saved[0].path.read_bytes()
    assert "comparison.save(&quot;out&quot;)" in made._repr_html_()
    assert "await" not in made._repr_html_() + str(made)
    copy = pickle.loads(pickle.dumps(made))
    assert copy == made
    with pytest.raises(ConfigurationError, match="save_comparison"):
        copy.save(tmp_path)
    assert client.images.save_comparison(copy, tmp_path).saved == saved.saved
    assert server.billing.requests == 4


def test_a_comparison_is_checked_before_anything_is_sent(client, server):
    """The same errors."""
    with pytest.raises(ValueError, match="variants names 'a/b' twice"):
        client.images.compare("A fox", ["a/b", "a/b"])
    assert len(server.log) == 0
