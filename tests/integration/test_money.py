"""Budgets and accounts: never over, to the cent; and what a refused key does to the others."""

import asyncio
from decimal import Decimal
from fractions import Fraction

import pytest
from rawserver import KEY, OK, RawServer, answer, close_after_request, http

from hinow_async import (
    Account,
    APIError,
    AsyncHinow,
    AuthenticationError,
    Budget,
    BudgetExceededError,
    ConfigurationError,
    InsufficientBalanceError,
    Limits,
    PermissionDeniedError,
    RetryPolicy,
)
from hinow_async.sandbox import Fault

# -- the budget --------------------------------------------------------------------------------------------


async def test_two_hundred_at_once_never_go_over(connect, sandbox):
    """As many as the budget holds are sent, the others are refused before."""
    sandbox.change(latency=lambda body: len(body["prompt"]) % 7 / 500)
    client = connect(budget=Budget(5, usd_per_image=0.1))

    results = await asyncio.gather(
        *(client.images.generate("x" * number) for number in range(1, 201)), return_exceptions=True
    )

    assert sandbox.billing.requests == 50
    assert sum(isinstance(result, BudgetExceededError) for result in results) == 150
    assert (client.stats().spent_usd, client.stats().reserved_usd) == (5.0, 0.0)


@pytest.mark.parametrize("price", [0.1, "0.1", Decimal("0.1"), lambda request: 0.1])
async def test_sums_are_exact(connect, price):
    """A budget of 0.3 holds three times 0.1, and not a fourth."""
    if isinstance(price, str):
        price = Decimal(price)
    client = connect(budget=Budget(0.3, usd_per_image=price))
    for _ in range(3):
        await client.images.generate("A lighthouse")

    with pytest.raises(BudgetExceededError) as caught:
        await client.images.generate("A lighthouse")

    assert (caught.value.asked, caught.value.spent, caught.value.left) == (
        Decimal("0.1"),
        Decimal("0.3"),
        Decimal(0),
    )
    assert client.stats().spent_usd == 0.3


async def test_a_failure_that_cost_nothing_makes_room_again(connect, sandbox):
    """What was refused is given back at once."""
    sandbox.change(faults=[Fault(status=400, times=1)])
    client = connect(budget=Budget(0.1, usd_per_image=0.1))
    with pytest.raises(APIError):
        await client.images.generate("A lighthouse")

    assert (await client.images.generate("A lighthouse")).images


async def test_a_budget_refuses_without_sending(connect, sandbox):
    """The error says what was asked and what is left, and that nothing was sent."""
    client = connect(budget=Budget(1, usd_per_image=0.3))

    with pytest.raises(BudgetExceededError, match=r"\$1\.2.*\$1.*nothing was sent") as caught:
        await client.images.generate("A lighthouse", num_images=4)

    assert caught.value.asked == Decimal("1.2")
    assert sandbox.billing.received == 0


async def test_a_price_that_nobody_knows_is_named(connect, sandbox):
    """With a budget, a call without a price is a ConfigurationError that names the argument."""
    client = connect(budget=Budget(1))

    with pytest.raises(ConfigurationError, match="usd_per_image"):
        await client.images.generate("A lighthouse", model="some/model")
    with pytest.raises(ConfigurationError, match="usd_per_chat"):
        await client.chat.completions.create("Hello", model="some/model")

    assert sandbox.billing.requests == 0
    assert client.stats().reserved_usd == 0


async def test_without_a_price_the_catalogue_is_read_once_and_the_budget_is_called_estimated(
    connect, sandbox, caplog
):
    """One request for the catalogue, one warning that names the argument."""
    client = connect(budget=Budget(1))

    await asyncio.gather(*(client.images.generate("A lighthouse") for _ in range(5)))

    assert sum(entry.path == "/v1/models" for entry in sandbox.log) == 1
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "estimated" in warnings[0]
    assert "usd_per_image" in warnings[0]


