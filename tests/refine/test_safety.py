"""Whatever a refiner does, every caption comes back."""

from __future__ import annotations

import threading
import time

import pytest

from blip_refine import RefinedCaption, Refiner, RefineRequest, load_refiner
from blip_refine.errors import ConfigurationError, RefinerError
from blip_refine.refine import CircuitBreaker, Proposal, refine_safely

REQUESTS = [RefineRequest("a dog dog", image_id="1"), RefineRequest("a cat", image_id="2")]


class Bad(Refiner):
    name = "bad"

    def __init__(self, answer):
        super().__init__()
        self.answer, self.calls = answer, 0

    def refine(self, requests):
        self.calls += 1
        return self.answer(list(requests))


def raising(error):
    def answer(requests):
        raise error

    return answer


def kept(results, reason):
    assert [(one.image_id, one.text, one.draft, one.accepted) for one in results] == [
        ("1", "a dog dog", "a dog dog", False),
        ("2", "a cat", "a cat", False),
    ]
    assert all(reason in one.reason for one in results)
    return True


def test_a_good_refiner_passes_through():
    results = refine_safely(load_refiner("rules"), REQUESTS, breaker=CircuitBreaker(), timeout=60)
    assert [one.text for one in results] == ["A dog.", "A cat."]
    assert refine_safely(load_refiner("rules"), []) == []


def swapped(requests):
    return [RefinedCaption(one.draft, one.draft, True, image_id=one.image_id) for one in reversed(requests)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (raising(RefinerError("the key is wrong")), "the key is wrong"),
        (raising(ZeroDivisionError("oops")), "ZeroDivisionError: oops"),
        (raising(MemoryError()), "MemoryError"),
        (lambda requests: [], "0 answers to 2 requests"),
        (lambda requests: swapped(requests) * 2, "4 answers to 2 requests"),
        (swapped, "do not belong to their requests"),
        (
            lambda requests: [RefinedCaption(" ", one.draft, True, image_id=one.image_id) for one in requests],
            "an empty caption",
        ),
        (lambda requests: None, "TypeError"),
    ],
)
def test_a_bad_refiner_costs_no_caption(answer, reason):
    breaker = CircuitBreaker()
    assert kept(refine_safely(Bad(answer), REQUESTS, breaker=breaker), reason)
    assert breaker.total == 1 and reason in breaker.last_problem


def test_a_slow_refiner_is_not_waited_for():
    release = threading.Event()

    def hang(requests):
        release.wait(30)
        return []

    started = time.monotonic()
    assert kept(refine_safely(Bad(hang), REQUESTS, timeout=0.2), "did not answer within 0.2 s")
    assert time.monotonic() - started < 10
    release.set()


def test_stopping_the_program_is_not_a_failure():
    with pytest.raises(KeyboardInterrupt):
        refine_safely(Bad(raising(KeyboardInterrupt())), REQUESTS)


def test_the_circuit_opens_closes_and_says_so():
    refiner = Bad(raising(RefinerError("down")))
    breaker = CircuitBreaker(failures=2, pause=0.3)
    assert breaker.summary() is None
    for _ in range(5):
        assert kept(refine_safely(refiner, REQUESTS, breaker=breaker), "down")
    assert refiner.calls == 2 and breaker.is_open and breaker.skipped == 6
    assert breaker.summary() == (
        "The refiner failed 2 times (last: down), and was left alone after 2 failures in a row: 6 captions kept their "
        "draft without being asked for."
    )
    time.sleep(0.35)
    refine_safely(refiner, REQUESTS, breaker=breaker)
    assert refiner.calls == 3 and breaker.is_open, "one batch is let through, and it failed, too"
    time.sleep(0.35)
    good = load_refiner("rules")
    assert refine_safely(good, REQUESTS, breaker=breaker)[0].accepted and not breaker.is_open


def test_answers_that_all_failed_open_the_circuit_too():
    class Down(Refiner):
        name = "down"

        def propose(self, requests, feedback):
            return [Proposal(None, reason="the server is down")] * len(requests)

    breaker = CircuitBreaker(failures=1)
    refine_safely(Down(), REQUESTS, breaker=breaker)
    assert breaker.is_open and breaker.last_problem == "the server is down"


def test_rejected_answers_are_no_failure():
    class Poet(Refiner):
        name = "poet"

        def propose(self, requests, feedback):
            return [Proposal("A purple elephant.", raw="A purple elephant.")] * len(requests)

    breaker = CircuitBreaker(failures=1)
    results = refine_safely(Poet(guards=True), REQUESTS, breaker=breaker)
    assert not breaker.is_open and not results[0].accepted


@pytest.mark.parametrize("options", [{"failures": 0}, {"pause": -1}])
def test_bad_options(options):
    with pytest.raises(ConfigurationError):
        CircuitBreaker(**options)
