"""What a Trainer does to publish: `push_to_hub()`, and at every save with `push_to_hub=True`."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

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
    _publishing: list[Future]

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
        self._publishing = []
        if not self.is_world_process_zero():  # type: ignore[attr-defined]
            return
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        private = private if private is not None else self.args.hub_private_repo
        with explained(f"publish in {name!r}", name):
            api = HfApi(token=token if token is not None else self.args.hub_token)
            self.hub_model_id = api.create_repo(name, private=private, exist_ok=True).repo_id

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write our model card into the output folder, from what the run has measured so far.

        Args:
            license (`str`, *optional*): The license of the model.
            language, tags, model_name, finetuned_from, tasks, dataset_tags, dataset, dataset_args: Taken as in
                `Trainer`, and not used: what the run has measured says it.
        """
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
        with self._not_publishing():
            self.save_model()  # type: ignore[attr-defined]
        self.save_state()  # type: ignore[attr-defined]
        if not self.is_world_process_zero():  # type: ignore[attr-defined]
            return None
        self.finish_publishing()
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

    def publish_checkpoint(self, folder: str | Path) -> None:
        """Publish the captioner of a checkpoint in the background, while training goes on. One that comes while
        another is being sent is left out, unless `hub_always_push` is on.

        Args:
            folder (`str` or `Path`): The checkpoint.
        """
        from huggingface_hub import HfApi

        if not self.is_world_process_zero() or self.args.hub_strategy == "end":  # type: ignore[attr-defined]
            return
        self._report_failures()
        if self._publishing and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)  # type: ignore[attr-defined]
        # The checkpoint may be rotated away before it is sent, so it is laid out (by hard links) right now.
        staging = tempfile.TemporaryDirectory(prefix="blip-refine-save-")
        shipment = stage(folder, Path(staging.name) / "staged", model_id=self.hub_model_id)
        message = f"Training in progress, step {self.state.global_step}"  # type: ignore[attr-defined]

        def send() -> None:
            with staging:
                upload(
                    shipment,
                    str(self.hub_model_id),
                    commit_message=message,
                    revision=self.args.hub_revision,
                    token=self.args.hub_token,
                )

        self._publishing.append(HfApi().run_as_future(send))

    def finish_publishing(self) -> None:
        """Wait until all that is being published is on the Hub."""
        wait(self._publishing)
        self._report_failures()

    def _report_failures(self) -> None:
        """A push that failed in the background costs no training, and is not passed over in silence."""
        for job in [job for job in self._publishing if job.done()]:
            self._publishing.remove(job)
            if job.exception() is not None:
                logger.warning("A checkpoint was not published: %s", job.exception())

    @contextmanager
    def _not_publishing(self) -> Iterator[None]:
        """For the time of a `with`, `save_model` does not publish by itself."""
        publishes, self.args.push_to_hub = self.args.push_to_hub, False
        try:
            yield
        finally:
            self.args.push_to_hub = publishes


class PublishSaves(TrainerCallback):
    """Publishes every checkpoint when it has its name, and waits for the last at the end of training.

    Args:
        trainer ([`HubPushMixin`]): The trainer that saves.
    """

    def __init__(self, trainer: HubPushMixin):
        self.trainer = trainer

    def on_save(self, args, state, control, **_):
        self.trainer.publish_checkpoint(Path(args.output_dir, f"checkpoint-{state.global_step}"))

    def on_train_end(self, args, state, control, **_):
        self.trainer.finish_publishing()
