"""`gleaner doctor`: looks at a deployment from outside, and says what is wrong with it and what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import httpx
import typer
from rich.console import Console
from rich.text import Text

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory, Url
from gleaner.cli.escaping import plain
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.output import AsJson, print_json
from gleaner.localstack.datadir import DataDir

if TYPE_CHECKING:
    import redis

SKEW_S = 2.0
FULL = 0.7
IN_FLIGHT = 16
"""Messages of a worker that it has taken, and whose shards it is about to claim, at most."""
OLDEST_SERVER = (7, 0)
_SIGNS = {"good": ("ok  ", "green"), "warning": ("warn", "yellow"), "bad": ("BAD ", "bold red")}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `remedy` says what to do where something is to be done."""

    grade: Literal["good", "warning", "bad"]
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """Where the parts of a deployment are; what is None is not looked at."""

    redis_url: str
    broker_url: str
    models: tuple[str, ...]
    keys_file: Path | None
    gateway_url: str | None
    webhook: str | None


def doctor(
    redis_url: Annotated[
        str | None, typer.Option(envvar="GLEANER_REDIS_URL", help="The ledger. [default: the local stack's]")
    ] = None,
    broker_url: Annotated[
        str | None, typer.Option(envvar="GLEANER_BROKER_URL", help="The broker. [default: the local stack's]")
    ] = None,
    keys_file: Annotated[
        Path | None, typer.Option(envvar="GLEANER_KEYS_FILE", help="The keys file. [default: the local stack's]")
    ] = None,
    models: Annotated[
        str, typer.Option(envvar="GLEANER_MODELS", help="Models, as the gateway has them.")
    ] = "gleaner-small",
    webhook: Annotated[str | None, typer.Option(help="A receiver's URL to reach from here.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Check store, queue, keys, model, gateway and webhook egress; exits 1 if something is bad."""
    directory = DataDir.from_path(data_dir)
    stack: Mapping[str, Any] = directory.read_stack() or {}
    store = redis_url or stack.get("redis_url")
    if store is None:
        raise CommandError(f"nothing to look at: no stack runs in {directory.root}, and no --redis-url is given")
    patient = Patient(
        str(store),
        str(broker_url or stack.get("broker_url") or store),
        _served(models),
        keys_file or (directory.keys_file if stack else None),
        url or stack.get("gateway_url"),
        webhook,
    )
    console, bad = Console(), False
    for finding in examine(patient):
        bad = bad or finding.grade == "bad"
        if as_json:
            print_json(finding)
            continue
        sign, style = _SIGNS[finding.grade]
        console.print(Text.assemble((sign, style), " ", plain(finding.what)), soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"     -> {plain(finding.remedy)}"), soft_wrap=True)
    if bad:
        raise typer.Exit(1)


def _served(models: str) -> tuple[str, ...]:
    from jobs.routing import Models

    try:
        return Models.parse(models).served
    except ValueError as error:
        raise CommandError(f"GLEANER_MODELS: {error}") from None


def examine(patient: Patient) -> Iterator[Finding]:
    """Every check, one after the other; one that fails unexpectedly is a finding itself."""
    checks: tuple[Callable[[Patient], Iterator[Finding]], ...] = (_store, _queue, _keys, _gateway, _webhook)
    for check in checks:
        try:
            yield from check(patient)
        except Exception as error:  # noqa: BLE001  # the other checks must still be made
            name = check.__name__.strip("_")
            yield Finding("bad", f"{name}: the check failed ({type(error).__name__})", "is it reachable from here?")


def _connect(url: str) -> redis.Redis:
    from jobs.redis.clients import connect  # the light client does without Redis

    return connect(url, 3.0, "gleaner-doctor")


def _store(patient: Patient) -> Iterator[Finding]:
    client = _connect(patient.redis_url)
    before = time.time()
    seconds, micros = client.time()
    skew = abs(seconds + micros / 1e6 - (before + time.time()) / 2)
    info: dict[str, Any] = dict(client.info())
    version = str(info.get("valkey_version") or info["redis_version"])
    if tuple(map(int, str(info["redis_version"]).split(".")[:2])) < OLDEST_SERVER:
        yield Finding("bad", f"the store is version {version}", "Redis 7.0 or Valkey 7.2 is the oldest that works")
    else:
        yield Finding("good", f"the store answers (version {version})")
    yield (
        Finding("good", f"clocks agree within {skew:.2f} s")
        if skew < SKEW_S
        else Finding("bad", f"this machine's clock is {skew:.0f} s off the store's", "run chrony or ntpd on both")
    )
    policy = info.get("maxmemory_policy")
    yield (
        Finding("good", "maxmemory-policy is noeviction")
        if policy == "noeviction"
        else Finding(
            "bad",
            f"maxmemory-policy is {policy}: the server may drop jobs",
            "CONFIG SET maxmemory-policy noeviction",
        )
    )
    if not info.get("aof_enabled"):
        yield Finding("bad", "the append-only file is off: a crash loses jobs", "CONFIG SET appendonly yes")
    elif "err" in (info.get("aof_last_write_status"), info.get("aof_last_bgrewrite_status")):
        yield Finding("bad", "the append-only file could not be written", "free its disk, then BGREWRITEAOF")
    else:
        yield Finding("good", "the append-only file is on and well")
    yield _memory(int(info["used_memory"]), int(info.get("maxmemory", 0)))
    client.close()


def _memory(used: int, most: int) -> Finding:
    if not most:
        return Finding("warning", "the store has no memory limit", "set maxmemory below the machine's memory")
    if used > FULL * most:
        remedy = "raise maxmemory, or keep results for less long; new jobs are refused meanwhile"
        return Finding("bad", f"the store uses {used / most:.0%} of its memory", remedy)
    return Finding("good", f"the store uses {used / most:.0%} of its memory")


def _queue(patient: Patient) -> Iterator[Finding]:
    from jobs import naming
    from jobs.ledger import Ledger
    from jobs.ledger.stats import read_stats
    from jobs.queue import celery_queues
    from jobs.schema import Priority

    client, broker = _connect(patient.redis_url), _connect(patient.broker_url)
    seen = Ledger(client).run(read_stats(patient.models))
    silent = seen.upkeep_silent_s
    if silent is None or silent > 60:
        yield Finding("bad", "nobody does upkeep", "start a courier; lost work is not found without one")
    else:
        yield Finding("good", f"upkeep ticked {silent:.0f} s ago")
    if seen.memory_max and seen.memory_used > FULL * seen.memory_max and seen.stored:
        kept = ", ".join(f"{tenant} {size / seen.memory_max:.0%}" for tenant, size in seen.stored[:3])
        remedy = "lower GLEANER_TENANT_MAX_STORED_BYTES; the runbook GleanerRedisMemoryHigh removes what is there"
        yield Finding("warning", f"of the store's memory tenants keep: {kept}", remedy)
    for model in seen.models:
        waiting = sum(
            celery_queues.queue_length(broker, naming.queue_name(model.model, priority)) for priority in Priority
        )
        state = f"{model.model}: {model.shards} open shards, {waiting} messages, {model.workers} workers"
        if model.published - waiting > IN_FLIGHT * model.workers:
            yield Finding(
                "warning",
                f"{model.model}: {model.published} shards wait by the ledger, {waiting} messages in the broker",
                "upkeep publishes lost ones within a minute; if not, do all use one broker?",
            )
        if model.trouble:
            yield Finding("bad", f"{state}; they cannot load the model", "`gleaner models` has the reason")
        elif model.shards and not model.workers:
            yield Finding("bad", state, "start a worker, or see why KEDA does not")
        elif waiting > 2 * model.shards + 100:
            yield Finding("warning", f"{state}: more messages than work", "harmless; workers drop what is done")
        else:
            yield Finding("good", state)
    client.close()
    broker.close()


def _keys(patient: Patient) -> Iterator[Finding]:
    if patient.keys_file is None:
        return
    from jobs.api_keys import KeyRing, KeysError

    try:
        KeyRing(patient.keys_file.expanduser())
    except KeysError as error:
        yield Finding("bad", f"keys file: {error}", "`gleaner keys create` makes one; restore it from its secret")
        return
    mode = os.stat(patient.keys_file.expanduser()).st_mode & 0o077  # noqa: PTH116
    if mode:
        yield Finding("warning", "others may read the keys file (it holds hashes only)", "chmod 600")
    else:
        yield Finding("good", "the keys file is good")


def _gateway(patient: Patient) -> Iterator[Finding]:
    if patient.gateway_url is None:
        return
    own = version_of("gleaner-ner")
    with httpx.Client(base_url=patient.gateway_url, timeout=5, trust_env=False) as client:
        ready = client.get("/readyz")
        if ready.status_code != 200:
            yield Finding("bad", f"the gateway is not ready ({ready.status_code})", "it cannot write the store")
        else:
            yield Finding("good", "the gateway is ready")
        version = client.get("/openapi.json").json()["info"]["version"]
    if version != own:
        yield Finding("warning", f"the gateway is {version}, this command {own}", "run the same version on both")
    else:
        yield Finding("good", f"gateway and command are both {version}")


def _webhook(patient: Patient) -> Iterator[Finding]:
    if patient.webhook is None:
        return
    try:
        httpx.head(patient.webhook, timeout=15, trust_env=False)
    except httpx.HTTPError as error:
        yield Finding("bad", f"{patient.webhook}: {type(error).__name__}", "open this machine's way to it")
    else:
        yield Finding("good", f"{patient.webhook} can be reached")
