"""What the Gradio pages share: Gradio itself, how a page is served, and files that a visitor takes home."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, MissingExtraError

KEPT_SECONDS = 3600
"""How long after it was written a visitor's file can be downloaded."""


def load_gradio() -> Any:
    """The module `gradio`.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise MissingExtraError("gradio", "apps", "serve pages") from error
    return gradio


def serve_page(
    page: Any,
    *,
    css: str,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = False,
    block: bool = True,
    primary_hue: str = "orange",
    **options: Any,
) -> str:
    """Serve a page: from this machine alone by default, with nothing loaded from elsewhere.

    Args:
        page ([`gradio.Blocks`]): The page.
        css (`str`): Its style.
        host (`str`, defaults to `"127.0.0.1"`): This machine alone; `"0.0.0.0"` for everyone who can reach it.
        port (`int`, *optional*): By default the first free one from 7860 on.
        open_browser (`bool`, defaults to `False`): Whether to open the page.
        block (`bool`, defaults to `True`): Whether to serve until Ctrl-C.
        primary_hue (`str`, defaults to `"orange"`): The colour of its buttons.
        **options: Passed to `Blocks.launch` (`auth=`, `head=`, `max_file_size=`).

    Returns:
        `str`: The address of the page.

    Raises:
        ConfigurationError: The port is taken.
    """
    if block:
        end_in_order()
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            footer_links=[],
            ssr_mode=False,
            theme=load_gradio().themes.Default(primary_hue=primary_hue, **fonts),
            css=css,
            **options,
        )
    except OSError as error:
        raise ConfigurationError(f"The page cannot be served on {host}:{port}: {error}") from error
    if block:
        page.block_thread()
    return url


def end_in_order() -> None:
    """Let the program end as after Ctrl-C when it is asked to end, so that what belongs to a page is cleared away."""

    def end(number: int, _frame: Any) -> None:
        # By default the process would be gone at once, and its files would stay.
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)


class VisitorFiles:
    """Folders for what visitors take home, in one folder of the page, that goes when the program ends.

    Args:
        keep (`float`, defaults to 3600): Seconds after which a folder is deleted, when the next one is made.
    """

    def __init__(self, keep: float = KEPT_SECONDS):
        self.keep = keep
        # Its finalizer removes it when the page is gone, at the latest when the interpreter exits.
        self._root = tempfile.TemporaryDirectory(prefix="blip-refine-page-", ignore_cleanup_errors=True)

    @property
    def root(self) -> Path:
        """Where they all are, and what the page itself needs."""
        return Path(self._root.name)

    def new_folder(self) -> Path:
        """A new folder; those whose time is over are deleted."""
        oldest = time.time() - self.keep
        for folder in self.root.glob("visitor-*"):
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix="visitor-", dir=self.root))
