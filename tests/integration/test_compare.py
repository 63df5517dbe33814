"""`compare`: a row for each prompt, a column for each variant, and no cell is lost with another."""

import asyncio
import logging
import os
import pickle

import attrs
import pytest

from hinow_async import (
    APIError,
    APIResponseError,
    BadRequestError,
    Budget,
    BudgetExceededError,
    ConfigurationError,
    ImageComparison,
    ImageRequest,
    Limits,
    RetryPolicy,
    URLExpiredError,
)
from hinow_async.sandbox import Fault

PINNED, ALIAS = "openai/gpt-image-2-2026-04-21", "openai/gpt-image-2"
VARIANTS = {"pinned": PINNED, "newer, high": {"model": ALIAS, "quality": "high"}}


async def test_each_prompt_is_drawn_by_each_variant(client, sandbox):
    """Cells are found by row and label, in any order of the answers, and each was asked for once."""
    sandbox.change(latency=lambda body: 0.1 if body["model"] == PINNED else 0)

    made = await client.images.compare(["A fox", "A hen"], VARIANTS)

    assert (made.prompts, made.labels) == (("A fox", "A hen"), ("pinned", "newer, high"))
    cells = [made[row, label].request for row in range(2) for label in made.labels]
    assert [(cell.prompt, cell.model, cell.quality) for cell in cells] == [
        ("A fox", PINNED, None), ("A fox", ALIAS, "high"), ("A hen", PINNED, None), ("A hen", ALIAS, "high"),
    ]  # fmt: skip
    assert [outcome.unwrap().request for outcome in made.outcomes] == [each.request for each in made.outcomes]
    assert [outcome.index for outcome in made.outcomes] == [0, 1, 2, 3]
    assert sandbox.billing.requests == 4
    assert [(prompt, list(cells)) for prompt, cells in made.rows()] == [
        ("A fox", list(VARIANTS)),
        ("A hen", list(VARIANTS)),
    ]
    assert made[-1, "pinned"] is made.rows()[1][1]["pinned"] is made.outcomes[2]
    assert (made.failed, made.saved) == ((), ())


async def test_one_prompt_and_model_ids_are_enough(client, sandbox):
    """The labels are the ids; a request's own fields stay, but for those that the variant names."""
    row = ImageRequest("A fox", model="other/model", quality="low", num_images=2)

    made = await client.images.compare(row, [PINNED, ALIAS])

    assert made.labels == (PINNED, ALIAS)
    assert {outcome.request for outcome in made.outcomes} == {
        attrs.evolve(row, model=PINNED),
        attrs.evolve(row, model=ALIAS),
    }
    own = await client.images.compare(
        row, {"as it is": {}, "high": {"quality": "high", "extra": {"seed": 1}}}
    )
    assert [outcome.request.model for outcome in own.outcomes] == ["other/model"] * 2
    assert sandbox.log[-1].body["parameters"].get("num_images") == 2


async def test_calls_run_at_once_and_within_the_limits(connect, sandbox):
    """As many as the limit lets, by the client's one queue."""
    sandbox.change(latency=0.05)
    client = connect(limits=Limits(max_in_flight=3, adaptive=False))

    await client.images.compare([f"A fox {number}" for number in range(4)], VARIANTS)

    assert sandbox.billing.peak_in_flight == 3
    assert client.stats().in_flight == 0


async def test_a_cell_that_fails_loses_no_other(client, sandbox, tmp_path):
    """Neither by a refusal, nor by an answer that cannot be read, nor by pictures that cannot be fetched."""
    sandbox.change(
        faults=[
            Fault(path="images", match="hen", status=400),
            Fault(path="images", match="owl", body={"success": False}),
            Fault(path="files", status=404, times=1),
        ]
    )

    made = await client.images.compare(["A hen", "An owl", "A fox"], [PINNED, ALIAS], save_to=tmp_path)

    assert [type(outcome.error) for outcome in made.outcomes[:4]] == [
        BadRequestError, BadRequestError, APIResponseError, APIResponseError,
    ]  # fmt: skip
    foxes = sorted(made.outcomes[4:], key=lambda outcome: outcome.error is None)
    assert [type(outcome.error) for outcome in foxes] == [URLExpiredError, type(None)]
    assert all(outcome.result is not None for outcome in foxes)
    assert made.saved == foxes[1].saved != ()
    assert len(made.failed) == 5
    assert made.estimated_usd is None  # nobody knows the alias' price
    words = str(made)
    assert "BadRequestError" in words
    assert "3 prompts in 2 variants, estimated" in words
    assert "5 failed" in words


