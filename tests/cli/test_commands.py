"""The commands, as a user has them: what they print where, and how they end."""

import json
import os
import pty
import select
import subprocess
import sys

import pytest

from hinow_async._version import __version__
from hinow_async.cli.screen import safe
from hinow_async.sandbox import Fault


def test_alone_it_helps_with_examples(hinow):
    """Three examples, exit 0."""
    ended = hinow()
    assert ended.code == 0
    assert sum(line.strip().startswith("hinow ") for line in ended.out.splitlines()) == 3
    assert all(name in ended.out for name in ("generate", "batch", "chat", "models", "balance", "sandbox"))


def test_the_version_needs_no_client():
    """It comes quickly: neither aiohttp nor rich is imported for it."""
    code = (
        "import sys; from hinow_async.cli import main\n"
        "main(['--version']); print([n for n in ('aiohttp', 'rich', 'PIL', 'anyio') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"hinow {__version__}", "[]"]


def test_without_click_it_says_what_to_install(tmp_path, environment):
    """No traceback where the extra is missing."""
    code = "import sys; sys.modules['click'] = None; from hinow_async.cli import main; sys.exit(main([]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 2
    assert done.stderr == 'hinow needs its command line parts: pip install "hinow-async[cli]"\n'


# -- generate --------------------------------------------------------------------------------------------


def test_generate_prints_only_the_paths(hinow, service, to_service, tmp_path):
    """One a line, on standard output, so that other programs can take them."""
    ended = hinow(
        "generate", "A fox", "--out", "pictures", "--num-images", 2, "--output-format", "webp",
        "--extra", '{"seed": 5}', "--name", "fox", env=to_service,
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == ["pictures/fox-0.webp", "pictures/fox-1.webp"]
    assert all((tmp_path / line).exists() for line in ended.out.splitlines())
    assert service.log[0].body["parameters"] == {"output_format": "webp", "num_images": 2, "seed": 5}


def test_the_installed_command_runs_in_an_empty_folder(start, tmp_path):
    """As a newcomer types it: no key, no set-up."""
    ended = start("generate", "A fox", "--sandbox").end()
    assert ended.code == 0
    assert (tmp_path / ended.out.strip()).read_bytes().startswith(b"\x89PNG")


def test_generate_with_json_is_one_object(hinow, tmp_path):
    """What is human goes to standard error; the sandbox says that it is one."""
    ended = hinow("generate", "A fox", "--sandbox", "--json")
    assert ended.code == 0
    assert "Sandbox" in ended.err
    assert ended.json["sandbox"] is True
    (saved,) = ended.json["saved"]
    assert (tmp_path / saved["path"]).stat().st_size == saved["size_bytes"]


def test_generate_takes_the_prompt_from_standard_input(hinow, service, to_service):
    """`-` stands for it; of any script."""
    ended = hinow("generate", "-", text="石桥 🦊\n", env=to_service)
    assert ended.code == 0
    assert service.billing.by_prompt == {"石桥 🦊": 1}


def test_generate_overwrites_only_when_asked(hinow, to_service, tmp_path):
    """Somebody else's file keeps its name."""
    (tmp_path / "fox-0.png").write_text("mine")
    assert hinow("generate", "A fox", "--name", "fox", env=to_service).out == "fox-0-2.png\n"
    assert hinow("generate", "A fox", "--name", "fox", "--overwrite", env=to_service).out == "fox-0.png\n"
    assert (tmp_path / "fox-0.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["generate", "a"], {}, "no API key: set the environment variable HINOW_API_KEY"),
        (["generate", "a"], {"HINOW_API_KEY": "hi_a\nb"}, "control character"),
        (["generate", "a"], {"HINOW_API_KEY": "hi_a", "HINOW_BASE_URL": "ftp://x"}, "neither http nor https"),
        (["generate", "a"], {"HINOW_API_KEY": "hi_a", "HINOW_BASE_URL": "http://x.com"}, "loopback only"),
        (["generate", " ", "--sandbox"], {}, "prompt is empty"),
        (["generate", "a", "--num-images", "11", "--sandbox"], {}, "num_images must be a whole number"),
        (["generate", "a", "--quality", "ultra", "--sandbox"], {}, "quality must be one of low, medium"),
        (["generate", "a", "--extra", "{", "--sandbox"], {}, "--extra is not JSON"),
        (["generate", "a", "--extra", "[]", "--sandbox"], {}, "--extra must be a JSON object"),
        (["generate", "a", "--out", "/proc/self/x", "--sandbox"], {}, "cannot be used"),
        (["generate", "a", "--max-in-flight", "0", "--sandbox"], {}, "Invalid value for '--max-in-flight'"),
        (["generate", "a", "--api-key", "hi_x"], {}, "No such option"),
        (["generate"], {}, "Missing argument 'PROMPT'"),
        (["nonsense"], {}, "No such command"),
        (["chat", "a", "--sandbox"], {}, "Missing option '--model'"),
        (["chat", "", "--model", "hinow/himax", "--sandbox"], {}, "prompt is empty"),
        (["models", "a//b", "--sandbox"], {}, "model must be an id"),
        (["batch", "none.jsonl", "out", "--sandbox"], {}, "No such file"),
        (["batch", "/dev/null", "/dev/null", "--sandbox"], {}, "/dev/null cannot be used"),
        (["batch", "/dev/null", "out", "--set", "quallity=high", "--sandbox"], {}, "'quallity' is none of"),
        (["batch", "/dev/null", "out", "--set", "quality", "--sandbox"], {}, "--set takes FIELD=VALUE"),
    ],
)  # fmt: skip
def test_wrong_use_is_exit_2_and_one_readable_paragraph(hinow, tmp_path, arguments, env, said):
    """What is wrong is named; nothing is printed to standard output; nothing is left behind."""
    ended = hinow(*arguments, env=env)
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert ended.out == ""
    assert "hi_a" not in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 4), (403, 4), (402, 3), (400, 1), (404, 1), (500, 1)],
)
def test_errors_of_the_service_have_their_exit_codes(hinow, service, to_service, status, code):
    """Refused, no money, failed; what the service says cannot move the cursor."""
    body = {"error": {"message": "evil \x1b[2J\u202e message"}}
    service.change(faults=(Fault(status=status, body=body),))
    ended = hinow("generate", "a", env=to_service)
    assert ended.code == code
    assert ended.err.startswith("hinow: the service answered ")
    assert "evil \\x1b[2J\\u202e message" in ended.err
    assert ended.err.count("\n") == 1


