"""A batch in words, as JSON and as a table: from one place, and safe to show."""

import json
from html.parser import HTMLParser

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinow_async.batch import BatchProgress, BatchReport
from hinow_async.batch.finishing import Outlook, outlook
from hinow_async.batch.words import finishing, progress_line
from hinow_async.sandbox import Fault

REPORT = BatchReport(
    total=1200, saved=3, reused=1000, failed=1, maybe_paid=2, lost=4, images=7, bytes=3_100_000, elapsed=7.4,
    estimated_usd=1.234, balance_fell_usd=0.9, model_mismatches=5, stopped="key", reason="no <b>key</b>",
    images_there=1010, out="o<ut>",
)  # fmt: skip
NOW = BatchProgress(
    total=66, done=10, failed=1, in_flight=5, waiting=3, images=12, bytes=100, elapsed=10.0, rate=1.25,
    remaining=44.0, estimated_usd=0.87, limit=40, remaining_usd=4.5,
)  # fmt: skip


def test_a_report_says_everything_in_words():
    """What stopped it, what is there, the money, what is open, and how it goes on from Python."""
    assert str(REPORT).splitlines() == [
        "Stopped early, the service refused the key: no <b>key</b>",
        "1,003 of 1,200 items done: 1,010 pictures lie in o<ut>/images (7 made now, 3.1 MB, in 7 s)",
        "Estimated cost: $1.23; the balance fell by $0.90",
        "1 failed and cost nothing: the next run tries them again",
        "2 may have been paid for without an answer: they are sent again only with resend_unknown",
        "4 are paid for, but not all their pictures could be fetched: the next run asks their links again,"
        " which is free; should those be dead, only pay_again has them made again",
        "What is open, and why: o<ut>/failures.jsonl",
        "5 answers name another model than was asked for: see manifest.jsonl",
        "To go on, run it again with the same source and folder",
    ]


def test_a_report_without_a_known_price_says_so():
    """Nothing is made up."""
    report = attrs.evolve(REPORT, estimated_usd=None, balance_fell_usd=None)
    assert "Nobody knows what these models cost" in str(report)
    assert report._repr_html_().count("not known") == 2


def test_json_has_every_field():
    """Those of the value, no more and no fewer."""
    assert json.loads(REPORT.to_json()) == REPORT.to_dict() == attrs.asdict(REPORT)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.cells = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        assert attributes == ([] if tag != "div" else [("class", "mathjax_ignore tex2jax_ignore")])
        if tag in {"th", "td"}:
            self.cells.append("")

    def handle_data(self, data):
        self.cells[-1] += data


@given(st.text(min_size=1, max_size=100), st.text(max_size=100))
def test_a_table_holds_nothing_but_its_cells(out, reason):
    """Whatever a folder is called and a service says: no tag, no attribute, nothing to be fetched.

    But for the box around it, in which two prices are no formula.
    """
    page = Page(attrs.evolve(REPORT, out=out, reason=reason)._repr_html_())
    assert page.tags == {"div", "table", "tr", "th", "td"}
    table = dict(zip(page.cells[::2], page.cells[1::2], strict=True))
    assert table["items done"] == "1,003 of 1,200 (1,000 from before)"
    assert (table["estimated cost"], table["balance fell by"]) == ("$1.23", "$0.90")
    assert (table["maybe paid"], table["lost"], table["other model than asked for"]) == ("2", "4", "5")
    assert table["stopped"] == "the service refused the key"


async def test_a_real_batch_reports_where_its_pictures_lie(run, out):
    """The folder as it was given, what is there from before, and that it is the sandbox."""
    await run(["a", "b"])
    report = await run(["a", "b", "c"])
    assert (report.out, report.sandbox, report.images_there) == (str(out), True, 3)
    assert (
        str(report).splitlines()[0].startswith(f"3 of 3 items done: 3 pictures lie in {out}/images (1 made")
    )
    assert "in the sandbox it cost nothing" in str(report)
    assert str(report).endswith(f"Each picture with its prompt: {out}/manifest.jsonl")


# -- progress --------------------------------------------------------------------------------------------