async def test_a_budget_refuses_what_could_go_over(connect, sandbox):
    """One cell is paid for, the others say why they are not; the sum is what was spent."""
    client = connect(budget=Budget(max_usd=0.1, usd_per_image=0.087))

    made = await client.images.compare("A fox", [PINNED, ALIAS])

    assert sorted(str(type(outcome.error)) for outcome in made.outcomes) == sorted(
        [str(type(None)), str(BudgetExceededError)]
    )
    assert sandbox.billing.requests == 1
    assert made.estimated_usd == client.stats().spent_usd == 0.087
    assert "BudgetExceededError" in str(made)


async def test_what_was_refused_costs_nothing_and_what_was_lost_may(connect, sandbox):
    """Whether or not a price is known: a sum is None only where something of unknown price may be billed."""
    client = connect(retry=RetryPolicy(attempts=1))
    sandbox.change(faults=[Fault(match="hen", status=400), Fault(match="owl", drop="after")])

    refused = await client.images.compare("A hen", [PINNED, ALIAS])
    lost = await client.images.compare("An owl", [PINNED, ALIAS])

    assert refused.estimated_usd == 0
    assert (lost.estimated_usd, lost[0, ALIAS].error.outcome) == (None, "unknown")
    assert "estimated $0.087 and 1 call of unknown price" in str(lost)
    assert "call of unknown" not in str(refused)