def test_a_budget_that_would_be_passed_is_exit_3(hinow, service, to_service):
    """Nothing is sent."""
    ended = hinow("generate", "a", "--num-images", 9, "--max-usd", 0.5, "-q", env=to_service)
    assert ended.code == 3
    assert "nothing was sent" in ended.err
    assert service.billing.requests == 0


def test_a_budget_is_kept_in_the_price_that_is_named(hinow, service, to_service):
    """What nobody else knows the price of can be bought within a budget, and nothing is estimated."""
    pictures = ("generate", "a", "--num-images", 3, "--max-usd", 1)
    ended = hinow(*pictures, "--usd-per-image", 0.4, env=to_service)
    assert (ended.code, service.billing.requests) == (3, 0)
    ended = hinow(*pictures, "--usd-per-image", 0.3, env=to_service)
    assert (ended.code, service.billing.requests) == (0, 1)
    assert "estimated dollars" not in ended.err
    ended = hinow(*pictures, env=to_service)
    assert "(0.087 for each of openai/gpt-image-2-2026-04-21 is not a published price)" in ended.err
    assert "--usd-per-image" in ended.err


def test_a_chat_within_a_budget_needs_a_price(hinow, service, to_service):
    """The message names the option."""
    chat = ("chat", "Hello", "--model", "hinow/himax", "--max-usd", 1)
    ended = hinow(*chat, env=to_service)
    assert (ended.code, service.billing.requests) == (2, 0)
    assert "--usd-per-chat at the command line" in ended.err
    assert hinow(*chat, "--usd-per-chat", 0.01, env=to_service).code == 0
    ended = hinow(*chat[:-2], "--usd-per-chat", 0.01, env=to_service)
    assert ended.code == 2
    assert "a price is for --max-usd" in ended.err


