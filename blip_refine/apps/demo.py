"""`build_app`: a page where people caption their own pictures, see what refinement changed, and take it home."""

from __future__ import annotations

import hmac
import html
import json
import math
import re
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from ..errors import BlipRefineError, ConfigurationError
from ..records import Caption
from ..refine.prompts import AUDIENCES, DETAILS, LANGUAGES, MOST_INSTRUCTION, TONES, Style
from .batch import COLUMNS, count_pictures, read_uploads, write_captions
from .captioners import Captioners, Settings
from .gradio_page import KEPT_SECONDS, VisitorFiles, load_gradio, serve_page
from .pictures import fetch_picture, write_examples

PRESETS = ("accurate", "fast", "creative", "candidates")
MAX_FILE_SIZE = "200mb"
_TOKENS = re.compile(r"\s*(?:\w+|[^\w\s])")
"""A word, or one mark of punctuation, with the space before it."""
STYLE = (Path(__file__).parent / "demo.css").read_text(encoding="utf-8")


def build_app(
    models: Sequence[str] = ("starter",),
    *,
    refiners: Sequence[str] = ("rules", "consensus", "rules>consensus"),
    title: str = "blip_refine",
    description: str | None = None,
    captioners: Captioners | None = None,
) -> Any:
    """The page.

    Args:
        models (`Sequence[str]`, defaults to `("starter",)`): Folders, model ids of the Hub, or "starter". The first is
            the page's own; with more, they can be compared.
        refiners (`Sequence[str]`): Who can be asked to refine; see [`load_refiner`].
        title (`str`, defaults to `"blip_refine"`): Above the page.
        description (`str`, *optional*): Below the title, as plain text.
        captioners (`Captioners`, *optional*): What answers, in place of `models` and `refiners`.

    Returns:
        [`gradio.Blocks`]: `.launch()` serves it; see [`launch_app`].

    Raises:
        MissingExtraError: Gradio is not installed.
        RefinerError, ModelError: A refiner does not answer, or its model cannot be loaded.
    """
    gr = load_gradio()
    desk = captioners or Captioners(models, refiners)
    desk.check_refiners()
    files = VisitorFiles()
    # What was uploaded, and Gradio's copies of what can be downloaded, go after the same time.
    with gr.Blocks(
        title=title, analytics_enabled=False, fill_width=True, delete_cache=(KEPT_SECONDS // 4, KEPT_SECONDS)
    ) as page:
        page.visitor_files = files  # It lives as long as the page does.
        examples = write_examples(files.root)
        gr.Markdown(f"# {html.escape(title)}\n{html.escape(description or _describe(desk.models))}")
        settings = _settings_panel(gr, desk)
        with gr.Tab("Caption"):
            _caption_tab(gr, desk, settings, examples, files)
        with gr.Tab("Many pictures"):
            _batch_tab(gr, desk, settings, files)
        with gr.Tab("Compare"):
            _compare_tab(gr, desk, settings, examples)
    page.queue(max_size=64, default_concurrency_limit=4)
    return page


def launch_app(
    page: Any,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    password: str | None = None,
    open_browser: bool = False,
    block: bool = True,
) -> str:
    """Serve the page.

    Args:
        page ([`gradio.Blocks`]): What [`build_app`] made.
        host (`str`, defaults to `"127.0.0.1"`): This machine alone; `"0.0.0.0"` for everyone who can reach it.
        port (`int`, *optional*): By default the first free one from 7860 on.
        password (`str`, *optional*): Asked for with any user name.
        open_browser (`bool`, defaults to `False`): Whether to open the page.
        block (`bool`, defaults to `True`): Whether to serve until Ctrl-C.

    Returns:
        `str`: The address of the page.

    Raises:
        ConfigurationError: The port is taken.
    """

    def check(_user: str, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (password or "").encode())

    return serve_page(
        page,
        css=STYLE,
        host=host,
        port=port,
        open_browser=open_browser,
        block=block,
        auth=check if password else None,
        max_file_size=MAX_FILE_SIZE,
    )


def _describe(models: Sequence[str]) -> str:
    return f"Captions by {', '.join(map(_short_name, models))}. Pictures stay on the machine that serves this page."


def _short_name(model: str) -> str:
    """A folder by its last part: where it lies is nobody's business."""
    return Path(model).name if Path(model).is_dir() else model


def said_plainly(action: Callable) -> Callable:
    """An action of the page whose refusals are shown to the visitor as text, not as a stack trace."""

    @wraps(action)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return action(*arguments, **options)
        except BlipRefineError as error:
            # Gradio shows messages as HTML, and a message may quote the name of an uploaded file.
            raise load_gradio().Error(html.escape(str(error)), print_exception=False) from error

    return wrapped


# ---- settings ----


def _settings_panel(gr: Any, desk: Captioners) -> list[Any]:
    """Decoding and style; the components in the order of `read_settings`."""
    with gr.Accordion("Decoding and style", open=False, elem_id="settings"):
        with gr.Row():
            decoding = gr.Dropdown(list(PRESETS), value="candidates", label="Decoding", elem_id="decoding")
            beams = gr.Slider(1, 10, value=5, step=1, label="Beams", info="of the preset “accurate”")
            tokens = gr.Slider(5, 60, value=30, step=1, label="Longest caption, in tokens")
        prompt = gr.Textbox(
            "", label="Begins with", placeholder="a photo of", info="Empty: the model's own prompt", max_lines=1,
            elem_id="prompt",
        )  # fmt: skip
        with gr.Row():
            value = "rules>consensus" if "rules>consensus" in desk.refiners else desk.refiners[0]
            refiner = gr.Dropdown(list(desk.refiners), value=value, label="Refiner", elem_id="refiner")
            tone = gr.Dropdown(list(TONES), value="neutral", label="Tone")
            detail = gr.Dropdown(list(DETAILS), value="normal", label="Detail")
        with gr.Row():
            audience = gr.Dropdown(list(AUDIENCES), value="general", label="Audience", elem_id="audience")
            language = gr.Dropdown([(name, key) for key, name in LANGUAGES.items()], value="en", label="Language")
            words = gr.Number(0, label="At most so many words", info="0: no limit", minimum=0, precision=0)
        instruction = gr.Textbox(
            "", label="Instruction", placeholder="Name the colours first.", max_lines=3, max_length=MOST_INSTRUCTION,
            info="What the language model is told besides; captions are still held to the draft",
            visible=desk.takes_instruction(value), elem_id="instruction",
        )  # fmt: skip
        gr.Markdown("Tone, detail and language need a refiner with a language model.", elem_classes="note")

        def show_instruction(name: str) -> Any:
            # What is not shown must not act: it is emptied as well.
            return gr.update(visible=True) if desk.takes_instruction(name) else gr.update(value="", visible=False)

        refiner.change(show_instruction, refiner, instruction, api_name=False)
    return [decoding, beams, tokens, prompt, refiner, tone, detail, audience, language, words, instruction]


def read_settings(
    decoding: str, beams: float, tokens: float, prompt: str, refiner: str, tone: str, detail: str, audience: str,
    language: str, words: float | None, instruction: str | None = None,
) -> Settings:  # fmt: skip
    """The settings that the panel shows."""
    style = Style(
        tone=tone, detail=detail, audience=audience, language=language, max_words=int(words) if words else None
    )
    told = (instruction or "").strip() or None
    return Settings(decoding, int(beams), int(tokens), prompt or None, refiner, style, told)


# ---- one picture ----


def _caption_tab(gr: Any, desk: Captioners, settings: list[Any], examples: list[str], files: VisitorFiles) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            picture = _picture_input(gr, "picture")
            with gr.Row():
                url = gr.Textbox(
                    label="or its address", placeholder="https://...", max_lines=1, elem_id="url", scale=4
                )
                fetch = gr.Button("Fetch", elem_id="fetch", scale=1, min_width=80)
            button = gr.Button("Caption", variant="primary", elem_id="caption-button")
            gr.Examples(examples, picture, label="Pictures at hand", examples_per_page=6)
        with gr.Column(min_width=300):
            caption = gr.Textbox(label="Caption", lines=2, interactive=False, elem_id="caption", buttons=["copy"])
            changes = gr.HighlightedText(
                label="What refinement changed",
                color_map={"taken out": "red", "put in": "green"},
                combine_adjacent=True,
                show_legend=True,
                show_inline_category=False,
                elem_id="changes",
            )
            note = gr.Textbox(label="How sure", interactive=False, lines=1, elem_id="confidence")
            candidates = gr.Dataframe(
                headers=["", "candidate", "how sure"],
                datatype=["number", "str", "str"],
                label="Candidates",
                interactive=False,
                wrap=True,
                elem_id="candidates",
                column_widths=["12%", "60%", "28%"],
            )
            download = gr.DownloadButton("Download as JSON", interactive=False, elem_id="download")

    @said_plainly
    def answer(image: Any, *values: Any) -> tuple[Any, ...]:
        if image is None:
            raise ConfigurationError("There is no picture yet: upload, paste or take one, or give its address.")
        wanted = read_settings(*values)
        model = desk.models[0]
        found = desk.caption(image, model, wanted)
        file = write_answer(found, model, wanted, files.new_folder())
        shown = mark_changes(found.draft, found.text)
        return (
            found.text,
            shown,
            describe_confidence(found),
            list_candidates(found),
            gr.update(value=file, interactive=True),
        )

    outputs = [caption, changes, note, candidates, download]
    button.click(answer, [picture, *settings], outputs, api_name="caption")
    fetch.click(said_plainly(fetch_picture), url, picture, api_name=False)
    url.submit(said_plainly(fetch_picture), url, picture, api_name=False)


def _picture_input(gr: Any, name: str) -> Any:
    return gr.Image(
        label="Picture", type="pil", sources=["upload", "clipboard", "webcam"], height=320, elem_id=name,
        buttons=["fullscreen"], image_mode="RGB",
    )  # fmt: skip


def mark_changes(draft: str, text: str) -> list[tuple[str, str | None]]:
    """The draft and the caption in one line: words taken out, words put in, words kept.

    Args:
        draft (`str`): What the captioner said.
        text (`str`): The caption to use.

    Returns:
        `list[tuple[str, str | None]]`: Pieces with "taken out", "put in" or `None`.
    """
    import difflib

    old, new = _TOKENS.findall(draft), _TOKENS.findall(text)
    matcher = difflib.SequenceMatcher(
        a=[token.strip() for token in old], b=[token.strip() for token in new], autojunk=False
    )
    marked: list[tuple[str, str | None]] = []
    for tag, a_start, a_end, b_start, b_end in matcher.get_opcodes():
        if tag == "equal":
            marked.append(("".join(new[b_start:b_end]), None))
            continue
        if a_end > a_start:
            marked.append(("".join(old[a_start:a_end]), "taken out"))
        if b_end > b_start:
            marked.append(("".join(new[b_start:b_end]), "put in"))
    return marked


def describe_confidence(caption: Caption) -> str:
    """Confidence and what became of refinement, in words."""
    parts = []
    if caption.confidence is not None:
        parts.append(f"log-probability a token {_sure(caption.confidence)}")
    if caption.refined:
        parts.append("refined" if caption.text != caption.draft else "looked over, nothing to change")
    elif caption.reason:
        parts.append(f"draft kept: {caption.reason}")
    return "; ".join(parts)


def _sure(log_probability: float) -> str:
    """A mean log-probability of tokens, and the probability that it is of each on average."""
    return f"{log_probability:.2f} ({100 * math.exp(log_probability):.0f} %)"


def list_candidates(caption: Caption) -> list[list[Any]]:
    """The rows of the table of candidates: number, text, and how sure the captioner is of it, where that is known."""
    known = caption.candidate_confidences
    sure = (
        [_sure(value) for value in known] if len(known) == len(caption.candidates) else [""] * len(caption.candidates)
    )
    return [[place, *row] for place, row in enumerate(zip(caption.candidates, sure, strict=True), 1)]


def write_answer(caption: Caption, model: str, settings: Settings, folder: Path) -> str:
    """The caption with all that is known of it, as a JSON file for the visitor, in a folder of its own."""
    row = caption.to_dict()
    row.pop("image_id")
    row |= {"model": _short_name(model), "decoding": settings.decoding, "refiner": settings.refiner}
    path = folder / "caption.json"
    path.write_text(json.dumps(row, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return str(path)


# ---- many pictures ----


def _batch_tab(gr: Any, desk: Captioners, settings: list[Any], kept: VisitorFiles) -> None:
    gr.Markdown(
        "Pictures, a whole folder, or a zip archive of pictures; the captions come back as JSON Lines and CSV."
    )
    with gr.Row(equal_height=False):
        files = gr.File(
            label="Pictures or a zip archive", file_count="multiple", file_types=["image", ".zip"], elem_id="files",
            height=160,
        )  # fmt: skip
        folder = gr.File(label="or a folder", file_count="directory", elem_id="folder", height=160)
    button = gr.Button("Caption all", variant="primary", elem_id="batch-button")
    summary = gr.Textbox(label="Done", interactive=False, elem_id="batch-summary")
    table = gr.Dataframe(
        headers=list(COLUMNS[:2]), datatype="str", interactive=False, wrap=True, elem_id="batch-table"
    )
    with gr.Row():
        lines = gr.DownloadButton("Download JSON Lines", interactive=False, elem_id="batch-jsonl")
        sheet = gr.DownloadButton("Download CSV", interactive=False, elem_id="batch-csv")
    progress = gr.Progress()

    @said_plainly
    def run(chosen: list[str] | None, in_folder: list[str] | None, *values: Any, progress: Any = progress):
        paths = [*(chosen or []), *(in_folder or [])]
        total = count_pictures(paths)
        if not total:
            raise ConfigurationError("There is no picture in what was sent.")
        wanted, captions = read_settings(*values), []
        for found in desk.stream(read_uploads(paths), desk.models[0], wanted):
            captions.append(found)
            progress((len(captions), total), unit="pictures")
        failed = sum(caption.error is not None for caption in captions)
        done = len(captions) - failed
        text = f"{done} picture{'' if done == 1 else 's'} captioned"
        text += f", {failed} could not be read" if failed else ""
        jsonl, csv_file = write_captions(captions, kept.new_folder())
        rows = [[caption.image_id, caption.error or caption.text] for caption in captions]
        ready = [gr.update(value=str(path), interactive=True) for path in (jsonl, csv_file)]
        return text, rows, *ready

    button.click(run, [files, folder, *settings], [summary, table, lines, sheet], api_name="caption_many")


# ---- two models ----


def _compare_tab(gr: Any, desk: Captioners, settings: list[Any], examples: list[str]) -> None:
    names = [(_short_name(model), model) for model in desk.models]
    picture = _picture_input(gr, "compare-picture")
    gr.Examples(examples, picture, label="Pictures at hand", examples_per_page=6)
    choices, outputs = [], []
    with gr.Row(equal_height=False):
        for side, preset in (("left", PRESETS[0]), ("right", PRESETS[1] if len(names) == 1 else PRESETS[0])):
            with gr.Column(min_width=280):
                model = desk.models[0] if side == "left" else desk.models[-1]
                choices.append(gr.Dropdown(names, value=model, label="Model", elem_id=f"{side}-model"))
                choices.append(gr.Dropdown(list(PRESETS), value=preset, label="Decoding", elem_id=f"{side}-decoding"))
                outputs.append(gr.Textbox(label="Draft", interactive=False, lines=2, elem_id=f"{side}-draft"))
                outputs.append(gr.Textbox(label="Caption", interactive=False, lines=2, elem_id=f"{side}-caption"))
                outputs.append(gr.Textbox(label="How sure", interactive=False, elem_id=f"{side}-confidence"))
    button = gr.Button("Caption with both", variant="primary", elem_id="compare-button")

    @said_plainly
    def both(image: Any, left: str, left_decoding: str, right: str, right_decoding: str, *values: Any) -> list[str]:
        if image is None:
            raise ConfigurationError("There is no picture yet: upload, paste or take one.")
        shown = []
        for model, decoding in ((left, left_decoding), (right, right_decoding)):
            found = desk.caption(image, model, read_settings(decoding, *values[1:]))
            shown += [found.draft, found.text, describe_confidence(found)]
        return shown

    button.click(both, [picture, *choices, *settings], outputs, api_name="compare")
