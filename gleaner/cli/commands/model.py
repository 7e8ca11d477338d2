"""`gleaner model`: copy a model to a folder that workers load directly; compare a model with its library."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import typer

from gleaner.cli.exit_codes import DOCUMENTS_FAILED, CommandError
from gleaner.cli.printing import AsJson, print_json, print_line, print_table

app = typer.Typer(no_args_is_help=True, help="Prepare a model for workers.")

REQUIRED_PACKAGES = ("filelock", "fsspec", "orjson", "torch", "huggingface_hub")

Source = Annotated[
    str, typer.Argument(help="A folder, a hub id (owner/name), or an s3://, gs:// or az:// address.")
]
Revision = Annotated[
    str | None, typer.Option(help="Commit, tag or branch of a hub id; for other sources, the files' SHA-256.")
]
BackboneRevision = Annotated[
    str | None, typer.Option(help="Commit of the hub repository that a missing tokenizer comes from.")
]
Variant = Annotated[str, typer.Option(help="Variant of the weights: `fp16` is model.fp16.safetensors.")]
Cache = Annotated[Path, typer.Option(envvar="GLEANER_MODEL_CACHE", help="Folder of downloaded files.")]
DEFAULT_CACHE = Path("~/.cache/gleaner/models")


@app.callback()
def model() -> None:
    """Prepare a model for workers."""


@app.command("convert")
def convert_model(
    source: Source,
    folder: Annotated[Path, typer.Argument(help="The folder to create; it must not exist yet.")],
    revision: Revision = None,
    backbone_revision: BackboneRevision = None,
    variant: Variant = "",
    cache: Cache = DEFAULT_CACHE,
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


@app.command("check")
def check_model(
    source: Source,
    revision: Revision = None,
    backbone_revision: BackboneRevision = None,
    variant: Variant = "",
    cache: Cache = DEFAULT_CACHE,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run it.")] = "auto",
    runtime: Annotated[
        Literal["auto", "torch", "onnx", "openvino", "cudagraphs"], typer.Option(help="The runtime to check.")
    ] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "int8"], typer.Option(help="The precision to check.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Load a model as a worker does, and compare its entities with those of its library.

    The built-in texts are of several scripts, each alone in a micro-batch and together with the others. Exit code 1
    if an answer differs by more than the precision explains, if nothing could be compared, or if a worker would
    refuse the model. Requires the extra `worker`.
    """
    models = _import_resolver(*REQUIRED_PACKAGES, "gliner")
    from worker.model.check import check_model as compare_model
    from worker.model.engine import EngineOptions
    from worker.model.errors import ModelBrokenError, ModelError, PickleRefusedError

    try:
        options = models.SourceOptions(backbone_revision, convert="true", variant=variant)
        resolved = models.resolve_model(source, revision, cache.expanduser(), options)
        verdict = compare_model(resolved, EngineOptions(device, precision, runtime, cache.expanduser()))
    except (ModelBrokenError, PickleRefusedError) as refusal:
        _print_refusal(str(refusal), as_json)
        raise typer.Exit(DOCUMENTS_FAILED) from None
    except (ModelError, ValueError) as failure:
        raise CommandError(str(failure)) from None
    if as_json:
        print_json({**asdict(verdict), "equal": verdict.reason is None, "reason": verdict.reason})
    else:
        _print_verdict(source, verdict)
    if verdict.reason is not None:
        raise typer.Exit(DOCUMENTS_FAILED)


def _print_refusal(reason: str, as_json: bool) -> None:
    if as_json:
        print_json({"equal": False, "reason": f"refused: {reason}"})
    else:
        print_line(f"refused: {reason}", to_stderr=True)


def _print_verdict(source: str, verdict: Any) -> None:
    def describe(difference: float) -> str:
        return "equal" if difference <= verdict.margin else f"differs by {difference:.4f}"

    rows: Sequence[Sequence[object]] = [
        (_shorten(item.text), item.entities, describe(item.alone), describe(item.in_company))
        for item in verdict.comparisons
    ]
    print_table(("text", "entities", "alone", "with others"), rows)
    print_line(f"{source} runs on {verdict.runtime}; its tasks: {', '.join(verdict.tasks)}")
    if verdict.not_compared:
        print_line(f"not compared: {', '.join(verdict.not_compared)}")
    print_line(f"BAD: {verdict.reason}" if verdict.reason else "equal: every answer is that of its library")


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


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


def _import_resolver(*packages: str) -> ModuleType:
    missing = [name for name in packages or REQUIRED_PACKAGES if find_spec(name) is None]
    if missing:
        raise CommandError(f"this command requires {missing[0]}: pip install 'gleaner-ner[worker]'")
    from worker.model.sources import resolve

    return resolve