def test_a_picture_that_cannot_be_fetched_is_said_to_be_paid(hinow, service, to_service):
    """The money is gone, and the user hears it."""
    service.change(faults=(Fault(path="files", status=404),))
    ended = hinow("generate", "a", env=to_service)
    assert (ended.code, ended.out) == (1, "")
    assert "The picture is paid for." in ended.err


# -- chat, models, balance -------------------------------------------------------------------------------


def test_chat_answers_and_escapes_what_a_model_could_send(hinow, service, to_service):
    """Escape sequences of a model never reach a terminal; lines, tabs and joiners do."""
    service.change(chat_reply="ok\n\ttab \x1b]52;c;AAAA\x07 \u202e \x9b2J 👩\u200d🚀 é")
    ended = hinow("chat", "-", "--model", "hinow/himax", "--system", "be brief", text="hello", env=to_service)
    assert ended.code == 0
    assert ended.out == "ok\n\ttab \\x1b]52;c;AAAA\\x07 \\u202e \\x9b2J 👩\u200d🚀 é\n"
    assert [message["role"] for message in service.log[0].body["messages"]] == ["system", "user"]


def test_a_sequence_cut_between_two_pieces_reaches_no_terminal(hinow, service, to_service):
    """However a stream cuts it, and in the words of an error, too."""
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("\x1b", "[2J \xc2", "\x9b2J")
    ]
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    error = f"data: {json.dumps({'error': {'message': chr(27) + '[1m'}})}\n\n"
    service.change(faults=(Fault(path="chat", sse=[*events, error]),))
    ended = hinow("chat", "hi", "--model", "hinow/himax", env=to_service)
    assert ended.code == 1
    assert ended.out == "\\x1b[2J \xc2\\x9b2J\n"
    assert "\\x1b[1m" in ended.err
    assert "\x1b" not in ended.err


def test_chat_writes_no_picture_as_letters(hinow, service, to_service):
    """However many chunks it comes in, a few words stand for it; as JSON the text is whole."""
    words = [
        "A fox: ![fox](da",
        "ta:image/png;ba",
        "se64,",
        *["QUJD" * 1000] * 50,
        "QQ==) and",
        " that is all",
    ]
    events = [f"data: {json.dumps({'choices': [{'delta': {'content': word}}]})}\n\n" for word in words]
    service.change(faults=(Fault(path="chat", sse=[*events, "data: [DONE]\n\n"]),))

    ended = hinow("chat", "hi", "--model", "hinow/himax", env=to_service)
    whole = hinow("chat", "hi", "--model", "hinow/himax", "--json", env=to_service)

    assert (ended.code, ended.out) == (0, "A fox: ![fox]([picture, 0.2 MB]) and that is all\n")
    assert "1 picture(s)" in ended.err
    assert whole.json["text"] == "".join(words)


def test_chat_that_breaks_off_in_a_picture_ends_its_line(hinow, service, to_service):
    """What had come of it is said."""
    event = {"choices": [{"delta": {"content": f"data:image/png;base64,{'QUJD' * 1000}"}}]}
    service.change(faults=(Fault(path="chat", sse=[f"data: {json.dumps(event)}\n\n"]),))
    ended = hinow("chat", "hi", "--model", "hinow/himax", env=to_service)
    assert (ended.code, ended.out) == (1, "[picture, 3.0 kB]\n")


def test_chat_joins_prompts_standard_input_and_files(hinow, service, to_service, tmp_path):
    """In their order, files last."""
    (tmp_path / "notes.txt").write_text("Notes\n")
    hinow(
        "chat",
        "Sum up:",
        "-",
        "--file",
        "notes.txt",
        "--model",
        "hinow/himax",
        text="piped\n",
        env=to_service,
    )
    assert service.log[0].body["messages"][0]["content"] == "Sum up:\n\npiped\n\nNotes"


def test_chat_reads_no_text_without_end(hinow, service, to_service):
    """A device, or a pipe that is fed for ever, is refused after 16 MiB."""
    ended = hinow("chat", "--file", "/dev/zero", "--model", "hinow/himax", env=to_service)
    assert (ended.code, service.billing.received) == (2, 0)
    assert "/dev/zero is longer than 16 MiB" in ended.err


