"""What models wrap around a caption comes off; what is no single caption is refused."""

from __future__ import annotations

import pytest

from blip_refine.refine.answers import clean_answer

STRIPPED = [
    "A dog runs.",
    '"A dog runs."',
    "\u201cA dog runs.\u201d",
    "'A dog runs.'",
    "  A dog runs.  \n",
    "Sure! Here is the corrected caption:\n\nA dog runs.",
    'Here is a refined version of the caption: "A dog runs."',
    "Caption: A dog runs.",
    "**Corrected caption:** A dog runs.",
    "Corrected caption (English): A dog runs.",
    "The corrected sentence is: A dog runs.",
    "1. A dog runs.",
    "- A dog runs.",
    "```\nA dog runs.\n```",
    "```text\nA dog runs.\n```",
    "**A dog runs.**",
    "A dog runs.\n\nNote: I corrected the verb.",
    "A dog runs.\n(I changed nothing else.)",
    "<think>What do they want?</think>A dog runs.",
    "<caption>A dog runs.</caption>",
    '{"caption": "A dog runs."}',
    '```json\n{"caption": "A dog runs."}\n```',
    "A dog runs.<|im_end|>",
]


@pytest.mark.parametrize("raw", STRIPPED)
def test_wrappings_come_off(raw):
    assert clean_answer(raw) == ("A dog runs.", None)


@pytest.mark.parametrize("raw", STRIPPED[1:])
def test_strict_refuses_wrappings(raw):
    text, reason = clean_answer(raw, strict=True)
    # White space around the caption is nothing that a model adds.
    assert (text, reason) == ("A dog runs.", None) if raw.strip() == "A dog runs." else (text is None and reason)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("Sure!", "only a preamble"),
        ("Here is the caption:", "only a preamble"),
        ("1. A dog runs.\n2. A cat sits.", "2 captions instead of one"),
        ("A dog runs.\nA dog sits.\nA dog sleeps.", "3 captions instead of one"),
        ("I'm sorry, I can't help with that.", "the model refused"),
        ("I cannot see the image.", "the model refused"),
        ("As an AI language model, I ...", "the model refused"),
        ("Please provide the caption.", "the model refused"),
        ('{"caption": "A do', "broken JSON"),
        ('{"text": "A dog"}', "JSON without a caption"),
        ('{"caption": 3}', "JSON without a caption"),
        ("<think>never ends", "empty"),
    ],
)
def test_what_is_no_single_caption_is_refused(raw, reason):
    text, said = clean_answer(raw)
    assert text is None and reason in said


@pytest.mark.parametrize(
    "text",
    [
        'A sign says "stop" and "go".',
        "A man: a portrait.",
        "The man: a portrait in oil.",
        "A woman's hat on a dog's head.",
        "A clock showing 10:30.",
        "I love NY is written on a shirt.",
        "A dog (brown) runs.",
        "A caption contest poster on a wall.",
    ],
)
def test_a_caption_is_left_alone(text):
    assert clean_answer(text) == (text, None)
