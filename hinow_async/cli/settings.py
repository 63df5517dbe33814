"""What the options say that many commands have, as the values of the library."""

from __future__ import annotations

from typing import Any

import attrs

from hinow_async._options import Budget, Limits


@attrs.frozen(kw_only=True)
class Settings:
    """What the options say that many commands have."""

    sandbox: bool = False
    max_in_flight: int | None = None
    requests_per_minute: float | None = None
    images_per_minute: float | None = None
    max_usd: float | None = None
    usd_per_image: float | None = None
    usd_per_chat: float | None = None

    @property
    def limits(self) -> Limits:
        """The limits of the account."""
        most: dict[str, Any] = {} if self.max_in_flight is None else {"max_in_flight": self.max_in_flight}
        return Limits(
            requests_per_minute=self.requests_per_minute, images_per_minute=self.images_per_minute, **most
        )

    @property
    def budget(self) -> Budget | None:
        """The budget, if there is one."""
        if self.max_usd is None:
            return None
        return Budget(self.max_usd, usd_per_image=self.usd_per_image, usd_per_chat=self.usd_per_chat)