@pytest.mark.parametrize(
    ("prompts", "variants", "said"),
    [
        ([], [PINNED], "prompts is empty"),
        (7, [PINNED], "prompts must be a prompt, an ImageRequest or a sequence of them, not int"),
        (b"A fox", [PINNED], "not bytes"),
        (["A fox", 7], [PINNED], r"prompts\[1\]: prompt must be a string, not int"),
        (["A fox", " "], [PINNED], r"prompts\[1\]: prompt is empty"),
        ("A fox", [], "variants is empty"),
        ("A fox", {}, "variants is empty"),
        ("A fox", PINNED, "variants must be a sequence of model ids, or a mapping"),
        ("A fox", None, "variants must be a sequence of model ids, or a mapping"),
        ("A fox", [PINNED, ALIAS, PINNED], f"variants names '{PINNED}' twice"),
        ("A fox", [{"model": PINNED}], r"variants\[0\] must be a model id"),
        ("A fox", ["a//b"], "model must be an id"),
        ("A fox", {"": PINNED}, "a label must be a text that is not empty, not ''"),
        ("A fox", {7: PINNED}, "a label must be a text that is not empty, not 7"),
        ("A fox", {"a": 7}, r"variants\['a'\] must be a model id or a mapping of fields, not 7"),
        ("A fox", {"a": {"qualty": "low"}}, r"variants\['a'\]: 'qualty' is none of model, quality"),
        ("A fox", {"a": {"prompt": "x"}}, r"variants\['a'\]: 'prompt' is none of"),
        (["A fox", "A hen"], {"a": {"quality": "ultra"}}, r"prompts\[0\] as 'a': quality must be one of low"),
        (["A fox"], {"a": {"num_images": 11}}, r"prompts\[0\] as 'a': num_images must be a whole number"),
        ("A fox", {"a": {"extra": {"x": object()}}}, r"prompts\[0\] as 'a': .*not JSON"),
        (
            ["A fox", ImageRequest("A hen", model="openai/gpt-image-2-edit", aspect_ratio="21:9")],
            [PINNED],
            r"prompts\[1\] as .*: aspect_ratio must be one of 1:1",
        ),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_sent(client, sandbox, prompts, variants, said):
    """The message names the row, the label and the field."""
    with pytest.raises(ValueError, match=said):
        await client.images.compare(prompts, variants)

    assert sandbox.billing.requests == 0
    assert len(sandbox.log) == 0


async def test_a_call_that_cannot_be_made_is_refused_too(client, sandbox, tmp_path):
    """Its deadline, its headers, its folder."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="timeout"):
        await client.images.compare("A fox", [PINNED], timeout=-1)
    with pytest.raises(ValueError, match="header"):
        await client.images.compare("A fox", [PINNED], headers={"X": "a\nb"})
    with pytest.raises(OSError, match="file"):
        await client.images.compare("A fox", [PINNED], save_to=tmp_path / "file")
    assert len(sandbox.log) == 0


async def test_pictures_are_named_by_row_and_label(client, tmp_path):
    """Each name is another on any file system, also where labels differ in what a name cannot hold."""
    labels = ["newer, high", "Newer high", "../../newer/high", "灯台", "🦊", "x" * 300, "con", "x" * 299]
    variants = {label: {"num_images": 2} for label in labels}

    made = await client.images.compare(["A fox", "A hen"], variants, save_to=tmp_path / "new")

    names = [picture.path.name for picture in made.saved]
    assert names[:8] == [
        "000-newer-high-0.png", "000-newer-high-1.png",
        "000-newer-high-2-0.png", "000-newer-high-2-1.png",
        "000-newer-high-3-0.png", "000-newer-high-3-1.png",
        "000-灯台-0.png", "000-灯台-1.png",
    ]  # fmt: skip
    assert len({name.casefold() for name in names}) == len(names) == 32
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    assert made[1, "con"].saved[1].path.name == "001-con-1.png"


async def test_a_second_run_overwrites_nothing(client, sandbox, tmp_path):
    """Other bytes under the same name get another one."""
    first = await client.images.compare("A fox", [PINNED], save_to=tmp_path)
    before = first.saved[0].path.read_bytes()
    sandbox.change(picture_size=48)

    second = await client.images.compare("A fox", [PINNED], save_to=tmp_path)

    assert first.saved[0].path.read_bytes() == before
    assert second.saved[0].path.name == "000-openai-gpt-image-2-2026-04-21-0-2.png"


async def test_it_can_be_saved_afterwards(client, sandbox, tmp_path):
    """Under the same names; what could not be fetched is an error in its cell, and comes with the next."""
    sandbox.change(faults=[Fault(path="images", match="hen", status=400)])
    made = await client.images.compare(["A fox", "A hen"], VARIANTS)
    told = []
    sandbox.change(faults=[Fault(path="files", status=404, times=1)])

    saved = await made.save(tmp_path / "new", on_progress=lambda *now: told.append(now))
    again = await saved.save(tmp_path / "new")

    assert [len(outcome.saved) for outcome in made.outcomes] == [0, 0, 0, 0]
    assert sorted(len(outcome.saved) for outcome in saved.outcomes[:2]) == [0, 1]
    assert {type(outcome.error) for outcome in saved.outcomes[:2]} == {type(None), URLExpiredError}
    assert [type(outcome.error) for outcome in saved.outcomes[2:]] == [BadRequestError] * 2
    assert [picture.path.name for picture in again.saved] == ["000-pinned-0.png", "000-newer-high-0.png"]
    assert len(again.failed) == 2
    assert told[-1][0] == sum(picture.size_bytes for picture in saved.saved)
    assert sandbox.billing.requests == 2


async def test_a_pickled_one_is_whole_and_saved_by_the_client(client, tmp_path):
    """It is equal, shows the same words, and names the way to its pictures."""
    made = await client.images.compare(["A fox"], VARIANTS)
    copy = pickle.loads(pickle.dumps(made))

    assert copy == made
    assert str(copy) == str(made)
    assert copy[0, "pinned"].result.call == made[0, "pinned"].result.call
    with pytest.raises(ConfigurationError, match=r"client\.images\.save_comparison"):
        await copy.save(tmp_path)
    saved = await client.images.save_comparison(copy, tmp_path)
    assert len(saved.saved) == 2
    assert pickle.loads(pickle.dumps(saved)) == saved


async def test_an_error_is_pickled_with_its_cell(client, sandbox):
    """Batches and clusters send them between processes."""
    sandbox.change(faults=[Fault(status=400)])
    copy = pickle.loads(pickle.dumps(await client.images.compare("A fox", [PINNED])))
    assert type(copy[0, PINNED].error) is BadRequestError


async def test_a_cell_that_is_not_there_is_named(client):
    """An index, a label, and what is neither."""
    made = await client.images.compare("A fox", VARIANTS)
    with pytest.raises(IndexError):
        made[1, "pinned"]
    with pytest.raises(KeyError, match="label must be one of 'pinned', 'newer, high', not 'old'"):
        made[0, "old"]
    with pytest.raises(TypeError, match="row and label"):
        made[0]


async def test_cancelled_it_leaves_nothing_and_says_what_is_lost(connect, sandbox, caplog):
    """As `generate_many`: calls in flight are cancelled; results that nobody gets are counted."""
    sandbox.change(latency=lambda body: 0 if body["model"] == PINNED else 5)
    client = connect(limits=Limits(max_in_flight=4))
    task = asyncio.create_task(client.images.compare(["A fox", "A hen"], [PINNED, ALIAS]))
    while sandbox.billing.in_flight < 2 or client.stats().in_flight > 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert client.stats().unknown_outcomes == 2
    assert (client.stats().in_flight, client.stats().waiting) == (0, 0)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("2 calls in flight were cancelled" in line for line in said)
    assert any("2 results that were ready are lost" in line for line in said)


async def test_cancelled_while_saving_it_keeps_what_is_on_disk(client, sandbox, tmp_path, caplog):
    """Nothing else lies in the folder, and nothing that is there is called lost."""
    sandbox.change(latency=lambda body: 0 if body["model"] == PINNED else 5)
    task = asyncio.create_task(client.images.compare("A fox", [PINNED, ALIAS], save_to=tmp_path))
    while not list(tmp_path.glob("*.png")):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [path.name for path in tmp_path.iterdir()] == ["000-openai-gpt-image-2-2026-04-21-0.png"]
    assert "are lost" not in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="folders are kept from being written to in another way")
async def test_a_disk_that_takes_no_more_stops_it_and_loses_no_cell(connect, sandbox, tmp_path, monkeypatch):
    """The cell has its result and the error; what was not sent says so, and was not paid for."""
    client = connect(limits=Limits(max_in_flight=1, adaptive=False))
    folder = tmp_path / "new"
    real = os.open

    def full(path, flags, *rest, **options):
        if flags & os.O_CREAT and ".part" in str(path):
            raise OSError(28, "No space left on device")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", full)
    made = await client.images.compare(["A fox", "A hen", "An owl", "A cow"], [PINNED], save_to=folder)

    first = made.outcomes[0]
    assert first.result is not None
    assert "No space left" in str(first.error)
    unsent = [outcome for outcome in made.outcomes if outcome.result is None]
    assert len(unsent) == 4 - sandbox.billing.requests >= 1
    for outcome in unsent:
        assert type(outcome.error) is APIError
        assert outcome.error.outcome == "not_sent"
        assert "No space left" in str(outcome.error)


async def test_the_model_that_answered_is_said(client, sandbox):
    """Where it is another than was asked for, in words and in HTML."""
    answer = {
        "success": True,
        "data": {"urls": ["https://a.example/a.png"], "model": "other/<b>", "provider": "p"},
    }
    sandbox.change(faults=[Fault(path="images", body=answer)])

    made = await client.images.compare("A fox", [PINNED])

    assert f"answered by other/<b>, not by {PINNED}" in str(made)
    assert f"answered by other/&lt;b&gt;, not by {PINNED}" in made._repr_html_()
    assert "a.example" not in made._repr_html_() + str(made)


async def test_showing_it_fetches_nothing(client, sandbox, tmp_path):
    """It says how to have the pictures; once they are saved they are shown, escaped words and all."""
    made = await client.images.compare(["A <b>fox</b>"], {"<i>": {}, "b": {"quality": "low"}})
    before = len(sandbox.log)

    shown = made._repr_html_()

    assert len(sandbox.log) == before
    assert "2 not fetched yet: <code>await comparison.save(&quot;out&quot;)</code>" in shown
    assert "<img" not in shown
    saved = await made.save(tmp_path)
    shown = saved._repr_html_()
    assert shown.count('<img src="data:image/webp;base64,') == 2
    assert "not fetched" not in shown
    assert "&lt;i&gt;" in shown
    assert "<i>" not in shown
    assert isinstance(saved, ImageComparison)
