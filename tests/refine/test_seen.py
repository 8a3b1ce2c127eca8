"""Refiners that see the picture: what they see is support, and a captioner at hand checks it."""

from __future__ import annotations

import logging

import pytest

from blip_refine import CaptionPipeline, RefineRequest, load_refiner
from blip_refine.data.sources.registry import load_source
from blip_refine.refine.grounding import captioner_likelihood
from blip_refine.refine.guards import GroundingGuard, Guards

from .server import FakeModel, serving

pytest.importorskip("openai")
SCENES = load_source("scenes:everyday", split="test")[:6]


@pytest.fixture(scope="module")
def starter():
    return CaptionPipeline.from_pretrained("starter", num_workers=0)


@pytest.fixture(scope="module")
def drafts(starter):
    return [caption.text for caption in starter([record.image for record in SCENES])]


def asked(script, requests, captioner=None, **options):
    with serving(FakeModel(script=script)) as model:
        refiner = load_refiner("openai:m", base_url=model.url, retries=0, concurrency=1, **options)
        if captioner is not None:
            refiner.use_captioner(captioner)
        return refiner.refine(requests)


def test_what_the_model_sees_is_support_and_nothing_else_is(caplog, starter):
    picture = SCENES[0].image
    seen, unseen = RefineRequest("a cat runs on the beach", image=picture), RefineRequest("a cat runs on the beach")
    say = lambda draft: "A dog runs on the beach."  # noqa: E731
    with caplog.at_level(logging.WARNING):
        accepted, held = asked(say, [seen, unseen], send_image=True)
    assert accepted.text == "A dog runs on the beach." and "dog" in held.reason and held.text == unseen.draft
    assert caplog.text.count("accepted unchecked. Give a captioner (--grounding)") == 1
    caplog.clear()
    [blind] = asked(say, [seen])
    assert not blind.accepted and "facts: " in blind.reason, "a picture that was not sent is no support"
    [named] = asked(say, [seen], send_image=True, guards="form,facts")
    assert not named.accepted and "facts: " in named.reason, "guards that were named act as named"
    doubtful = lambda request, captions: [0.0, -9.0]  # noqa: E731
    for names in ("none", "form"):
        [unguarded] = asked(say, [seen], captioner=doubtful, send_image=True, guards=names)
        assert unguarded.accepted, "the captioner at hand is not one of the guards that were named"
    [unguarded] = asked(say, [seen], send_image=True, guards="none")
    assert unguarded.accepted and not caplog.text, "who switched the guards off is not warned"


def test_form_is_checked_of_what_was_seen():
    [result] = asked(
        lambda draft: "The image shows a dog.", [RefineRequest("a cat", image=SCENES[0].image)], send_image=True
    )
    assert not result.accepted and "form: " in result.reason


def test_a_pipelines_own_captioner_checks_what_its_refiner_says_it_sees(starter, drafts, caplog):
    truth = dict(zip(drafts, (record.captions[1] for record in SCENES), strict=True))
    lies = dict(zip(drafts, (record.captions[0] for record in (*SCENES[1:], SCENES[0])), strict=True))
    for script, accepted in ((truth, True), (lies, False)):
        with serving(FakeModel(script=script.__getitem__)) as model:
            refiner = load_refiner("openai:m", base_url=model.url, retries=0, send_image=True)
            pipeline = CaptionPipeline(starter.model, starter.processor, refiner=refiner, num_workers=0)
            captions = pipeline([record.image for record in SCENES])
        assert len(set(drafts)) == len(SCENES)
        assert [caption.refined for caption in captions] == [accepted] * len(SCENES)
        if not accepted:
            assert all(caption.reason.startswith("grounding: ") for caption in captions)
            assert [caption.text for caption in captions] == drafts
    assert "unchecked" not in caplog.text


def test_a_chain_hands_the_captioner_on(starter, drafts):
    request = RefineRequest(drafts[0], image=SCENES[0].image)
    likelihood = captioner_likelihood(starter.model, starter.processor)
    with serving(FakeModel(script=lambda draft: SCENES[1].captions[0])) as model:
        chain = load_refiner("rules") >> load_refiner("openai:m", base_url=model.url, retries=0, send_image=True)
        chain.use_captioner(likelihood)
        assert "grounding: " in chain.refine([request])[0].reason


def test_a_guard_of_ones_own_stands_before_the_captioner_at_hand():
    def strict(request, captions):
        return [0.0, -9.0]

    guards = Guards(grounding=GroundingGuard(strict))
    request = RefineRequest("a cat", image=SCENES[0].image)
    assert guards.check(request, "a dog", seen=True, likelihood=lambda *_: [0.0, 0.0]).startswith("grounding: ")
    assert not guards.lets_sight_pass() and Guards().lets_sight_pass() and not Guards().lets_sight_pass(strict)
    assert not Guards.only("form,facts").lets_sight_pass() and not Guards.only("form").lets_sight_pass()
