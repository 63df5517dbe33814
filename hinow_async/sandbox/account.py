"""The account behind the key: its limits, its balance, and what it was charged."""

import time
from decimal import Decimal

from hinow_async.sandbox.answers import Refused
from hinow_async.sandbox.behaviour import Behaviour
from hinow_async.sandbox.billing import Billing
from hinow_async.sandbox.limits import Limits, retry_after
from hinow_async.sandbox.orders import Order

_ENOUGH = Decimal(1_000_000)  # dollars that an account without a set balance shows at the start
LIMITING = frozenset({"requests_per_minute", "images_per_minute", "limit_kind", "burst"})


class Account:
    """Admits requests or refuses them, exactly."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.billing = Billing()
        self._behaviour = behaviour
        self._limits = Limits(behaviour, time.monotonic())

    def follow(self, behaviour: Behaviour, *, limits_anew: bool) -> None:
        """From now on by these options; the limits per minute go on counting, or start anew."""
        if limits_anew:
            self._limits = Limits(behaviour, time.monotonic())
        self._behaviour = behaviour

    @property
    def balance(self) -> Decimal:
        """Dollars that are left."""
        start = self._behaviour.balance
        return (_ENOUGH if start is None else start) - self.billing.usd

    def price(self, order: Order) -> Decimal:
        """What *order* costs, in dollars."""
        return (
            self._behaviour.price_per_image * order.count if order.count else self._behaviour.price_per_chat
        )

    def admit(self, order: Order) -> None:
        """Let *order* through and charge the limits per minute.

        Raises:
            Refused: 402 without the money for it, 429 without the room.
        """
        if self._behaviour.balance is not None and (self.balance <= 0 or self.balance < self.price(order)):
            raise Refused(402, "the balance is too low for this request", "insufficient_balance")
        most = self._behaviour.max_in_flight
        if most is not None and self.billing.in_flight >= most:
            raise self._throttled(f"more than {most} requests in flight", None)
        wait = self._limits.admit(time.monotonic(), order.count)
        if wait > 0:
            raise self._throttled("more requests or images than the limit per minute", wait)

    def _throttled(self, message: str, wait: float | None) -> Refused:
        header = retry_after(self._behaviour, wait)
        return Refused(429, message, headers=() if header is None else (("Retry-After", header),))

    def bill(self, order: Order, idempotency_key: str | None) -> None:
        """Charge the price of *order*."""
        self.billing.charge(
            prompt=order.prompt, images=order.count, usd=self.price(order), idempotency_key=idempotency_key
        )
