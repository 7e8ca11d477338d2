"""`gleaner model convert`: copy a model from any source to a folder that a worker can load directly."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.printing import AsJson, print_json, print_line

app = typer.Typer(no_args_is_help=True, help="Prepare a model for workers.")

REQUIRED_PACKAGES = ("filelock", "fsspec", "orjson", "torch", "huggingface_hub")


@app.callback()
def model() -> None:
    """Prepare a model for workers."""


@app.command("convert")
def convert_model(
    source: Annotated[
        str, typer.Argument(help="A folder, a hub id (owner/name), or an s3://, gs:// or az:// address.")
    ],
    folder: Annotated[Path, typer.Argument(help="The folder to create; it must not exist yet.")],
    revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch of a hub id; for other sources, the files' SHA-256.")
    ] = None,
    backbone_revision: Annotated[
        str | None, typer.Option(help="Commit of the hub repository that a missing tokenizer comes from.")
    ] = None,
    variant: Annotated[str, typer.Option(help="Variant of the weights: `fp16` is model.fp16.safetensors.")] = "",
    cache: Annotated[Path, typer.Option(envvar="GLEANER_MODEL_CACHE", help="Folder of downloaded files.")] = Path(
        "~/.cache/gleaner/models"
    ),
    as_json: AsJson = False,
) -> None:
    """Create a folder that workers load without a network: weights as one safetensors file, with the tokenizer.

    Pickled weights are converted in a process that has no secrets and no network and can write only that file; a
    pickle with anything but weights is refused. Requires the extra `worker`.
    """
    models = _import_resolver()
    from worker.model.errors import ModelError

    if folder.exists():
        raise CommandError(f"{folder} already exists; name a new folder")
    try:
        options = models.SourceOptions(backbone_revision, convert="true", variant=variant)
        resolved = models.resolve_model(source, revision, cache.expanduser(), options)
        revision_of_copy = _copy_model(models, resolved, folder, cache.expanduser())
    except ModelError as failure:
        raise CommandError(str(failure)) from None
    if as_json:
        files = {name: resolved.files[name] for name in sorted(resolved.files) if (folder / name).is_file()}
        print_json(
            {"folder": str(folder), "revision": revision_of_copy, "source_revision": resolved.revision,
             "backbone_revision": resolved.backbone or None, "sha256": files}
        )  # fmt: skip
        return
    print_line(f"{folder} contains {source} at {resolved.revision}. Settings of a worker:")
    print_line(f"  GLEANER_MODEL_SOURCE={folder.absolute()}")
    print_line(f"  GLEANER_MODEL_REVISION={revision_of_copy}")


def _copy_model(models: ModuleType, resolved: Any, folder: Path, cache: Path) -> str:
    """Copy the verified files, verify the copy, and return its revision."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name in resolved.files:
            if Path(name).name == name and (name in models.SIZES):
                shutil.copyfile(resolved.folder / name, partial / name)
        copy = models.resolve_model(str(partial), None, cache)
        changed = [name for name, value in copy.files.items() if resolved.files[name] != value]
        if changed:
            raise CommandError(f"{', '.join(changed)} changed while being copied; run the command again")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return str(copy.revision)


def _import_resolver() -> ModuleType:
    missing = [name for name in REQUIRED_PACKAGES if find_spec(name) is None]
    if missing:
        raise CommandError(f"this command requires {missing[0]}: pip install 'gleaner-ner[worker]'")
    from worker.model.sources import resolve

    return resolve
