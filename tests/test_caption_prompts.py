"""Prompts of captions: templates that can write values and nothing else, and cutting prompts off."""

from __future__ import annotations

import pytest

from blip_refine.caption_prompts import PromptChoice, PromptTemplate, for_scoring, without_prompt
from blip_refine.errors import ConfigurationError
from blip_refine.records import Caption, CaptionRecord


class Secretive:
    """A value whose attributes no template may reach."""

    secret = "not for others"

    def __str__(self) -> str:
        return "boots"


def test_a_template_writes_values():
    template = PromptTemplate("a photo of {name}, {year}: {{sale}} ")
    assert template.columns == ("name", "year")
    assert template.fill({"name": "red \n boots", "year": 1999}) == "a photo of red boots, 1999: {sale} "
    assert PromptTemplate("{product name} ").fill({"product name": Secretive()}) == "boots "


@pytest.mark.parametrize(
    "text",
    [
        "{name.__class__}", "{name.secret}", "{name[0]}", "{name[secret]}", "{name!r}", "{name:>99999999}", "{}",
        "{0.x}", "{name:{width}}", "{", "a }", "{ }", "no column at all", "",
    ],
)  # fmt: skip
def test_a_template_reaches_nothing_but_columns(text):
    with pytest.raises(ConfigurationError, match="template"):
        PromptTemplate(text)


def test_values_are_not_templates():
    assert PromptTemplate("{name} ").fill({"name": "{secret} {0.__class__}"}) == "{secret} {0.__class__} "


def test_what_is_missing_is_named():
    record = CaptionRecord("1.jpg", ("a boat",), "boat 1", metadata={"place": "Hamburg", "note": " "})
    with pytest.raises(ConfigurationError, match=r"'name', which the image 'boat 1'.*place, note, image_id"):
        PromptTemplate("{name} ").fill_record(record)
    with pytest.raises(ConfigurationError, match="'note', which is empty for the image 'boat 1'"):
        PromptTemplate("{note} ").fill_record(record)
    assert PromptTemplate("{place}, {image_id} ").fill_record(record) == "Hamburg, boat 1 "


def test_captions_are_no_columns():
    record = CaptionRecord("1.jpg", ("the answer",), "1", metadata={})
    for name in ("caption", "captions", "image", "prompt"):
        with pytest.raises(ConfigurationError, match="does not have"):
            PromptTemplate(f"{{{name}}}").fill_record(record)


def test_which_prompt_wins():
    template, columns = PromptTemplate("a {name} "), {"name": "boat"}
    assert PromptChoice("fixed ", template, None).of("1", "own ", columns) == "a boat "
    assert PromptChoice("fixed ", None, template).of("1", "own ", columns) == "own "
    assert PromptChoice("fixed ", None, template).of("1", None, columns) == "a boat "
    assert PromptChoice("fixed ", None, template).of("1", None, {}) == "fixed "
    assert PromptChoice("fixed ").of("1", "", columns) == ""
    with pytest.raises(ConfigurationError):
        PromptChoice("fixed ", template, None).of("1", None, {})


@pytest.mark.parametrize(
    "text, prompt, rest",
    [
        ("a photo showing two dogs", "a photo showing ", "two dogs"),
        ("A  Photo showing two dogs.", "a photo showing", "two dogs."),
        ("two dogs", "a photo showing ", "two dogs"),
        ("a photo of boots, worn", "a photo of boots", ", worn"),
        ("a photo showing", "a photo showing", ""),
        ("two dogs", "", "two dogs"),
        ("two dogs", None, "two dogs"),
    ],
)
def test_cutting_a_prompt_off(text, prompt, rest):
    assert without_prompt(text, prompt) == rest


def test_a_caption_is_scored_without_its_prompt():
    caption = Caption(
        "A photo of a dog.", "a photo of a dog", ("a photo of a dog", "a photo of a cat"), prompt="a photo of"
    )
    scored = for_scoring(caption)
    assert (scored.text, scored.draft, scored.candidates, scored.prompt) == (
        "a dog.",
        "a dog",
        ("a dog", "a cat"),
        None,
    )
    assert Caption.from_dict(caption.to_dict()) == caption
    assert "prompt" not in Caption("a dog", "a dog").to_dict()
