"""`hinow compare`: what it makes, prints and writes, and how it ends."""

import itertools
import resource
import signal

import pytest

from hinow_async.sandbox import Fault

PINNED, ALIAS = "openai/gpt-image-2-2026-04-21", "openai/gpt-image-2"
MODELS = ("--model", PINNED, "--model", ALIAS)


def test_paths_are_printed_and_the_page_shows_the_pictures(hinow, service, to_service, tmp_path):
    """Paths on standard output, a line each, the page's last; the table goes to standard error."""
    ended = hinow("compare", "A fox", "A hen", *MODELS, "--out", "new", env=to_service)

    assert ended.code == 0
    assert ended.out.splitlines() == [
        f"new/00{row}-openai-{name}-0.png" for row in range(2) for name in (PINNED[7:], ALIAS[7:])
    ] + ["new/comparison.html"]
    assert all((tmp_path / line).exists() for line in ended.out.splitlines())
    assert f"{PINNED}  {ALIAS}" in " ".join(ended.err.splitlines()[0].split("   "))
    assert "2 prompts in 2 variants, estimated $0.174 and 2 calls of unknown price" in ended.err
    assert service.billing.by_prompt == {"A fox": 2, "A hen": 2}
    page = (tmp_path / "new/comparison.html").read_text()
    assert page.count('<img src="data:image/webp;base64,') == 4
    assert f'href="001-openai-{ALIAS[7:]}-0.png"' in page
    assert [path.name for path in (tmp_path / "new").iterdir() if ".part" in path.name] == []


def test_what_varies_makes_columns(hinow, service, to_service):
    """Each model with each value; what is the same for all is an option; a prompt may be standard input."""
    arguments = ("--vary", "quality=low,high", "--vary", "num-images=1,2", "--resolution", "1k")
    ended = hinow("compare", "-", *MODELS, *arguments, "--json", text="石桥 🦊\n", env=to_service)

    assert ended.code == 0
    assert len(ended.json["cells"]) == 8
    assert ended.json["labels"][1] == f"{PINNED}, quality=low, num_images=2"
    bodies = [entry.body for entry in service.log if entry.body is not None]
    asked = [(body["model"], *body["parameters"].values()) for body in bodies]
    assert sorted(asked) == sorted(itertools.product((PINNED, ALIAS), ("low", "high"), ("1k",), (1, 2)))
    assert set(service.billing.by_prompt) == {"石桥 🦊"}
    alone = hinow("compare", "A fox", "--vary", "quality=low,high", "--json", env=to_service)
    assert alone.json["labels"] == ["quality=low", "quality=high"]


def test_json_is_one_object(hinow, to_service, tmp_path):
    """What became of each cell; what is human goes to standard error."""
    ended = hinow("compare", "A fox", *MODELS, "--json", env=to_service)

    assert ended.code == 0
    assert ended.json["prompts"] == ["A fox"]
    assert ended.json["labels"] == [PINNED, ALIAS]
    assert (ended.json["page"], ended.json["sandbox"]) == ("comparison.html", False)
    first, second = ended.json["cells"]
    assert (first["row"], first["label"], first["model"], first["error"]) == (0, PINNED, PINNED, None)
    assert (first["estimated_usd"], second["estimated_usd"]) == (0.087, None)
    assert first["seconds"] > 0
    (saved,) = first["saved"]
    assert (tmp_path / saved["path"]).stat().st_size == saved["size_bytes"]
    assert "1 prompt in 2 variants" in ended.err


def test_a_second_run_overwrites_nothing(hinow, service, to_service, tmp_path):
    """Neither a picture nor the page, which cannot be made again."""
    first = hinow("compare", "A fox", *MODELS, env=to_service)
    before = {line: (tmp_path / line).read_bytes() for line in first.out.splitlines()}
    (tmp_path / "comparison-2.html").write_text("mine")
    service.change(picture_size=48)

    second = hinow("compare", "A hen", *MODELS, env=to_service)

    assert second.out.splitlines()[-1] == "comparison-3.html"
    assert not set(second.out.splitlines()) & set(before)
    assert {line: (tmp_path / line).read_bytes() for line in before} == before
    assert (tmp_path / "comparison-2.html").read_text() == "mine"


@pytest.mark.parametrize(("status", "code"), [(401, 4), (403, 4), (402, 3), (400, 1), (500, 1)])
def test_all_that_failed_alike_say_so_by_the_exit_code(hinow, service, to_service, tmp_path, status, code):
    """As every command does; without a picture there is no page."""
    service.change(faults=[Fault(status=status)])
    ended = hinow("compare", "A fox", *MODELS, env=to_service)
    assert (ended.code, ended.out) == (code, "")
    assert "2 failed" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_failed_is_told_beside_the_others(hinow, service, to_service, tmp_path):
    """In the table, in the page and as JSON; exit 1 where failures differ, else that of the failure."""
    service.change(faults=[Fault(match="hen", status=400, body={"error": {"message": "<i>no\u001b[2J"}})])
    ended = hinow("compare", "A fox", "A hen", *MODELS, "--json", env=to_service)
    assert ended.code == 1
    assert [cell["error"] and cell["error"]["error"] for cell in ended.json["cells"]] == [
        None, None, "BadRequestError", "BadRequestError",
    ]  # fmt: skip
    assert ended.json["cells"][2]["error"]["outcome"] == "refused"
    assert "\u001b" not in ended.err
    page = (tmp_path / "comparison.html").read_text()
    assert page.count("BadRequestError") == 2
    assert "&lt;i&gt;no" in page

    ended = hinow("compare", "A fox", "--vary", "quality=low,high", "--max-usd", "0.1", env=to_service)
    assert ended.code == 3
    assert "BudgetExceededError" in ended.err
    assert len(ended.out.splitlines()) == 2