def test_the_line_shows_limit_time_and_money():
    """Spent and to come; what nobody knows is left out."""
    assert progress_line(NOW) == (
        "10 of 66 done, 5 in flight (limit 40), 1 failed, 1.2/s, 44 s left, estimated $0.87 spent,"
        " $4.50 to come"
    )
    unknown = attrs.evolve(NOW, total=None, remaining=None, estimated_usd=None, remaining_usd=None)
    assert progress_line(unknown) == "10 done, 5 in flight (limit 40), 1 failed, 1.2/s"


async def test_the_money_to_come_falls_as_it_is_spent(tmp_path, sandbox, run):
    """All of it at first, nothing at the end; what failed is neither, until the next run."""
    source = tmp_path / "prompts.txt"
    source.write_text("".join(f"prompt {n}\n" for n in range(20)))
    sandbox.change(faults=(Fault(match="prompt 19", status=400),))
    seen = []
    await run(source, on_progress=seen.append)
    assert (seen[0].estimated_usd, seen[0].remaining_usd) == (0.0, pytest.approx(20 * 0.087))
    assert (seen[-1].estimated_usd, seen[-1].remaining_usd) == (pytest.approx(19 * 0.087), 0.0)
    seen.clear()
    sandbox.change(faults=())
    await run(source, on_progress=seen.append)
    assert seen[0].remaining_usd == pytest.approx(0.087)


async def test_what_was_not_sent_is_still_to_come(tmp_path, sandbox, run):
    """Where a batch stops early, the rest stays money to come; of an iterable nobody knows it."""
    source = tmp_path / "prompts.txt"
    source.write_text("".join(f"prompt {n}\n" for n in range(20)))
    sandbox.change(balance="0.435")
    seen = []
    assert (await run(source, on_progress=seen.append)).stopped == "balance"
    assert seen[-1].remaining_usd == pytest.approx(15 * 0.087)
    sandbox.change(balance=None)
    await run(["a"], on_progress=seen.append)
    assert seen[-1].remaining_usd is None


async def test_progress_is_told_while_nothing_ends(sandbox, run):
    """A call may take a minute: what is in flight is shown meanwhile."""
    sandbox.change(latency=1.6)
    seen = []
    await run(["a"], on_progress=seen.append)
    assert any(now.in_flight == 1 and now.done == 0 for now in seen)


# -- the time that stopping takes ------------------------------------------------------------------------

SECONDS = st.floats(0, 1000)


def test_nothing_is_foreseen_before_anything_ended():
    """And nothing has to be where nothing is on its way."""
    assert outlook([], [3.0]) == Outlook(None)
    assert outlook([], []) == outlook([5.0], []) == Outlook(0.0)


def test_the_last_of_many_is_one_of_the_slowest():
    """One call: nine of ten took no longer; many: the slowest."""
    spans = [float(n) for n in range(1, 101)]
    assert outlook(spans, [0.0]) == Outlook(90.0)
    assert outlook(spans, [20.0]) == Outlook(70.0)
    assert outlook(spans, [0.0] * 200) == Outlook(100.0)
    assert outlook(spans, [95.0]) == Outlook(5.0)


def test_what_took_longer_than_anything_before_is_said():
    """Of such a call nobody knows when it ends."""
    assert outlook([1.0, 2.0], [5.0]) == Outlook(None, 1)
    assert outlook([1.0, 2.0], [5.0, 0.5]) == Outlook(1.5, 1)


@given(st.lists(SECONDS, min_size=1), st.lists(SECONDS))
def test_what_is_foreseen_is_within_what_was_seen(spans, ages):
    """Never negative, never longer than the slowest so far."""
    foreseen = outlook(spans, ages)
    assert foreseen.overdue == sum(age >= max(spans) for age in ages)
    assert (foreseen.seconds is None) == (0 < len(ages) == foreseen.overdue)
    assert foreseen.seconds is None or 0 <= foreseen.seconds <= max(spans)


def test_finishing_in_words():
    """Honest where nothing is known."""
    first = "3 calls are in flight and paid for, their pictures are saved first; "
    assert finishing(3, Outlook(19.2)) == first + "that takes about 20 s"
    assert finishing(3, Outlook(0.1)) == first + "that takes about 1 s"
    assert finishing(3, Outlook(5.0, 2)).endswith("about 5 s, but 2 of them took longer than any before")
    assert finishing(3, Outlook(None)).endswith("is not known yet, for none has ended so far")
    assert finishing(1, Outlook(None, 1)).startswith("1 call is in flight")
    assert finishing(1, Outlook(None, 1)).endswith("is not known: they have taken longer than any before")
