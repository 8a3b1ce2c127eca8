"""The names of captioners that are not ours."""

from __future__ import annotations

import pytest

from blip_refine.captioners import CaptionerSpec, is_other, split_refiner
from blip_refine.errors import BlipRefineError, ConfigurationError
from blip_refine.evaluation.evaluator import parse_systems
from blip_refine.models.captioner import load_captioner


@pytest.mark.parametrize(
    ("text", "kind", "model", "url", "options"),
    [
        ("hf:microsoft/git-base", "hf", "microsoft/git-base", None, {}),
        ("hf:a/b,revision=abc,num_beams=3", "hf", "a/b", None, {"revision": "abc", "num_beams": 3}),
        ("hf:a,b/c,prompt=Say, briefly, what it is", "hf", "a,b/c", None, {"prompt": "Say, briefly, what it is"}),
        ("openai:gpt-4o-mini", "openai", "gpt-4o-mini", None, {}),
        ("openai:Qwen/Q@http://localhost:8000/v1", "openai", "Qwen/Q", "http://localhost:8000/v1", {}),
        ("openai:m@2@https://h/v1,prices=0.15,0.60", "openai", "m@2", "https://h/v1", {"prices": (0.15, 0.6)}),
    ],
)
def test_names_are_taken_apart(text, kind, model, url, options):
    assert is_other(text)
    assert CaptionerSpec.parse(text) == CaptionerSpec(kind, model, url, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf:", "names no model"),
        ("openai:@http://localhost/v1", "names no model"),
        ("hf:a/b,temperature=1", "has no option 'temperature'"),
        ("hf:a/b,num_beams=many", "num_beams='many'"),
        ("openai:m@http://h/v1,prices=cheap", "such as prices=0.15,0.60"),
        ("openai:m@localhost:8000/v1", "must begin with http:// or https://"),
        ("openai:m@ftp://h/v1", "must be an http:// or https:// address"),
    ],
)
def test_bad_names(text, message):
    with pytest.raises(ConfigurationError, match=message):
        CaptionerSpec.parse(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("starter", ("starter", "")),
        ("starter>rules>consensus", ("starter", "rules>consensus")),
        ("hf:f,prompt=<CAPTION>", ("hf:f,prompt=<CAPTION>", "")),
        ("hf:f,prompt=<CAPTION> > rules", ("hf:f,prompt=<CAPTION>", "rules")),
    ],
)
def test_a_task_in_a_prompt_is_no_refiner(text, parts):
    assert split_refiner(text) == parts


def test_systems_may_go_without_a_name():
    systems = parse_systems(["b=hf:microsoft/git-base,num_beams=3", "hf:microsoft/git-large,prompt=a", "runs/x"])
    assert systems == {
        "b": "hf:microsoft/git-base,num_beams=3",
        "git-large": "hf:microsoft/git-large,prompt=a",
        "x": "runs/x",
    }


@pytest.mark.parametrize("name", ["hf:microsoft/git-base", "openai:gpt-4o"])
def test_they_are_not_trained(name):
    with pytest.raises(BlipRefineError, match="cannot be trained") as raised:
        load_captioner(name)
    assert raised.value.exit_code == 2
