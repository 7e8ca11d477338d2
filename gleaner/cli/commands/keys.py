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
from gleaner.cli.printing import AsJson, parse_duration, print_items, print_line, print_result

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
    with _import_api_keys() as keys:
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
    with _import_api_keys() as keys:
        records = keys.list_keys(_keys_path(keys_file, data_dir))
    now = datetime.now(UTC)
    columns = {
        "key id": lambda record: record.key_id,
        "tenant": lambda record: record.tenant,
        "role": lambda record: record.role,
        "name": lambda record: record.name,
        "state": lambda record: "good" if record.is_usable(now) else "revoked" if record.revoked_at else "expired",
        "expires": lambda record: record.expires_at.isoformat(timespec="seconds") if record.expires_at else "never",
        "limits": lambda record: ", ".join(
            f"{name} {most}" for name, most in record.limits.model_dump(exclude_none=True).items()
        ),
    }
    rows = (record.model_dump(mode="json", exclude={"sha256"}) for record in records) if as_json else records
    print_items(rows, columns, as_json)


@app.command("rotate")
def rotate_key(
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(help="How long the old key remains valid, as 24h.")] = "24h",
    as_json: AsJson = False,
    keys_file: KeysFile = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Create a successor of a key; the old key expires after the overlap."""
    with _import_api_keys() as keys:
        new = keys.rotate_key(_keys_path(keys_file, data_dir), key_id, overlap=parse_duration(overlap))
    _print_key(new, as_json)


@app.command("revoke")
def revoke_key(
    key_id: KeyId, as_json: AsJson = False, keys_file: KeysFile = None, data_dir: DataDirectory = DEFAULT_DATA_DIR
) -> None:
    """Revoke a key now."""
    with _import_api_keys() as keys:
        keys.revoke_key(_keys_path(keys_file, data_dir), key_id)
    print_result({"key_id": key_id, "revoked": True}, f"{key_id} is revoked", as_json)


@contextlib.contextmanager
def _import_api_keys() -> Iterator[ModuleType]:
    """Yield the service's module of keys; convert its errors to `CommandError`."""
    try:
        from jobs import api_keys
    except ImportError:
        raise CommandError("editing keys requires the service: pip install 'gleaner-ner[gateway]'") from None
    try:
        yield api_keys
    except api_keys.KeysError as failure:
        raise CommandError(str(failure)) from None


def _keys_path(keys_file: Path | None, data_dir: Path) -> Path:
    return (keys_file or data_dir / "keys.json").expanduser()


def _print_key(new: NewKey, as_json: bool) -> None:
    expires = None if new.expires_at is None else new.expires_at.isoformat()
    shown = {
        "key_id": new.key_id,
        "key": new.key,
        "tenant": new.tenant,
        "role": str(new.role),
        "expires_at": expires,
    }
    text = f"{new.key_id} ({new.role} of {new.tenant}, expires {expires or 'never'})\n{new.key}"
    print_result(shown, text, as_json)
    if not as_json:
        print_line("Save the key now: it is not shown again.", to_stderr=True)
