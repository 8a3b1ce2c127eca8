"""What answers behind a page: only the models and refiners that it was given, and several visitors at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from blip_refine.apps.captioners import Captioners, Settings
from blip_refine.apps.demo import describe_confidence, mark_changes, read_settings, said_plainly
from blip_refine.apps.pictures import fetch_picture, write_examples
from blip_refine.errors import BlipRefineError, ConfigurationError, ImageDecodeError
from blip_refine.records import Caption
from blip_refine.refine.prompts import Style

from ..refine.server import serving


@pytest.fixture(scope="module")
def desk() -> Captioners:
    return Captioners(["starter"])


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> list[str]:
    return write_examples(tmp_path_factory.mktemp("examples"))


def test_a_caption_with_its_draft_and_candidates(desk, examples):
    found = desk.caption(examples[0], "starter", Settings("candidates", refiner="rules"))
    assert found.text and found.refined and found.text[0].isupper()
    assert len(found.candidates) == 5 and found.candidates[0] == found.draft and found.confidence < 0
    plain = desk.caption(examples[0], "starter", Settings("candidates", refiner="none"))
    assert plain.text == plain.draft == found.draft and not plain.refined


def test_decoding_and_prompt_are_followed(desk, examples):
    prompted = desk.caption(examples[0], "starter", Settings("fast", prompt="there is", refiner="none"))
    assert prompted.text.startswith("there is")
    short = desk.caption(examples[0], "starter", Settings("accurate", max_new_tokens=2, refiner="none"))
    assert len(short.text.split()) <= 2
    assert Settings("accurate", num_beams=2).decoding_options().num_beams == 2
    assert Settings("candidates", num_beams=2).decoding_options().num_beams == 10


def test_style_reaches_the_refiner(desk, examples):
    style = Style(audience="catalogue")
    with_stop = desk.caption(examples[0], "starter", Settings("fast", refiner="rules"))
    without = desk.caption(examples[0], "starter", Settings("fast", refiner="rules", style=style))
    assert with_stop.text == without.text + "."


def test_visitors_at_once_get_their_own_answers(desk, examples):
    alone = [desk.caption(path, "starter", Settings("fast", refiner="rules")).text for path in examples]
    assert len(set(alone)) > 2
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(desk.caption, path, "starter", Settings("fast", refiner="rules")) for path in examples * 4]
    assert [job.result().text for job in jobs] == alone * 4


def test_only_what_the_page_offers(desk, examples, tmp_path):
    with pytest.raises(ConfigurationError, match="has no model '/etc'"):
        desk.caption(examples[0], "/etc", Settings())
    with pytest.raises(ConfigurationError, match="has no refiner 'openai:x'"):
        desk.caption(examples[0], "starter", Settings(refiner="openai:x"))
    with pytest.raises(ConfigurationError, match="at least one model"):
        Captioners([])


def test_an_unreadable_picture_is_said_or_recorded(desk, examples, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(BlipRefineError, match="broken.png"):
        desk.caption(str(broken), "starter", Settings("fast"))
    good, bad, again = desk.stream([examples[0], str(broken), examples[1]], "starter", Settings("fast"))
    assert good.text and again.text and good.text != again.text
    assert bad.error and "broken.png" in bad.error


@pytest.mark.parametrize(
    "address", ["/etc/passwd", "file:///etc/passwd", "data:image/png;base64,AAAA", "", "ftp://x/y"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(ConfigurationError, match="begins with http"):
        fetch_picture(address)


def test_private_addresses_are_not_fetched():
    with pytest.raises(ImageDecodeError):
        fetch_picture("http://127.0.0.1:9/x.png")
    with pytest.raises(ImageDecodeError):
        fetch_picture("http://169.254.169.254/latest/meta-data")


def test_changes_are_marked():
    marked = mark_changes("a dog dog on a beach", "A dog on a beach.")
    assert "".join(text for text, kind in marked if kind != "taken out") == "A dog on a beach."
    changed = [(text.strip(), kind) for text, kind in marked if kind]
    assert changed == [("a dog", "taken out"), ("A", "put in"), (".", "put in")]
    assert mark_changes("a dog", "a dog") == [("a dog", None)]
    assert mark_changes("", "a dog") == [("a dog", "put in")]


def test_confidence_in_words():
    said = describe_confidence(Caption("a", "a", (), -0.6931, False, reason="too long"))
    assert "50 %" in said and "draft kept: too long" in said
    assert describe_confidence(Caption("a", "a", (), None, True)) == "looked over, nothing to change"


def test_settings_of_the_panel():
    settings = read_settings("fast", 3, 12.0, None, "rules", "formal", "brief", "alt-text", "de", 9)
    assert settings == Settings(
        "fast", 3, 12, None, "rules", Style("formal", "brief", "descriptive", 9, "alt-text", "de")
    )


def test_refusals_are_shown_as_text():
    gradio = pytest.importorskip("gradio")

    @said_plainly
    def refuse():
        raise ConfigurationError("no <img src=x onerror=alert(1)> here")

    with pytest.raises(gradio.Error) as shown:
        refuse()
    assert "<" not in str(shown.value.message) and "&lt;img" in shown.value.message


def test_a_visitors_instruction_goes_to_the_language_model_alone(examples):
    from ..refine.server import serving

    with serving() as model:
        options = {"base_url": model.url, "instruction": "Never name people."}
        desk = Captioners(["starter"], ["rules", "rules>openai:m"], refiner_options=options)
        assert [desk.takes_instruction(name) for name in desk.refiners] == [False, True, False]
        for told in ("Be brief.", None):
            settings = read_settings(
                "fast", 1, 12, "", "rules>openai:m", "neutral", "normal", "general", "en", 0, told
            )
            assert desk.caption(examples[0], "starter", settings).refined
        assert len(desk._refiners) == 1, "an instruction makes no refiner that stays"
    systems = [call.body["messages"][0]["content"] for call in model.calls]
    assert all("Never name people." in text for text in systems)
    assert ["Be brief." in text for text in systems] == [True, False]
    for name in ("rules", "none"):
        with pytest.raises(ConfigurationError, match="asks no language model"):
            desk.caption(examples[0], "starter", Settings("fast", refiner=name, instruction="Be brief."))
    with pytest.raises(ConfigurationError, match="cannot act"):
        Captioners(["starter"], ["rules"], refiner_options={"instruction": "x"})


def test_the_page_shows_the_instruction_where_a_language_model_refines():
    pytest.importorskip("gradio")
    from blip_refine.apps.demo import build_app

    def shown(desk):
        page = build_app(captioners=desk)
        page.visitor_files.close() if hasattr(page.visitor_files, "close") else None
        [field] = [one for one in page.blocks.values() if getattr(one, "elem_id", None) == "instruction"]
        return field.visible

    with serving() as model:
        assert shown(Captioners(["starter"], ["openai:m"], refiner_options={"base_url": model.url})) is True
    assert shown(Captioners(["starter"], ["rules"])) is False
