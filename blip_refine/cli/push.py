"""`blip-refine push`: publish a run on the Hub, or see what would be published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import output

if TYPE_CHECKING:
    from ..hub.push import PushResult


def push(
    run: Annotated[Path, typer.Argument(help="The folder that train or demo wrote.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hub; made if need be.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Put a LoRA adapter into its base: publish a whole model.")
    ] = False,
    base_model: Annotated[str | None, typer.Option(help="The adapter's base on the Hub.")] = None,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Of a new repository. Default: public."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="The branch; made if need be. Default: main.")] = None,
    pull_request: Annotated[bool, typer.Option("--pull-request", help="Open a pull request.")] = False,
    message: Annotated[str | None, typer.Option(help="The message of the commit.")] = None,
    license: Annotated[str | None, typer.Option(help="As the Hub spells it; by default inherited.")] = None,
    developed_by: Annotated[
        str | None, typer.Option(help="Who made the model. Default: what the run says, then OWNER.")
    ] = None,
    pictures: Annotated[
        bool | None, typer.Option(help="Show pictures in the card. Default: unless the data forbid it.")
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Split weights above this.")] = "5GB",
    verify: Annotated[bool, typer.Option(help="Load it back and compare the logits.")] = True,
    space: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Also publish a Space, a page where people try it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and upload nothing.")] = False,
) -> None:
    """Publish weights, processor, results and model card of RUN as OWNER/NAME.

    A broken connection costs nothing: run the same command again.
    """
    from dataclasses import asdict

    from ..hub.push import push_captioner
    from .libraries import quieten_libraries

    quieten_libraries()
    output.note(f"{'Preparing' if dry_run else 'Publishing'} {run} as {repo} ...")
    pushed = push_captioner(
        run,
        repo,
        merge=merge,
        base_model=base_model,
        private=private,
        revision=revision,
        create_pr=pull_request,
        commit_message=message,
        license=license,
        developed_by=developed_by,
        pictures=pictures,
        max_shard_size=max_shard_size,
        verify=verify,
        dry_run=dry_run,
    )
    _show(pushed, dry_run)
    if pushed.verified:
        output.line(f"Loaded back {' and '.join(pushed.verified)} the upload: the logits are those of {run}.")
    result = asdict(pushed)
    if space is not None:
        from ..hub.space import push_space

        page = push_space(space, pushed.repo_id, private=private, dry_run=dry_run)
        _show(page, dry_run)
        result["space"] = asdict(page)
    if dry_run:
        output.line("Nothing was sent. The same command without --dry-run publishes this.")
    if pushed.url:
        output.next_command(f"blip-refine caption PHOTOS --model {pushed.repo_id}")
    output.result(result)


def _show(pushed: PushResult, dry_run: bool) -> None:
    for warning in pushed.warnings:
        output.warning(warning)
    total = sum(pushed.files.values())
    title = f"{'Would be published' if dry_run else 'Published'} ({pushed.kind}, {total / 1e6:.1f} MB)"
    output.table(["file", "bytes"], [[name, f"{size:,}"] for name, size in pushed.files.items()], title=title)
    if pushed.url:
        output.line(f"Page: {pushed.pull_request or pushed.url}")
