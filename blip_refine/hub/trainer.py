"""What a Trainer does to publish: `push_to_hub()`, and at every save with `push_to_hub=True`."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .card import write_model_card
from .provenance import is_embedded_starter, is_local_path
from .pull import explained
from .push import push_captioner, upload
from .staging import stage

logger = logging.getLogger(__name__)


class HubPushMixin:
    """Goes before [`transformers.Trainer`] among the bases of a trainer, and publishes as [`push_captioner`] does.

    The Trainer's own way would upload the whole output folder: arguments pickled with the Hub token in them, paths of
    this machine, and a draft of a card. Here only the files of a captioner go, searched for secrets, with our card.
    """

    args: Any
    model: Any
    hub_model_id: str | None
    push_in_progress: Any

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in `Trainer`; what could not be published at the first save is refused before training starts.

        Raises:
            ConfigurationError: `hub_strategy` would publish pickled optimizer states, or the adapter's base is a
                folder of this machine.
        """
        from huggingface_hub import HfApi

        strategy = getattr(self.args.hub_strategy, "value", self.args.hub_strategy)
        if strategy in ("checkpoint", "all_checkpoints"):
            raise ConfigurationError(
                f"hub_strategy={strategy!r} would publish optimizer states, which are pickled files; use 'every_save' "
                "or 'end', and keep the checkpoints here."
            )
        for config in getattr(self.model, "peft_config", {}).values():
            base = config.base_model_name_or_path or ""
            if is_local_path(base) and not is_embedded_starter(base):
                raise ConfigurationError(
                    f"push_to_hub needs an adapter whose base others can load; {Path(base).name!r} is a folder of "
                    "this machine. Start from a model of the Hub, or publish later with `blip-refine push --merge`."
                )
        if not self.is_world_process_zero():  # type: ignore[attr-defined]
            return
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        private = private if private is not None else self.args.hub_private_repo
        with explained(f"publish in {name!r}", name):
            api = HfApi(token=token if token is not None else self.args.hub_token)
            self.hub_model_id = api.create_repo(name, private=private, exist_ok=True).repo_id
        self.push_in_progress = None

    def create_model_card(self, *_: Any, license: str | None = None, **__: Any) -> None:
        """Write our model card into the output folder, from what the run has measured so far."""
        if self.is_world_process_zero():  # type: ignore[attr-defined]
            write_model_card(self.args.output_dir, model_id=self.hub_model_id, license=license)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **options: Any,
    ) -> Any:
        """Save the model and publish the output folder with all that was measured. See [`push_captioner`].

        Args:
            commit_message (`str`, *optional*, defaults to `"End of training"`): The message of the commit.
            blocking (`bool`, defaults to `True`): Whether to wait until it is published.
            token (`str`, *optional*): Defaults to `args.hub_token`, then to the one saved by `hf auth login`.
            revision (`str`, *optional*): Defaults to `args.hub_revision`.
            private (`bool`, *optional*): Defaults to `args.hub_private_repo`.
            **options: Those of [`push_captioner`] (`merge`, `license`, `create_pr`, `verify`, ...).

        Returns:
            [`PushResult`], or a `Future` of one with `blocking=False`; `None` on all processes but the first.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)  # type: ignore[attr-defined]
        token = token if token is not None else self.args.hub_token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)  # type: ignore[attr-defined]
        self.save_state()  # type: ignore[attr-defined]
        if not self.is_world_process_zero():  # type: ignore[attr-defined]
            return None
        self._finish_current_push()
        for unknown in ("model_name", "language", "tags", "finetuned_from", "tasks", "dataset_tags", "dataset"):
            # What `Trainer.push_to_hub` takes for its draft of a card; ours is made from the files of the run.
            options.pop(unknown, None)
        settings = {
            "commit_message": commit_message,
            "token": token,
            "revision": revision if revision is not None else self.args.hub_revision,
            "private": private if private is not None else self.args.hub_private_repo,
            **options,
        }
        assert self.hub_model_id is not None
        if blocking:
            return push_captioner(self.args.output_dir, self.hub_model_id, **settings)
        from huggingface_hub import HfApi

        return HfApi().run_as_future(push_captioner, self.args.output_dir, self.hub_model_id, **settings)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Publish the captioner of a checkpoint in the background, while training goes on."""
        from huggingface_hub import HfApi
        from transformers.utils import PushInProgress

        if not self.is_world_process_zero() or self.args.hub_strategy == "end":  # type: ignore[attr-defined]
            return
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if busy and not self.args.hub_always_push:
            return
        self._tell_failed_pushes()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)  # type: ignore[attr-defined]
        # The checkpoint may be rotated away before it is sent, so it is laid out (by hard links) right now.
        folder = tempfile.TemporaryDirectory(prefix="blip-refine-save-")
        shipment = stage(checkpoint_folder, Path(folder.name) / "staged", model_id=self.hub_model_id)
        state = self.state  # type: ignore[attr-defined]
        message = f"Training in progress, step {state.global_step}"

        def send() -> None:
            with folder:
                upload(
                    shipment,
                    str(self.hub_model_id),
                    commit_message=message,
                    revision=self.args.hub_revision,
                    token=self.args.hub_token,
                )

        job = HfApi().run_as_future(send)
        if busy:
            self.push_in_progress.jobs.append(job)
        else:
            self.push_in_progress = PushInProgress([job])

    def _finish_current_push(self) -> None:
        super()._finish_current_push()  # type: ignore[misc]
        self._tell_failed_pushes()

    def _tell_failed_pushes(self) -> None:
        """A push that failed in the background costs no training, and is not passed over in silence."""
        jobs = getattr(getattr(self, "push_in_progress", None), "jobs", [])
        for job in list(jobs):
            if job.done():
                jobs.remove(job)
                if job.exception() is not None:
                    logger.warning("A checkpoint was not published: %s", job.exception())