async def test_without_a_catalogue_the_cards_price_stands(connect, sandbox, caplog):
    """The budget is kept all the same."""
    sandbox.change(faults=[Fault(path="models", status=404)])
    client = connect(budget=Budget(1))

    result = await client.images.generate("A lighthouse", num_images=2)

    assert result.call.estimated_usd == 0.174
    assert "catalogue" in caplog.text


async def test_a_price_may_depend_on_the_request(connect):
    """The callable is given the request, and its price holds for each picture."""
    client = connect(budget=Budget(10, usd_per_image=lambda request: 2 if request.quality == "high" else 1))

    await client.images.generate("A lighthouse", quality="high", num_images=2)
    await client.images.generate("A lighthouse")

    assert client.stats().spent_usd == 5


def raising(request):
    raise LookupError("no such price")


@pytest.mark.parametrize(
    "price", [raising, lambda _: -1, lambda _: float("nan"), lambda _: "much", lambda _: None]
)
async def test_a_broken_price_is_a_value_error(connect, sandbox, price):
    """It names the argument; nothing is sent or held."""
    client = connect(budget=Budget(10, usd_per_image=price))

    with pytest.raises(ValueError, match=r"Budget\.usd_per_image"):
        await client.images.generate("A lighthouse")

    assert sandbox.billing.received == 0
    assert client.stats().reserved_usd == 0


async def test_chats_are_paid_for_by_the_call(connect):
    """With the price that was stated."""
    client = connect(budget=Budget(1, usd_per_chat=Decimal("0.02")))

    await client.chat.completions.create("Hello", model="hinow/himax")

    assert client.stats().spent_usd == 0.02


@pytest.mark.parametrize("number", [Fraction(1, 4), 10**400, True, "1", None, -1, float("inf")])
def test_a_sum_of_money_is_a_number_of_dollars(number):
    """What cannot be counted exactly is refused at construction, by name."""
    with pytest.raises(ValueError, match=r"Budget\.max_usd"):
        Budget(number)


# -- accounts ----------------------------------------------------------------------------------------------


def accounts(*servers, **limits):
    return [
        Account(f"{KEY}{number}", base_url=server.base_url, name=f"acc{number}", limits=limits.get("limits"))
        for number, server in enumerate(servers)
    ]


KEY_REFUSED = [(401, AuthenticationError), (402, InsufficientBalanceError), (403, PermissionDeniedError)]


