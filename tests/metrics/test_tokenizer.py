from __future__ import annotations

import pytest

from blip_refine.metrics.tokenizer import tokenize

TREEBANK = [
    ("A man's dog can't swim.", "a man 's dog ca n't swim"),
    ("I cannot see; they're gonna (maybe) go!", "i can not see they 're gon na -lrb- maybe -rrb- go"),
    ("The dogs' \"quoted\" ball, 'single' too", "the dogs quoted ball single too"),
    ("A well-known T-shirt and/or a state-of-the-art hat", "a well-known t-shirt and/or a state-of-the-art hat"),
    ("Dr. Smith on St. Mark Ave. at 10:30am", "dr. smith on st. mark ave. at 10:30 am"),
    ("It costs $5.00 or £3 or 50¢ or €2", "it costs $ 5.00 or # 3 or 50 cents or $ 2"),
    ("Turn 22 3/4 or 1 1/2 inches", "turn 22\u00a03/4 or 1\u00a01/2 inches"),
    ("1½ cups", "1 1/2 cups"),
    ("No. 5 of 1,000 -- 3.5%", "no. 5 of 1,000 3.5 %"),
    ("The answer is no.", "the answer is no"),
    ("rock 'n' roll, 'til the '90s; get 'em", "rock 'n' roll 'til the '90s get 'em"),
    ("an AT&T sign, m&ms, R&amp;B", "an at&t sign m & ms r&b"),
    ("plan B. The letter B. is here", "plan b the letter b. is here"),
    ("See http://example.com/a?b=c. Mail me@example.org #sunset @home", None),
    ("O'Brien's hors d'oeuvres at Dunkin' Donuts", "o'brien 's hors d'oeuvres at dunkin' donuts"),
    ("wow!! really?! yes...", "wow !! really ?! yes"),
    ("a [bracketed] {set}", "a -lsb- bracketed -rsb- -lcb- set -rcb-"),
    ("behind it., in the U.S. and T.V.", "behind it. in the u.s. and t.v."),
    ("C++ :-) <b>bold</b>", "c++ :--rrb- <b> bold </b>"),
    ("“curly” it’s — dashed – text… done", "curly it 's dashed text done"),
    ("Corner of S. 2nd and E. 89th St.", "corner of s. 2nd and e. 89th st."),
]


@pytest.mark.parametrize(("caption", "tokens"), [row for row in TREEBANK if row[1] is not None])
def test_treebank_rules(caption, tokens):
    assert tokenize(caption) == tokens


def test_addresses_handles_and_hashtags_stay_whole():
    tokens = tokenize("See http://example.com/a?b=c. Mail me@example.org #sunset @home").split()
    assert tokens == ["see", "http://example.com/a?b=c", "mail", "me@example.org", "#sunset", "@home"]


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\t", "\u00a0"])
def test_line_separators_are_spaces(separator):
    assert tokenize(f"a dog{separator}runs fast{separator}") == "a dog runs fast"


@pytest.mark.parametrize("text", ["", "   ", "...", '"!"', "-", "\u200b", "\n", "'"])
def test_nothing_but_punctuation_is_empty(text):
    assert tokenize(text) == ""


def test_what_is_not_text_is_left_out():
    assert tokenize("a dog \U0001f600\ufe0f runs\u200b in the \u2764 park") == "a dog runs in the \u2764 park"
    assert tokenize("a caf\u00e9 in S\u00e3o Paulo, cafe\u0301") == "a caf\u00e9 in s\u00e3o paulo cafe\u0301"


def test_each_caption_stands_by_itself():
    # Before a caption that begins with "A" the Java tool ends this one in "u", before "a" in "u.".
    assert tokenize("People try the new Wii U.").split()[-1] == "u."


def test_hostile_captions_take_no_longer_than_their_length():
    import time

    for text in (
        "a" * 20_000,
        "a.b" * 7_000,
        "-" * 20_000,
        "a-" * 10_000,
        "'" * 20_000,
        "<a " * 7_000,
        "1/2 " * 5_000,
    ):
        begun = time.process_time()
        tokenize(text)
        # Quadratic behaviour would take minutes; this is no measurement of speed.
        assert time.process_time() - begun < 30


def test_tokenizing_tokens_changes_little():
    assert tokenize(tokenize("A man's dog can't swim.")) == "a man 's dog ca n't swim"
