"""`gleaner keys`: edit the file of API keys, where it lies; a running gateway follows within two seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.output import AsJson, duration, print_json, print_line, print_table

if TYPE_CHECKING:
    from jobs.api_keys import NewKey

KeysFile = Annotated[
    Path | None,
    typer.Option("--keys-file", envvar="GLEANER_KEYS_FILE", help="The file. [default: keys.json in --data-dir]"),
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many with this key.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="A key's id, as `gleaner keys list` shows it.")]

app = typer.Typer(no_args_is_help=True, help="Create, list, rotate and revoke API keys.")


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose key it is; tenants do not see each other's jobs.")],
    role: Annotated[str, typer.Option(help="viewer, submitter or admin.")] = "submitter",
    name: Annotated[str, typer.Option(help="A word to know it by.")] = "",
    expires_in: Annotated[
        str | None, typer.Option(help="How long it is good for, as 90d or 12h. [default: for ever]")
    ] = None,
    requests_per_s: Limit = None,
    submits_per_s: Limit = None,
    reads_per_s: Limit = None,
    documents_per_day: Limit = None,
    characters_per_day: Limit = None,
    open_jobs: Limit = None,
    stored_bytes: Annotated[
        int | None, typer.Option(min=1, help="Most bytes that its tenant may keep for this key to add to it.")
    ] = None,
    as_json: AsJson = False,
    keys_file: KeysFile = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Make a key. It is shown this once: the file keeps its hash.

    Limits that are not given are the gateway's, GLEANER_KEY_REQUESTS_PER_S and the like.
    """
    keys = _keys()
    expires_at = None if expires_in is None else datetime.now(UTC) + duration(expires_in)
    limits = {
        "requests_per_s": requests_per_s,
        "submits_per_s": submits_per_s,
        "reads_per_s": reads_per_s,
        "documents_per_day": documents_per_day,
        "characters_per_day": characters_per_day,
        "open_jobs": open_jobs,
        "stored_bytes": stored_bytes,
    }
    with _complaints(keys):
        new = keys.create(
            _path(keys_file, data_dir), tenant=tenant, role=role, name=name, expires_at=expires_at, limits=limits
        )
    _show(new, as_json)


@app.command("list")
def list_(as_json: AsJson = False, keys_file: KeysFile = None, data_dir: DataDirectory = DEFAULT_DATA_DIR) -> None:
    """List keys: ids, tenants, roles, and whether they are good; never the keys."""
    keys = _keys()
    with _complaints(keys):
        records = keys.list_keys(_path(keys_file, data_dir))
    if as_json:
        for record in records:
            print_json(record.model_dump(mode="json", exclude={"sha256"}))
        return
    now = datetime.now(UTC)
    rows = []
    for record in records:
        state = "good" if record.is_usable(now) else "revoked" if record.revoked_at else "expired"
        expires = "never" if record.expires_at is None else record.expires_at.isoformat(timespec="seconds")
        limits = ", ".join(f"{name} {most}" for name, most in record.limits.model_dump(exclude_none=True).items())
        rows.append((record.key_id, record.tenant, str(record.role), record.name, state, expires, limits))
    print_table(("key id", "tenant", "role", "name", "state", "expires", "limits"), rows)


@app.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(help="How long the old key stays good, as 24h.")] = "24h",
    as_json: AsJson = False,
    keys_file: KeysFile = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Make a successor of a key and let the old one end after the overlap."""
    keys = _keys()
    with _complaints(keys):
        new = keys.rotate(_path(keys_file, data_dir), key_id, overlap=duration(overlap))
    _show(new, as_json)


@app.command()
def revoke(
    key_id: KeyId, as_json: AsJson = False, keys_file: KeysFile = None, data_dir: DataDirectory = DEFAULT_DATA_DIR
) -> None:
    """End a key now."""
    keys = _keys()
    with _complaints(keys):
        keys.revoke(_path(keys_file, data_dir), key_id)
    if as_json:
        print_json({"key_id": key_id, "revoked": True})
    else:
        print_line(f"{key_id} is revoked")


@contextlib.contextmanager
def _complaints(keys: ModuleType) -> Iterator[None]:
    """Turn the keys file's errors into the command's."""
    try:
        yield
    except keys.KeysError as failure:
        raise CommandError(str(failure)) from None


def _keys() -> ModuleType:
    try:
        from jobs import api_keys
    except ImportError:
        raise CommandError("editing keys needs the service: pip install 'gleaner-ner[gateway]'") from None
    return api_keys


def _path(keys_file: Path | None, data_dir: Path) -> Path:
    return (keys_file or data_dir / "keys.json").expanduser()


def _show(new: NewKey, as_json: bool) -> None:
    expires = None if new.expires_at is None else new.expires_at.isoformat()
    if as_json:
        shown = {"key_id": new.key_id, "key": new.key, "tenant": new.tenant, "role": str(new.role)}
        print_json({**shown, "expires_at": expires})
        return
    print_line(f"{new.key_id} ({new.role} of {new.tenant}, expires {expires or 'never'})")
    print_line(new.key)
    print_line("Keep it now: it is not shown again.", to_stderr=True)
