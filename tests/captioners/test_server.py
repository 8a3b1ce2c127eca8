"""`openai:MODEL@URL` against a real server on loopback that looks at the pictures."""

from __future__ import annotations

import pytest

from blip_refine.captioners.spec import load_captioner_stream
from blip_refine.errors import CaptionerUnansweredError, ConfigurationError
from blip_refine.models.saved_defaults import with_sampling

from ..refine.server import FakeModel
from .vision_server import picture_in, prompt_in, seeing

KEY = "sk-test-0123456789abcdefSECRET"


def captioner(model, options: str = "", **given):
    return load_captioner_stream(f"openai:m@{model.url}{options}", **given)


def by_name(captions):
    return {one.image_id.rpartition("/")[2].partition(".")[0]: one for one in captions}


def test_pictures_arrive_and_captions_come_back(photos, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with seeing() as model:
        found = by_name(captioner(model, ",prices=1.0,2.0,image_size=40").stream(photos))
    # In quotation marks from the server, which are no part of a caption.
    assert {name: one.text for name, one in found.items()} == {
        "red": "A red picture of 40 by 30.",
        "green": "A green picture of 40 by 27.",
        "blue": "A blue picture of 40 by 24.",
    }
    for one in found.values():
        assert one.tokens == 110 and one.cost == pytest.approx((100 * 1 + 10 * 2) / 1e6)
        assert one.confidence is None and one.error is None
    question, *calls = model.calls
    assert picture_in(question).size == (40, 40)  # one question before the run
    assert len(calls) == 3 and len({call.key for call in calls}) == 3
    for call in calls:
        assert prompt_in(call) == "Describe this image in one short sentence."
        assert call.body["max_tokens"] == 200 and call.body["temperature"] == 0 and "response_format" not in call.body
        assert call.headers["authorization"] == f"Bearer {KEY}"


def test_prompt_tokens_and_facts(photos):
    with seeing() as model:
        asked = captioner(model, ",prompt=What, briefly, is it?,max_new_tokens=12,temperature=0.5")
        assert len(list(asked.stream(photos))) == 3
    assert asked.describe() == {
        "model": "openai:m",
        "server": model.url,
        "prompt": "What, briefly, is it?",
        "decoding": {"max_new_tokens": 12, "temperature": 0.5},
    }
    for call in model.calls[1:]:
        assert prompt_in(call) == "What, briefly, is it?"
        assert call.body["max_tokens"] == 12 and call.body["temperature"] == 0.5


def test_calls_go_out_together(photos):
    with seeing(FakeModel(latency=0.3)) as model:
        assert len(list(captioner(model, ",concurrency=3").stream(photos))) == 3
    assert model.most_at_once == 3


def test_limits_and_faults_are_waited_for(photos):
    def behave(call):
        return {1: "rate_limit", 2: "error", 3: "hang_up"}.get(call.number, "answer")

    with seeing(FakeModel(behave)) as model:
        found = list(captioner(model).stream(photos))
    assert all(one.error is None and one.text for one in found) and len(model.calls) == 1 + 3 + 3


def test_one_failure_is_one_image(photos):
    (photos / "broken.jpg").write_bytes(b"no picture")

    def behave(call):
        from .vision_server import color_of

        return "refusal" if color_of(picture_in(call)) == "green" else "answer"

    with seeing(FakeModel(behave)) as model:
        found = by_name(captioner(model).stream(photos))
    assert found["red"].text and found["blue"].text
    assert found["green"].error == "No caption: the model refused." and found["green"].text == ""
    assert "broken.jpg" in found["broken"].error


def test_an_answer_that_is_cut_off_is_no_caption(photos):
    with seeing(FakeModel(lambda call: "cut_off" if call.number else "answer")) as model:
        found = list(captioner(model).stream(photos))
    assert len(found) == 3 and all("cut off" in one.error and one.error.startswith("No caption: ") for one in found)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("unauthorized", "Incorrect API key"),
        ("unknown_model", "does not exist"),
        ("no_images", "not a multimodal model"),
    ],
)
def test_what_cannot_work_is_found_before_the_run(behaviour, message, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with seeing(FakeModel(lambda call: behaviour)) as model:
        with pytest.raises(ConfigurationError, match=message) as raised:
            captioner(model)
    assert len(model.calls) == 1 and raised.value.exit_code == 2
    assert KEY not in str(raised.value) and "OPENAI_API_KEY" in str(raised.value)


def test_no_server_and_no_key():
    with pytest.raises(ConfigurationError, match="does not answer at http://127.0.0.1:9/v1"):
        load_captioner_stream("openai:m@http://127.0.0.1:9/v1,max_retries=0")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY is not set"):
        load_captioner_stream("openai:gpt-4o-mini")
    with pytest.raises(ConfigurationError, match="MY_KEY is not set"):
        load_captioner_stream("openai:m@http://127.0.0.1:9/v1,api_key_env=MY_KEY")


def test_a_key_that_is_withdrawn_ends_the_run(photos):
    with seeing(FakeModel(lambda call: "unauthorized" if call.number else "answer")) as model:
        asked = captioner(model)
        with pytest.raises(CaptionerUnansweredError, match="openai:m: The server refused") as raised:
            list(asked.stream(photos))
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoding": "fast"}, "--decoding has no effect"),
        ({"changes": {"num_beams": 3}}, "--num-beams has no effect"),
        ({"changes": {"seed": 3}}, "--seed has no effect"),
        ({"abstain_below": -1.0}, "have no confidence"),
        ({"image_gain": True}, "--image-gain has no effect"),
        ({"dtype": "bfloat16"}, "--dtype has no effect"),
        ({"quantization": "4bit"}, "--quantization has no effect"),
        ({"refiner": "consensus"}, "needs 5 captions per image"),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with seeing() as model:
        with pytest.raises(ConfigurationError, match=message):
            captioner(model, **options)
    assert not model.calls


def test_a_flag_that_a_server_does_not_take_is_named_as_it_was_given():
    with pytest.raises(ConfigurationError, match="^--top-p has no effect with the captioner openai:m: its server"):
        load_captioner_stream("openai:m@http://127.0.0.1:9/v1", changes=with_sampling({"top_p": 0.9}))
