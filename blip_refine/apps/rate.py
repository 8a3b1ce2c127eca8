"""`build_rating_app`: a page on which people rate or review captions, blind, with the keyboard alone if they like.

The page keeps nothing: who rates and what was shown travel with every answer and are looked up in the study, so the
server may be killed and started again at any moment and raters go on where they were.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BlipRefineError, ConfigurationError
from ..evaluation.human import RatingStudy, RatingTask
from ..report.gallery import picture_uri
from .gradio_page import load_gradio, serve_page
from .rate_forms import FORMS, NAMES, Form

NONE_OF_THEM = "none"
PICTURE_PIXELS = 900
STYLE = (Path(__file__).parent / "rate.css").read_text(encoding="utf-8")
SCRIPTS = [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("rate.js", "review.js")]
"""Of the two kinds of study; each does nothing on a page of the other."""


def build_rating_app(study: RatingStudy, *, tokens: bool = False, preference: bool = False) -> Any:
    """The page.

    Args:
        study (`RatingStudy`): What is rated, or reviewed.
        tokens (`bool`, defaults to `False`): Let in only who has a token ([`RatingStudy.add_rater`]); otherwise a name
            is enough.
        preference (`bool`, defaults to `False`): Also ask which caption is best, where there are several.

    Returns:
        [`gradio.Blocks`]: See [`launch_rating_app`].

    Raises:
        MissingExtraError: Gradio is not installed.
        ConfigurationError: There are more systems than can be shown side by side, or the best caption is asked for in
            a review.
    """
    gr = load_gradio()
    if preference and study.kind == "review":
        raise ConfigurationError("A review does not ask which caption is best: leave out preference.")
    if len(study.systems) > len(NAMES):
        raise ConfigurationError(f"At most {len(NAMES)} systems can be rated; there are {len(study.systems)}.")
    desk = RatingDesk(study, tokens, preference)
    form = desk.form
    slots = range(len(study.systems))
    with gr.Blocks(title=form.title, analytics_enabled=False) as page:
        head = gr.HTML(desk.heading(None), elem_id="head")
        # Who rates and what was shown; the browser sends it back with the answers.
        ticket = gr.Textbox(visible=False)
        with gr.Column(elem_id="enter") as enter:
            asked = "Your token" if tokens else "Your name"
            name = gr.Textbox(label=asked, type="password" if tokens else "text", elem_id="name", autofocus=True)
            start = gr.Button("Begin", variant="primary", elem_id="start")
        with gr.Column(visible=False, elem_id="work") as work:
            with gr.Row():
                with gr.Column(scale=5):
                    picture = gr.HTML(elem_id="picture")
                with gr.Column(scale=6):
                    blocks, texts, answers = [], [], []  # type: ignore[var-annotated]
                    for slot in slots:
                        with gr.Column(elem_classes="slot") as block:
                            texts.append(gr.HTML(elem_classes="caption"))
                            answers += form.components(gr, slot)
                        blocks.append(block)
                    best = gr.Radio([], label="Which caption is best?", elem_classes="question", visible=preference)
                    send = gr.Button("Next picture", variant="primary", elem_id="send")
        outputs = [head, ticket, enter, work, picture, *blocks, *texts, *answers, best]

        def show(task: RatingTask | None, rater: str | None, known: str) -> list[Any]:
            """Everything on the page, for one task; the door where nobody is signed in, the end where all is done."""
            captions = task.captions if task else ()
            best_of = [NAMES[slot] for slot in range(len(captions))] + [NONE_OF_THEM]
            return [
                gr.update(value=desk.heading(rater, task)),
                gr.update(value=desk.ticket(task, known) if task else ""),
                gr.update(visible=rater is None),
                gr.update(visible=task is not None),
                gr.update(value=desk.picture(task)),
                *(gr.update(visible=slot < len(captions)) for slot in slots),
                *(gr.update(value=desk.line(slot, captions[slot]) if slot < len(captions) else "") for slot in slots),
                # Questions of lines that are not shown are hidden too: a keyboard must not end up in them.
                *(update for slot in slots for update in form.fresh(gr, slot < len(captions))),
                gr.update(choices=best_of, value=None, visible=preference and len(captions) > 1),
            ]

        def sign_in(text: str) -> list[Any]:
            try:
                rater = desk.rater(text or "")
            except BlipRefineError as error:
                gr.Warning(str(error))
                return show(None, None, "")
            return show(study.next_task(rater), rater, text)

        def arrive(request: Any) -> list[Any]:
            """A link with a token (or, without tokens, a name) in it needs no door."""
            text = request.query_params.get("token" if tokens else "rater", "")
            return sign_in(text) if text else show(None, None, "")

        # Gradio hands the request to whoever asks for it by this type.
        arrive.__annotations__["request"] = gr.Request

        def submit(known: str, *given: Any) -> list[Any]:
            try:
                task, text = desk.read_ticket(known)
                rater = desk.rater(text)
            except BlipRefineError as error:
                gr.Warning(str(error))
                return show(None, None, "")
            try:
                desk.save(task, rater, given[:-1], given[-1])
            except BlipRefineError as error:
                gr.Warning(str(error))
                return [gr.skip()] * len(outputs)
            return show(study.next_task(rater), rater, text)

        page.load(arrive, None, outputs, api_name=False)
        start.click(sign_in, name, outputs, api_name="sign_in")
        name.submit(sign_in, name, outputs, api_name=False)
        send.click(submit, [ticket, *answers, best], outputs, api_name="submit", concurrency_limit=8)
    page.queue(default_concurrency_limit=8)
    return page


class RatingDesk:
    """What the page does, without the page.

    Args:
        study (`RatingStudy`): What is rated.
        tokens (`bool`): Whether raters are known by a token.
        preference (`bool`): Whether the best caption is asked for.
    """

    def __init__(self, study: RatingStudy, tokens: bool, preference: bool):
        self.study, self.tokens, self.preference = study, tokens, preference
        self.form: Form = FORMS[study.kind]()

    def rater(self, text: str) -> str:
        """Who signs in with `text`.

        Raises:
            ConfigurationError: Nobody has this token, or it is no name.
        """
        if not self.tokens:
            return self.study.sign_in(text)
        rater = self.study.rater_of(text.strip())
        if rater is None:
            raise ConfigurationError("This token is not known. Use the link that you were sent.")
        return rater

    @staticmethod
    def ticket(task: RatingTask, text: str) -> str:
        """What comes back with the answers: the task, and who signed in."""
        return json.dumps([task.task, text])

    @staticmethod
    def read_ticket(ticket: str) -> tuple[int, str]:
        """The task and who signed in.

        Raises:
            ConfigurationError: It is no ticket.
        """
        try:
            task, text = json.loads(ticket)
            return int(task), str(text)
        except (TypeError, ValueError) as error:
            raise ConfigurationError("This page is out of date: load it again.") from error

    def save(self, task: int, rater: str, given: Sequence[Any], best: str | None) -> None:
        """Keep the answers of the lines that were shown.

        Raises:
            DataError: An answer is missing; the message says which.
            ConfigurationError: The best caption was not named.
        """
        known = self.study.captions_of_task(task, rater)
        width = self.form.width
        answers = [self.form.read(given[slot * width : (slot + 1) * width]) for slot in range(known)]
        preferred = None
        if self.preference and known > 1:
            if not best:
                raise ConfigurationError("Say which caption is best, or 'none'.")
            preferred = -1 if best == NONE_OF_THEM else NAMES.index(best)
        self.study.save(task, rater, [scores for scores, _ in answers], preferred, notes=[note for _, note in answers])

    def heading(self, rater: str | None, task: RatingTask | None = None) -> str:
        """The line above the page, with how far the rater is."""
        if rater is None:
            return f"<h1>{self.form.title}</h1><p>{self.form.intro}</p>"
        done, total = self.study.progress(rater)
        if task is None:
            return f"<h1>All done</h1><p>Thank you, {html.escape(rater)}: you {self.form.done} {done} pictures.</p>"
        bar = f'<progress value="{done}" max="{max(total, 1)}" aria-label="pictures {self.form.done}"></progress>'
        return (
            f'<div class="top" data-task="{task.task}"><strong>{done} of {total}</strong>{bar}'
            f'<span class="keys">{self.form.keys}</span><span class="scale">{self.form.hint}</span></div>'
        )

    def picture(self, task: RatingTask | None) -> str:
        """The picture. Its alternative text says nothing: a description of it would be a caption."""
        if task is None:
            return ""
        if task.check:
            return '<div class="no-picture">There is no picture this time.</div>'
        uri = picture_uri(task.image, PICTURE_PIXELS)[0] if task.image and task.image.is_file() else None
        if uri is None:
            return f'<div class="no-picture">{self.form.without_picture}</div>'
        return f'<img src="{uri}" alt="The picture that the captions are about">'

    @staticmethod
    def line(slot: int, caption: str) -> str:
        """One caption as it is shown; as text, whatever it holds."""
        shown = html.escape(caption) if caption.strip() else "<em>(no caption)</em>"
        return f'<p><span class="letter">{NAMES[slot]}</span> <q>{shown}</q></p>'


def launch_rating_app(
    page: Any, *, host: str = "127.0.0.1", port: int | None = None, open_browser: bool = False, block: bool = True
) -> str:
    """Serve the page.

    Args:
        page ([`gradio.Blocks`]): What [`build_rating_app`] made.
        host (`str`, defaults to `"127.0.0.1"`): This machine alone; `"0.0.0.0"` for everyone who can reach it.
        port (`int`, *optional*): By default the first free one from 7860 on.
        open_browser (`bool`, defaults to `False`): Whether to open the page.
        block (`bool`, defaults to `True`): Whether to serve until Ctrl-C.

    Returns:
        `str`: The address of the page.

    Raises:
        ConfigurationError: The port is taken.
    """
    return serve_page(
        page,
        css=STYLE,
        host=host,
        port=port,
        open_browser=open_browser,
        block=block,
        primary_hue="indigo",
        head="".join(f"<script>{script}</script>" for script in SCRIPTS),
    )
