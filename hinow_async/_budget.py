"""Money: what a call could cost is reserved before it is sent and settled afterwards.

Sums are exact decimals: a budget of 0.3 holds three times 0.1. Nothing here waits, so that between the
check and the reservation no other call can come.
"""

from __future__ import annotations

import functools
import logging
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from hinow_async._errors import BudgetExceededError, ConfigurationError
from hinow_async._models.images import ImageRequest
from hinow_async._models.known import CARD_PRICES
from hinow_async._options import DEAREST, Budget, Price

if TYPE_CHECKING:
    from hinow_async._models.account import Model
    from hinow_async._models.chat import ChatRequest

_log = logging.getLogger("hinow_async")
_EXACT = Context(prec=60)
_ZERO = Decimal(0)

_PER_REQUEST = frozenset({"per_request", "request", "per request"})


def exact(value: Any) -> Decimal:
    """Take a number as the decimal that its digits say: 0.1 is a tenth."""
    return value if isinstance(value, Decimal) else _of_digits(value)


@functools.lru_cache(maxsize=64, typed=True)
def _of_digits(value: Any) -> Decimal:
    """Read the digits of a number; the same few prices come again and again."""
    return Decimal(str(value))


class Prices:
    """What calls cost: as the caller says, else as the catalogue says, else as the model card says."""

    def __init__(self, budget: Budget | None) -> None:
        self._per_image = budget.usd_per_image if budget else None
        self._per_chat = budget.usd_per_chat if budget else None
        self._catalogue: dict[str, Model] = {}
        self.has_catalogue = False

    def learn(self, models: tuple[Model, ...]) -> None:
        """Take over the catalogue's prices."""
        self._catalogue = {model.id: model for model in models}
        self.has_catalogue = True

    def is_stated(self, request: Any) -> bool:
        """Whether the caller himself named a price for such a request."""
        return (self._per_image if isinstance(request, ImageRequest) else self._per_chat) is not None

    def of(self, request: Any, images: int | None = None) -> Decimal | None:
        """US dollars that *request* could cost; None: nobody knows.

        Args:
            request: An image or a chat request.
            images: Pictures to reckon with; None: as many as were asked for.

        Raises:
            ValueError: the caller's price callable raised, or returned no price.
        """
        if not isinstance(request, ImageRequest):
            return self._of_chat(request)
        count = request.images_asked if images is None else images
        if self._per_image is not None:
            return _EXACT.multiply(_stated(self._per_image, request, "usd_per_image"), count)
        listed = self._listed(request.model)
        if listed is not None:
            total, per_request = listed
            return total if per_request else _EXACT.multiply(total, count)
        card = CARD_PRICES.get(request.model)
        return None if card is None else _EXACT.multiply(card, count)

    def of_delivered(self, request: Any, images: int) -> Decimal | None:
        """Like `of`, for what was delivered: too late for a broken price callable to stop anything."""
        try:
            return self.of(request, images)
        except ValueError as error:
            _log.warning("what was delivered beyond the request could not be priced: %s", error)
            return None

    def _of_chat(self, request: ChatRequest) -> Decimal | None:
        if self._per_chat is not None:
            return _stated(self._per_chat, request, "usd_per_chat")
        listed = self._listed(request.model)
        if listed is not None and listed[1]:
            return listed[0]
        return None

    def _listed(self, model: str) -> tuple[Decimal, bool] | None:
        entry = self._catalogue.get(model)
        if entry is None or entry.cost is None or entry.cost.total is None:
            return None
        if not 0 <= entry.cost.total <= DEAREST:
            return None
        return exact(entry.cost.total), (entry.cost.type or "").lower() in _PER_REQUEST


def _stated(price: Price, request: Any, field: str) -> Decimal:
    if not callable(price):
        return exact(price)
    try:
        value = exact(price(request))
    except Exception as error:
        raise ValueError(f"Budget.{field} raised {type(error).__name__}: {error}") from error
    if not (value.is_finite() and 0 <= value <= DEAREST):
        raise ValueError(f"Budget.{field} must return US dollars from 0 to {DEAREST:,}, not {value}")
    return value


def _option(argument: str) -> str:
    return f"--{argument.replace('_', '-')}"


class Purse:
    """What was spent and what is held for calls under way, against the budget if there is one."""

    def __init__(self, budget: Budget | None) -> None:
        self._most = exact(budget.max_usd) if budget else None
        self._warned = False
        self.spent = _ZERO
        self.reserved = _ZERO
        self.prices = Prices(budget)

    def needs_catalogue(self, request: Any) -> bool:
        """Whether a budget is set and only the catalogue could say what this request costs."""
        return self._most is not None and not (self.prices.has_catalogue or self.prices.is_stated(request))

    def price(self, request: Any) -> Decimal | None:
        """Return what a request could cost; None, where nobody knows and there is no budget.

        Raises:
            ConfigurationError: a budget is set and nobody knows the price.
            ValueError: the caller's price callable is broken.
        """
        price = self.prices.of(request)
        if self._most is None:
            return price
        argument = "usd_per_image" if isinstance(request, ImageRequest) else "usd_per_chat"
        if price is None:
            raise ConfigurationError(
                f"a budget is set, but nobody knows what a call of {request.model} costs:"
                f" say so with Budget({argument}=...), or {_option(argument)} at the command line"
            )
        if not self._warned and not self.prices.is_stated(request):
            self._warned = True
            _log.warning(
                "the budget is kept in estimated dollars (%s for each of %s is not a published price):"
                " set Budget(%s=...), or %s at the command line, to what you pay",
                self.prices.of(request, 1), request.model, argument, _option(argument),
            )  # fmt: skip
        return price

    def reserve(self, amount: Decimal | None) -> None:
        """Hold *amount* US dollars for a call that is about to be sent.

        Raises:
            BudgetExceededError: it could go over the budget; nothing is held.
        """
        if amount is None:
            return
        reserved = _EXACT.add(self.reserved, amount)
        if self._most is not None and _EXACT.add(self.spent, reserved) > self._most:
            left = _EXACT.subtract(_EXACT.subtract(self._most, self.spent), self.reserved)
            raise BudgetExceededError(
                f"the call could cost an estimated ${_plain(amount)}, but of the budget of"
                f" ${_plain(self._most)} only ${_plain(left)} is left (spent ${_plain(self.spent)},"
                f" reserved ${_plain(self.reserved)}): nothing was sent",
                asked=amount, spent=self.spent, reserved=self.reserved, left=left,
            )  # fmt: skip
        self.reserved = reserved

    def give_back(self, amount: Decimal | None) -> None:
        """Release what was held for a call that cost nothing."""
        if amount is not None:
            self.reserved = _EXACT.subtract(self.reserved, amount)

    def spend(self, held: Decimal | None, cost: Decimal | None) -> None:
        """Turn what was held into *cost* US dollars spent."""
        self.give_back(held)
        if cost is not None:
            self.spent = _EXACT.add(self.spent, cost)


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize(_EXACT):f}"