def test_chat_sends_pictures_along(hinow, service, to_service, tmp_path):
    """As data: URIs of what their bytes say; what is no picture is refused before anything is sent."""
    made = hinow("generate", "A fox", "--name", "fox", env=to_service).out.strip()
    ended = hinow("chat", "What is it?", "--image", made, "--model", "hinow/himax", env=to_service)
    assert ended.code == 0
    text, image = service.log[-1].body["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    (tmp_path / "no.png").write_text("no picture")
    received = service.billing.received
    ended = hinow("chat", "What is it?", "--image", "no.png", "--model", "hinow/himax", env=to_service)
    assert (ended.code, service.billing.received) == (2, received)
    assert "no.png" in ended.err


def test_chat_saves_the_pictures_of_an_answer(hinow, service, to_service, tmp_path):
    """And prints their paths after the words; with --json all is one object."""
    arguments = ("chat", "A fox", "--model", "openai/gpt-image-2-2026-04-21", "--save", "out")
    ended = hinow(*arguments, env=to_service)
    (path,) = ended.out.splitlines()
    assert (tmp_path / path).read_bytes().startswith(b"\x89PNG")
    ended = hinow(*arguments, "--json", env=to_service)
    assert [saved["path"] for saved in ended.json["saved"]] == [path]
    assert "--save" in hinow(*arguments[:-2], env=to_service).err
    assert hinow(*arguments[:-1], "/proc/self/x", env=to_service).code == 2


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["words", "json"])
def test_ctrl_c_in_a_chat_is_exit_130(start, service, to_service, wait_for, options):
    """Words stop at once; one object is finished, for it is paid for."""
    service.change(chat_reply="word " * (40 if options else 2000), chunk_delay=0.02)
    running = start("chat", "hi", "--model", "hinow/himax", *options, env=to_service)
    wait_for(lambda: service.billing.requests == 1)
    if not options:
        assert running.process.stdout.read(4) == b"word"
    running.signal()
    ended = running.end()
    assert ended.code == 130
    assert (len(ended.json["text"]) == 200) if options else ("Stopped" in ended.err)
    wait_for(lambda: service.billing.in_flight == 0)


def test_chat_with_json_is_one_object_in_ascii(hinow, service, to_service):
    """The very text is in it, and still nothing that a terminal would obey."""
    service.change(chat_reply="\x9b2J")
    ended = hinow("chat", "hi", "--model", "hinow/himax", "--json", env=to_service)
    assert ended.json["text"] == "\x9b2J"
    assert ended.out.isascii()


def test_models_and_balance(hinow, to_service, service):
    """The catalogue is a line for each model, tab-separated where a program reads it; both speak JSON."""
    listing = hinow("models", env=to_service)
    assert [line.split("\t")[0] for line in listing.out.splitlines()].count("hinow/himax") == 1
    models = hinow("models", "--json", env=to_service).json["models"]
    assert {model["id"] for model in models} == {line.split("\t")[0] for line in listing.out.splitlines()}
    assert hinow("models", "hinow/himax", "--json", env=to_service).json["id"] == "hinow/himax"
    assert hinow("models", "hinow/none", env=to_service).code == 1
    service.change(balance="12.345")
    assert hinow("balance", env=to_service).out in {"$12.35\n", "$12.34\n"}
    assert hinow("balance", "--json", env=to_service).json["balance"] == 12.345


def test_a_reader_that_goes_away_is_no_error(start, to_service):
    """`hinow models | head -0`: quiet, and 141 as a shell would say."""
    running = start("models", env=to_service)
    running.process.stdout.close()
    running.process.stdout = None
    ended_err = running.process.communicate(timeout=30)[1]
    assert running.process.returncode == 141
    assert ended_err == b""


# -- sandbox ---------------------------------------------------------------------------------------------


def test_sandbox_runs_until_it_is_interrupted(start, hinow, environment):
    """Its first two lines lead other programs to it; Ctrl-C is its regular end."""
    running = start("sandbox", "--latency", "0.01", "--picture-size", "64", "--balance", "1")
    lines = [running.process.stdout.readline().decode() for _ in range(2)]
    assert [line.split("=")[0] for line in lines] == ["export HINOW_BASE_URL", "export HINOW_API_KEY"]
    env = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
    assert hinow("generate", "A fox", "--num-images", 2, env=env).code == 0
    assert hinow("balance", env=env).out == "$0.83\n"
    running.signal()
    ended = running.end()
    assert ended.code == 0
    assert "Requests: 1, pictures: 2; they would have cost $0.174" in ended.err