def test_the_sandbox_is_named(hinow, tmp_path):
    """On standard error, in JSON and on the page."""
    ended = hinow("compare", "A fox", *MODELS, "--sandbox", "--json")
    assert (ended.code, ended.json["sandbox"]) == (0, True)
    assert "Sandbox" in ended.err
    assert "test pictures of the sandbox" in (tmp_path / "comparison.html").read_text()


def test_what_only_the_compared_models_take_is_no_mistake(hinow, service, to_service):
    """The default model, which is none of them, is not asked."""
    service.change(models=["a/one", "a/two"])
    arguments = ("--model", "a/one", "--model", "a/two", "--quality", "ultra", "--json")
    ended = hinow("compare", "A fox", *arguments, env=to_service)
    assert [cell["asked_model"] for cell in ended.json["cells"]] == ["a/one", "a/two"]
    assert service.log[0].body["parameters"] == {"quality": "ultra"}


def test_a_page_that_cannot_be_written_takes_no_picture_with_it(start, to_service, tmp_path):
    """The paths are printed all the same; what is wrong is said, and the exit code is 1."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    arguments = ("A fox", "A hen", *MODELS, "--resolution", "1k", "--out", "new")
    ended = start("compare", *arguments, env=to_service, preexec_fn=limit).end()
    assert ended.code == 1
    assert len(ended.out.splitlines()) == 4
    assert all((tmp_path / line).exists() for line in ended.out.splitlines())
    assert "the page could not be written: File too large" in ended.err
    assert sorted(path.suffix for path in (tmp_path / "new").iterdir()) == [".png"] * 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'PROMPT"),
        (["a"], "one column compares nothing"),
        (["a", "--model", PINNED], "one column compares nothing"),
        (["a", "--vary", "quality=low"], "one column compares nothing"),
        (["a", *MODELS, "--model", ALIAS], "has a value twice"),
        (["a", "--vary", "quality=low,low"], "has a value twice"),
        (["a", "--vary", "quality=low,ultra"], "quality must be one of low, medium, high"),
        (["a", "--vary", "num_images=1,11"], "num_images must be a whole number from 1 to 10"),
        (["a", "--vary", "num_images=1,x"], "num_images takes numbers, not 'x'"),
        (["a", "--vary", "quality"], "--vary takes FIELD=VALUE,VALUE"),
        (["a", "--vary", "seed=1,2"], "--vary takes FIELD=VALUE,VALUE with a field of quality,"),
        (["a", "--vary", "quality=low,high", "--vary", "quality=medium"], "--vary names a field twice"),
        (["a", "--vary", "quality=low,high", "--quality", "low"], "contradict each other"),
        (["a", " ", *MODELS], "prompt is empty"),
        (["a", *MODELS, "--out", "new", "--quality", "ultra"], "quality must be one of low, medium, high"),
        (["a", "--model", "a//b", "--model", PINNED], "model must be an id"),
        (["a", *MODELS, "--out", "/proc/self/x"], "cannot be used"),
    ],
)
def test_wrong_use_is_exit_2_and_sends_nothing(hinow, service, to_service, tmp_path, arguments, said):
    """What is wrong is named, and no folder is made."""
    ended = hinow("compare", *arguments, env=to_service)
    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())
    assert len(service.log) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_first_ctrl_c_keeps_what_is_paid_for(start, service, to_service, tmp_path, wait_for):
    """Nothing more is sent; the page shows what there is, and what was not sent."""
    service.change(latency=0.5)
    arguments = ("A fox", "A hen", "An owl", *MODELS, "--max-in-flight", "1", "--json")
    running = start("compare", *arguments, env=to_service)
    wait_for(lambda: service.billing.in_flight == 1)
    running.signal(signal.SIGINT)
    ended = running.end()

    assert ended.code == 130
    assert "what is paid for is finished and saved" in ended.err
    paid = [cell for cell in ended.json["cells"] if cell["saved"]]
    assert len(paid) == service.billing.requests == 1
    unsent = [cell["error"]["message"] for cell in ended.json["cells"] if cell["error"]]
    assert unsent == ["not sent: it was stopped before"] * 5
    assert "not sent: it was stopped before" in (tmp_path / "comparison.html").read_text()


def test_a_second_ctrl_c_stops_at_once(start, service, to_service, tmp_path, wait_for):
    """No page, nothing half done."""
    service.change(latency=60)
    running = start("compare", "A fox", *MODELS, env=to_service)
    wait_for(lambda: service.billing.in_flight == 2)
    running.signal(signal.SIGINT)
    assert running.process.stderr.readline()
    running.signal(signal.SIGINT)
    ended = running.end()
    assert (ended.code, ended.out) == (130, "")
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []
