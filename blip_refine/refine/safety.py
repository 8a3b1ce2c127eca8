"""A refiner may fail, hang or lie about how many answers it has: no caption is ever lost to it.

`refine_safely` always gives one result for each request. Where the refiner had nothing to give, the result is the
draft, with the reason. A `CircuitBreaker` stops asking a refiner that keeps failing, and says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from ..errors import BlipRefineError, ConfigurationError, RefinerError, RefinerUnansweredError
from ..records import RefinedCaption, RefineRequest
from .base import Refiner, as_request


class CircuitBreaker:
    """Stops asking after `failures` failures in a row, and tries once more after `pause` seconds.

    Args:
        failures (`int`, defaults to 3): Failed batches in a row after which the circuit opens.
        pause (`float`, defaults to 60): Seconds until one batch is let through again. If that fails, too, the circuit
            stays open for as long again.
    """

    def __init__(self, failures: int = 3, pause: float = 60.0):
        if failures < 1 or pause < 0:
            raise ConfigurationError("A circuit breaker needs at least one failure and a pause that is not negative.")
        self.failures, self.pause = failures, pause
        self.in_a_row = self.total = self.skipped = self.times_opened = 0
        self.last_problem: str | None = None
        self._opened: float | None = None
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether the refiner is being left alone."""
        return self._opened is not None

    def allows(self) -> bool:
        """Whether the next batch may be sent."""
        with self._lock:
            if self._opened is None:
                return True
            if time.monotonic() - self._opened < self.pause:
                return False
            # One batch is let through; until it comes back, the others wait for another pause.
            self._opened = time.monotonic()
            return True

    def succeeded(self) -> None:
        """A batch came back."""
        with self._lock:
            self.in_a_row, self._opened = 0, None

    def failed(self, problem: str) -> None:
        """A batch did not come back."""
        with self._lock:
            self.in_a_row += 1
            self.total += 1
            self.last_problem = problem
            if self.in_a_row >= self.failures:
                if self._opened is None:
                    self.times_opened += 1
                self._opened = time.monotonic()

    def summary(self) -> str | None:
        """One sentence for the end of a run; `None` if nothing failed."""
        if not self.total:
            return None
        text = f"The refiner failed {self.total} times (last: {self.last_problem})"
        if self.times_opened:
            text += f", and was left alone after {self.failures} failures in a row: {self.skipped} captions kept"
            text += " their draft without being asked for"
        return text + "."


def require_working(refiner: Refiner | None) -> None:
    """Find out before a server starts that its refiner cannot work: later, every caption would be an unrefined draft.

    Args:
        refiner (`Refiner`, *optional*): Whose [`Refiner.check`] is called.

    Raises:
        RefinerError: It does not answer.
        ModelError: Its model cannot be loaded.
    """
    try:
        if refiner is not None:
            refiner.check()
    except RefinerUnansweredError as error:
        # Nothing was run and lost: this is a wrong setting, and ends the start with exit code 2.
        raise RefinerError(str(error)) from error


def refine_safely(
    refiner: Refiner,
    requests: Sequence[RefineRequest | str],
    *,
    breaker: CircuitBreaker | None = None,
    timeout: float | None = None,
) -> list[RefinedCaption]:
    """Refine captions, and give the draft back for every one that the refiner did not refine, whatever it did.

    Args:
        refiner (`Refiner`): It may raise, hang or answer too little.
        requests (`Sequence[RefineRequest]`): n requests.
        breaker (`CircuitBreaker`, *optional*): Shared by all batches of a run.
        timeout (`float`, *optional*): Seconds for the whole batch. A slower refiner goes on in its thread, which
            does not keep the process alive; what it answers later is not used (its cache still keeps it).

    Returns:
        `list[RefinedCaption]`: n results, in the order of the requests.
    """
    asked = [as_request(request) for request in requests]
    if breaker is not None and not breaker.allows():
        breaker.skipped += len(asked)
        reason = f"the refiner was left alone after {breaker.failures} failures in a row ({breaker.last_problem})"
        return _drafts(refiner, asked, reason)
    results, problem = _call(refiner, asked, timeout)
    if problem is None:
        problem = _mismatch(asked, results)
    # A refiner that answers each request with "the server is down" has failed, too.
    outcomes = [] if problem is not None else [one for one in results if one.outcome != "kept"]
    silent = bool(outcomes) and all(one.outcome == "unanswered" for one in outcomes)
    if breaker is not None:
        if problem is not None or silent:
            breaker.failed(problem or outcomes[0].reason or "no answer")
        else:
            breaker.succeeded()
    return results if problem is None else _drafts(refiner, asked, problem)


def _call(
    refiner: Refiner, asked: list[RefineRequest], timeout: float | None
) -> tuple[list[RefinedCaption], str | None]:
    """What the refiner returned, and what went wrong."""
    outcome: list[list[RefinedCaption]] = []
    problems: list[str] = []

    def work() -> None:
        try:
            outcome.append(list(refiner.refine(asked)))
        except Exception as error:
            # Not swallowed: it becomes the reason in every record of the batch, and the breaker's last problem.
            plain = isinstance(error, BlipRefineError)
            problems.append(str(error) if plain else f"{type(error).__name__}: {error}")

    if timeout is None:
        work()
    else:
        thread = threading.Thread(target=work, name="blip-refine-refiner", daemon=True)
        thread.start()
        thread.join(timeout)
        if thread.is_alive():
            return [], f"the refiner did not answer within {timeout:g} s"
    return (outcome[0], None) if outcome else ([], problems[0])


def _mismatch(asked: list[RefineRequest], results: list[RefinedCaption]) -> str | None:
    """Why `results` cannot be the answers to `asked`."""
    if len(results) != len(asked):
        return f"the refiner gave {len(results)} answers to {len(asked)} requests"
    for request, result in zip(asked, results, strict=True):
        if result.draft != request.draft or result.image_id != request.image_id:
            return "the refiner's answers do not belong to their requests"
        if not result.text.strip() and request.draft.strip():
            return "the refiner gave an empty caption"
    return None


def _drafts(refiner: Refiner, asked: list[RefineRequest], reason: str) -> list[RefinedCaption]:
    return [
        RefinedCaption(
            text=request.draft,
            draft=request.draft,
            accepted=False,
            answered=False,
            reason=reason,
            refiner=refiner.name,
            image_id=request.image_id,
        )
        for request in asked
    ]