def test_a_sandbox_on_a_taken_port_is_a_matter_of_configuration(hinow, service):
    """Exit 2, and the port is named."""
    port = service.base_url.split(":")[2].split("/")[0]
    ended = hinow("sandbox", "--port", port)
    assert ended.code == 2
    assert f"port {port} cannot be used" in ended.err


# -- the screen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\rb\x07\x08", "a\\rb\\x07\\x08"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\x9b2J", "\\x9b2J"),
        ("\ud800", "\\ud800"),
        ("\u3000石\xa0", "\u3000石\xa0"),
        ("a\nb\tc", "a\nb\tc"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_shown_raw(text, shown):
    """Letters, spaces and emoji of all scripts stay; controls and turns of direction are escaped."""
    assert safe(text) == shown
    assert "\n" not in safe(text, lines=False)


def test_a_terminal_sees_a_live_line(prompts, tmp_path, environment, to_service, service):
    """On a terminal progress is one line that moves; the report comes after it."""
    service.change(latency=0.5)
    prompts(3)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hinow_async.cli", "batch", "prompts.jsonl", "out"],
        cwd=tmp_path, env={**environment, **to_service, "TERM": "xterm", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            block = os.read(ours, 65536)
        except OSError:  # Linux' way of saying that the other side is closed
            break
        seen += block
        if not block:
            break
    os.close(ours)
    out = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert b"of 3 done" in seen
    assert b"\x1b[2K" in seen
    assert b"\x1b[32m" not in seen
    assert b"3 of 3 items done" in out


def test_json_of_a_report_is_machine_readable(hinow, prompts):
    """Every field of the report, and where it lies."""
    prompts(2)
    report = hinow("batch", "prompts.jsonl", "out", "--sandbox", "--json").json
    assert (report["saved"], report["sandbox"], report["out"], report["stopped"]) == (2, True, "out", None)
    assert json.dumps(report)


# -- hostile answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_json", [False, True])
def test_pictures_that_were_saved_are_named_beside_one_that_could_not_be(
    hinow, service, to_service, tmp_path, is_json
):
    """Where they lie is what was paid for."""
    service.change(faults=(Fault(path="files", status=404, times=1),))
    options = ["--json"] if is_json else []
    ended = hinow("generate", "a", "--num-images", 2, "--out", tmp_path / "out", *options, env=to_service)
    (saved,) = (tmp_path / "out").iterdir()
    (path,) = [image["path"] for image in ended.json["saved"]] if is_json else ended.out.splitlines()
    assert (ended.code, path) == (1, str(saved))
    assert "The picture is paid for." in ended.err


def test_an_answer_is_written_though_a_picture_of_it_cannot_be_kept(hinow, service, to_service, tmp_path):
    """Its words are paid for."""
    images = [{"image_url": {"url": "data:image/png;base64,!!"}}]
    choices = [{"message": {"content": "paid words", "images": images}, "finish_reason": "stop"}]
    service.change(faults=(Fault(path="chat", body={"choices": choices}),))
    asked = ("chat", "q", "--model", "hinow/himax", "--save", tmp_path, "--json")
    ended = hinow(*asked, env=to_service)
    assert (ended.code, ended.json["text"], ended.json["saved"]) == (1, "paid words", [])


@pytest.mark.parametrize("odd", ["NaN", "1e400", '{"a":' * 800 + "1" + "}" * 800, '"NaN"'])
def test_json_is_json_whatever_the_service_says(hinow, service, to_service, odd):
    """Numbers that JSON does not have are null; what is nested deeply is written as it came."""
    body = '{"data":{"balance":1,"x":' + odd + "}}"
    service.change(faults=(Fault(path="balance", garbage=body.encode()),))
    ended = hinow("balance", "--json", env=to_service)
    assert ended.code == 0
    found = json.loads(ended.out, parse_constant=pytest.fail)
    assert found["extra"]["x"] == (None if odd in {"NaN", "1e400"} else json.loads(odd))