@pytest.mark.parametrize(("status", "kind"), KEY_REFUSED)
async def test_with_one_account_nothing_is_parked(status, kind):
    """Each call asks again: the key may have been mended."""
    async with (
        RawServer(answer(http(status), OK)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        with pytest.raises(kind):
            await client.images.generate("A lighthouse")

        assert (await client.images.generate("A lighthouse")).images
        assert client.stats().accounts["default"].parked is None


@pytest.mark.parametrize(("status", "kind"), KEY_REFUSED)
async def test_a_refused_key_moves_the_call_to_another_account(status, kind):
    """At once, with the same idempotency key and the other's own key; the first gets no more calls."""
    async with (
        RawServer(answer(http(status))) as bad,
        RawServer(answer(OK)) as good,
        AsyncHinow(accounts=accounts(bad, good), budget=Budget(10, usd_per_image=1)) as client,
    ):
        results = [await client.images.generate("A lighthouse") for _ in range(3)]

        assert (len(bad.requests), len(good.requests)) == (1, 3)
        assert (results[0].call.attempts, results[0].call.account) == (2, "acc1")
        assert bad.requests[0].headers["idempotency-key"] == good.requests[0].headers["idempotency-key"]
        assert bad.requests[0].headers["authorization"] == f"Bearer {KEY}0"
        assert good.requests[0].headers["authorization"] == f"Bearer {KEY}1"
        assert client.stats().spent_usd == 3
        assert str(status) in client.stats().accounts["acc0"].parked
        assert kind.__name__


async def test_a_forbidden_model_parks_the_pair_alone(caplog):
    """403 says nothing about another model."""

    async def forbidding(talk):
        for _ in range(100):
            request = await talk.request()
            await talk.send(http(403) if request.json["model"] == "dear/model" else OK)

    async with (
        RawServer(forbidding) as first,
        RawServer(answer(OK)) as second,
        AsyncHinow(accounts=accounts(first, second)) as client,
    ):
        for model in ("dear/model", "cheap/model", "dear/model"):
            await client.images.generate("A lighthouse", model=model)

        assert [sent.json["model"] for sent in first.requests] == ["dear/model", "cheap/model"]
        assert [sent.json["model"] for sent in second.requests] == ["dear/model", "dear/model"]
        assert "account acc0 gets no calls of dear/model for 60 s" in caplog.text


async def test_with_no_account_left_each_is_named_once():
    """The last error is raised; calls after it are not sent at all, and say the same."""
    async with (
        RawServer(answer(http(401, {"message": "withdrawn"}))) as one,
        RawServer(answer(http(402, {"message": "empty"}))) as two,
        AsyncHinow(accounts=accounts(one, two), budget=Budget(9, usd_per_image=1)) as client,
    ):
        with pytest.raises(APIError) as first:
            await client.images.generate("A lighthouse")
        with pytest.raises(APIError) as second:
            await client.images.generate("A lighthouse")

        assert (first.value.outcome, first.value.call.attempts) == ("refused", 2)
        assert (second.value.outcome, second.value.call.attempts) == ("not_sent", 0)
        for caught in (first, second):
            message = str(caught.value)
            assert [message.count(name) for name in ("acc0", "acc1", "withdrawn", "empty")] == [1, 1, 1, 1]
        assert len(one.requests) + len(two.requests) == 2
        assert client.stats().reserved_usd == 0


async def test_one_attempt_is_sent_to_no_other_account():
    """`attempts=1` holds there too."""
    async with (
        RawServer(answer(http(401))) as bad,
        RawServer(answer(OK)) as good,
        AsyncHinow(accounts=accounts(bad, good), retry=RetryPolicy(attempts=1)) as client,
    ):
        with pytest.raises(AuthenticationError):
            await client.images.generate("A lighthouse")

        assert (len(bad.requests), len(good.requests)) == (1, 0)


async def test_a_throttled_account_holds_nobody_while_another_is_free():
    """Nobody waits behind one account's shut gate."""
    async with (
        RawServer(answer(http(429, b"", {"Retry-After": "30"}))) as shut,
        RawServer(answer(OK)) as free,
        AsyncHinow(accounts=accounts(shut, free)) as client,
    ):
        results = await asyncio.gather(*(client.images.generate("A lighthouse") for _ in range(6)))

        assert {result.call.account for result in results} == {"acc1"}
        assert max(result.call.elapsed for result in results) < 2
        assert len(free.requests) == 6


async def test_a_resend_goes_to_the_account_that_may_have_billed():
    """Only there can the idempotency key help."""
    async with (
        RawServer(close_after_request, answer(OK)) as first,
        RawServer(answer(OK)) as second,
        AsyncHinow(
            accounts=accounts(first, second),
            retry=RetryPolicy(wait_initial=0, unknown_outcome="resend"),
        ) as client,
    ):
        result = await client.images.generate("A lighthouse")

        assert (result.call.account, len(first.requests), second.requests) == ("acc0", 2, [])


async def test_accounts_share_the_load_by_their_room():
    """Each keeps its own limit."""
    async with (
        RawServer(answer(OK)) as one,
        RawServer(answer(OK)) as two,
        AsyncHinow(accounts=accounts(one, two, limits=Limits(max_in_flight=2, adaptive=False))) as client,
    ):
        assert client.stats().limit == 4
        await asyncio.gather(*(client.images.generate("A lighthouse") for _ in range(40)))

        assert len(one.requests) + len(two.requests) == 40
        assert min(len(one.requests), len(two.requests)) >= 10
