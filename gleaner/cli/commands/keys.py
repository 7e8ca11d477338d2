"""`gleaner keys`: edit the file of API keys in place; a running gateway applies changes within two seconds."""

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
from gleaner.cli.output import AsJson, parse_duration, print_json, print_line, print_table

if TYPE_CHECKING:
    from jobs.api_keys import NewKey

KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys-file", envvar="GLEANER_KEYS_FILE", help="The keys file. [default: keys.json in --data-dir]"
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Limit of this key.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key, as shown by `gleaner keys list`.")]

app = typer.Typer(no_args_is_help=True, help="Create, list, rotate and revoke API keys.")


@app.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="Tenant of the key; tenants do not see each other's jobs.")],
    role: Annotated[str, typer.Option(help="viewer, submitter or admin.")] = "submitter",
    name: Annotated[str, typer.Option(help="Name of the key, for your information.")] = "",
    expires_in: Annotated[
        str | None, typer.Option(help="Lifetime of the key, as 90d or 12h. [default: it never expires]")
    ] = None,
    requests_per_s: Limit = None,
    submits_per_s: Limit = None,
    reads_per_s: Limit = None,
    documents_per_day: Limit = None,
    characters_per_day: Limit = None,
    open_jobs: Limit = None,
    stored_bytes: Annotated[
        int | None, typer.Option(min=1, help="Refuse submissions with this key while its tenant stores more bytes.")
    ] = None,
    as_json: AsJson = False,
    keys_file: KeysFile = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Create a key. It is shown only now: the file contains only its hash.

    Limits that are not set default to the gateway's, such as GLEANER_KEY_REQUESTS_PER_S.
    """
    keys = _import_api_keys()
    expires_at = None if expires_in is None else datetime.now(UTC) + parse_duration(expires_in)
    limits = {
        "requests_per_s": requests_per_s,
        "submits_per_s": submits_per_s,
        "reads_per_s": reads_per_s,
        "documents_per_day": documents_per_day,
        "characters_per_day": characters_per_day,
        "open_jobs": open_jobs,
        "stored_bytes": stored_bytes,
    }
    with _convert_errors(keys):
        new = keys.create_key(
            _keys_path(keys_file, data_dir),
            tenant=tenant,
            role=role,
            name=name,
            expires_at=expires_at,
            limits=limits,
        )
    _print_key(new, as_json)


@app.command("list")
def list_keys(
    as_json: AsJson = False, keys_file: KeysFile = None, data_dir: DataDirectory = DEFAULT_DATA_DIR
) -> None:
    """List keys with id, tenant, role and state, without the keys themselves."""
    keys = _import_api_keys()
    with _convert_errors(keys):
        records = keys.list_keys(_keys_path(keys_file, data_dir))
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


@app.command("rotate")
def rotate_key(
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(help="How long the old key remains valid, as 24h.")] = "24h",
    as_json: AsJson = False,
    keys_file: KeysFile = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Create a successor of a key; the old key expires after the overlap."""
    keys = _import_api_keys()
    with _convert_errors(keys):
        new = keys.rotate_key(_keys_path(keys_file, data_dir), key_id, overlap=parse_duration(overlap))
    _print_key(new, as_json)


@app.command("revoke")
def revoke_key(
    key_id: KeyId, as_json: AsJson = False, keys_file: KeysFile = None, data_dir: DataDirectory = DEFAULT_DATA_DIR
) -> None:
    """Revoke a key now."""
    keys = _import_api_keys()
    with _convert_errors(keys):
        keys.revoke_key(_keys_path(keys_file, data_dir), key_id)
    if as_json:
        print_json({"key_id": key_id, "revoked": True})
    else:
        print_line(f"{key_id} is revoked")


@contextlib.contextmanager
def _convert_errors(keys: ModuleType) -> Iterator[None]:
    """Convert errors of the keys file to `CommandError`."""
    try:
        yield
    except keys.KeysError as failure:
        raise CommandError(str(failure)) from None


def _import_api_keys() -> ModuleType:
    try:
        from jobs import api_keys
    except ImportError:
        raise CommandError("editing keys requires the service: pip install 'gleaner-ner[gateway]'") from None
    return api_keys


def _keys_path(keys_file: Path | None, data_dir: Path) -> Path:
    return (keys_file or data_dir / "keys.json").expanduser()


def _print_key(new: NewKey, as_json: bool) -> None:
    expires = None if new.expires_at is None else new.expires_at.isoformat()
    if as_json:
        shown = {"key_id": new.key_id, "key": new.key, "tenant": new.tenant, "role": str(new.role)}
        print_json({**shown, "expires_at": expires})
        return
    print_line(f"{new.key_id} ({new.role} of {new.tenant}, expires {expires or 'never'})")
    print_line(new.key)
    print_line("Save the key now: it is not shown again.", to_stderr=True)
