"""How much a run may use: tokens and dollars, counted before a call is made and corrected when it is back."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigurationError


@dataclass
class Budget:
    """What may be spent, and what has been.

    A call is only let through if, with everything that is under way, the worst it can cost still fits. So a run stops
    a little before its limit, never after it, as long as the server keeps to the longest answer it was asked for.

    Args:
        max_tokens (`int`, *optional*): The most tokens, read and written.
        max_cost (`float`, *optional*): The most US dollars.
        prices (`tuple[float, float]`, *optional*): US dollars for a million tokens read, and for a million written.

    Raises:
        ConfigurationError: A limit is not positive, or `max_cost` is given without `prices`.
    """

    max_tokens: int | None = None
    max_cost: float | None = None
    prices: tuple[float, float] | None = None
    tokens: int = 0
    cost: float = 0.0
    calls: int = 0
    _tokens_under_way: int = 0
    _cost_under_way: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_cost"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"The budget's `{name}` must be more than 0, not {value}.")
        two = isinstance(self.prices, (tuple, list)) and len(self.prices) == 2
        if self.prices is not None and not (
            two and all(isinstance(one, (int, float)) and one >= 0 for one in self.prices)
        ):
            raise ConfigurationError("`prices` are two numbers: dollars for a million tokens read, and written.")
        if self.max_cost is not None and self.prices is None:
            raise ConfigurationError(
                "`max_cost` needs `prices`: dollars for a million tokens read and written, from your provider's list."
            )

    @property
    def under_way(self) -> bool:
        """Whether calls that may give back some of what they set aside are under way."""
        return self._tokens_under_way > 0

    def price(self, read: int, written: int) -> float | None:
        """What so many tokens cost, in dollars; `None` where no prices are known."""
        if self.prices is None:
            return None
        return (read * self.prices[0] + written * self.prices[1]) / 1e6

    def reserve(self, read: int, written: int) -> str | None:
        """Set aside the worst that a call can cost. Returns why it may not be made, or `None`."""
        tokens, cost = read + written, self.price(read, written) or 0.0
        if self.max_tokens is not None and self.tokens + self._tokens_under_way + tokens > self.max_tokens:
            return f"the budget of {self.max_tokens} tokens is spent ({self.tokens} used)"
        if self.max_cost is not None and self.cost + self._cost_under_way + cost > self.max_cost:
            return f"the budget of ${self.max_cost:g} is spent (${self.cost:.4f} used)"
        self._tokens_under_way += tokens
        self._cost_under_way += cost
        return None

    def release(self, read: int, written: int) -> None:
        """Take back what was set aside."""
        self._tokens_under_way -= read + written
        self._cost_under_way -= self.price(read, written) or 0.0

    def spend(self, read: int, written: int) -> None:
        """Count what a call has cost."""
        self.calls += 1
        self.tokens += read + written
        self.cost += self.price(read, written) or 0.0
