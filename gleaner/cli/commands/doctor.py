"""`gleaner doctor`: check a deployment from outside, and say how to fix the problems."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory, Url
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.printing import AsJson, Finding, print_findings
from gleaner.localstack.datadir import DataDir

if TYPE_CHECKING:
    import redis

MAX_CLOCK_SKEW_S = 2.0
MAX_MEMORY_SHARE = 0.7
MAX_IN_FLIGHT = 16
"""Maximum number of messages that a worker has received and whose shards it has not claimed yet."""
MIN_SERVER_VERSION = (7, 0)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Addresses of the parts of a deployment; parts that are None are not checked."""

    redis_url: str
    broker_url: str
    models: tuple[str, ...]
    keys_file: Path | None
    gateway_url: str | None
    webhook: str | None


def run_doctor(
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
        str, typer.Option(envvar="GLEANER_MODELS", help="Models, as configured at the gateway.")
    ] = "gleaner-small",
    webhook: Annotated[str | None, typer.Option(help="URL of a webhook receiver to connect to.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Check Redis, queue, keys, models, gateway and webhook egress; exit code 1 if a check is bad."""
    directory = DataDir(data_dir)
    stack: Mapping[str, Any] = directory.read_stack() or {}
    ledger_url = redis_url or stack.get("redis_url")
    if ledger_url is None:
        raise CommandError(
            f"nothing to check: no stack is running in {directory.root}; start one, or set --redis-url"
        )
    deployment = Deployment(
        str(ledger_url),
        str(broker_url or stack.get("broker_url") or ledger_url),
        _parse_models(models),
        keys_file or (directory.keys_file if stack else None),
        url or stack.get("gateway_url"),
        webhook,
    )
    if print_findings(run_checks(deployment), as_json):
        raise typer.Exit(1)


def _parse_models(models: str) -> tuple[str, ...]:
    try:
        from jobs.routing import Models

        return Models.parse(models).served
    except ImportError:
        raise CommandError("checking Redis requires the service: pip install 'gleaner-ner[gateway]'") from None
    except ValueError as error:
        raise CommandError(f"GLEANER_MODELS: {error}") from None


def run_checks(deployment: Deployment) -> Iterator[Finding]:
    """Run every check; yield its findings, or one finding if it raises an exception."""
    checks: tuple[Callable[[Deployment], Iterator[Finding]], ...] = (
        _check_redis,
        _check_queue,
        _check_keys,
        _check_gateway,
        _check_webhook,
    )
    for check in checks:
        try:
            yield from check(deployment)
        except Exception as error:  # noqa: BLE001  # the other checks must still run
            name = check.__name__.removeprefix("_check_")
            yield Finding("bad", f"{name}: the check failed ({type(error).__name__})", "is it reachable from here?")


def _connect(url: str) -> redis.Redis:
    from jobs.redis.clients import connect  # the client package must not require Redis

    return connect(url, 3.0, "gleaner-doctor")


def _check_redis(deployment: Deployment) -> Iterator[Finding]:
    client = _connect(deployment.redis_url)
    before = time.time()
    seconds, micros = client.time()
    skew = abs(seconds + micros / 1e6 - (before + time.time()) / 2)
    yield from judge_redis(dict(client.info()), skew)
    client.close()


def judge_redis(info: Mapping[str, Any], skew: float) -> Iterator[Finding]:
    """Yield the findings about a server from its INFO, and the difference of its clock in seconds."""
    version = str(info.get("valkey_version") or info["redis_version"])
    yield _judge(
        tuple(map(int, str(info["redis_version"]).split(".")[:2])) >= MIN_SERVER_VERSION,
        f"Redis responds (version {version})",
        f"Redis has version {version}",
        "upgrade to Redis 7.0, Valkey 7.2 or later",
    )
    yield _judge(
        skew < MAX_CLOCK_SKEW_S,
        f"clocks agree within {skew:.2f} s",
        f"this machine's clock differs from Redis's by {skew:.0f} s",
        "run chrony or ntpd on both",
    )
    policy = info.get("maxmemory_policy")
    yield _judge(
        policy == "noeviction",
        "maxmemory-policy is noeviction",
        f"maxmemory-policy is {policy}: Redis may evict jobs",
        "CONFIG SET maxmemory-policy noeviction",
    )
    if not info.get("aof_enabled"):
        yield Finding("bad", "the append-only file is off: a crash loses jobs", "CONFIG SET appendonly yes")
    else:
        yield _judge(
            "err" not in (info.get("aof_last_write_status"), info.get("aof_last_bgrewrite_status")),
            "the append-only file is on and writable",
            "the append-only file could not be written",
            "free its disk, then BGREWRITEAOF",
        )
    yield _judge_memory(int(info["used_memory"]), int(info.get("maxmemory", 0)))


def _judge(is_good: bool, good: str, bad: str, remedy: str) -> Finding:
    return Finding("good", good) if is_good else Finding("bad", bad, remedy)


def _judge_memory(used: int, limit: int) -> Finding:
    if not limit:
        return Finding("warning", "Redis has no memory limit", "set maxmemory below the machine's memory")
    share = f"Redis uses {used / limit:.0%} of its memory"
    remedy = "raise maxmemory, or shorten the retention of results; new jobs are refused meanwhile"
    return _judge(used <= MAX_MEMORY_SHARE * limit, share, share, remedy)


def _check_queue(deployment: Deployment) -> Iterator[Finding]:
    from jobs import naming
    from jobs.ledger import Ledger, read_stats
    from jobs.queue import celery_queues
    from jobs.schema import Priority

    client, broker = _connect(deployment.redis_url), _connect(deployment.broker_url)
    seen = Ledger(client).run(read_stats(deployment.models))
    silent = seen.upkeep_silent_s
    if silent is None or silent > 60:
        yield Finding("bad", "no courier runs upkeep", "start a courier; without one, lost work is not recovered")
    else:
        yield Finding("good", f"upkeep ran {silent:.0f} s ago")
    if seen.memory_max and seen.memory_used > MAX_MEMORY_SHARE * seen.memory_max and seen.stored:
        sizes = ", ".join(f"{tenant} {size / seen.memory_max:.0%}" for tenant, size in seen.stored[:3])
        remedy = "lower GLEANER_TENANT_MAX_STORED_BYTES; the runbook GleanerRedisMemoryHigh says how to free memory"
        yield Finding("warning", f"Redis memory by tenant: {sizes}", remedy)
    for model in seen.models:
        waiting = sum(
            celery_queues.queue_length(broker, naming.queue_name(model.name, priority)) for priority in Priority
        )
        state = f"{model.name}: {model.open_shards} open shards, {waiting} messages, {model.workers} workers"
        if model.published_shards - waiting > MAX_IN_FLIGHT * model.workers:
            yield Finding(
                "warning",
                f"{model.name}: {model.published_shards} shards wait in the ledger, "
                f"{waiting} messages in the broker",
                "upkeep publishes lost messages within a minute; if not, check that all processes use one broker",
            )
        if model.reason:
            yield Finding("bad", f"{state}; they cannot load the model", "see the reason with `gleaner models`")
        elif model.open_shards and not model.workers:
            yield Finding("bad", state, "start a worker, or check why KEDA does not")
        elif waiting > 2 * model.open_shards + 100:
            yield Finding("warning", f"{state}: more messages than work", "harmless; workers drop stale messages")
        else:
            yield Finding("good", state)
    client.close()
    broker.close()


def _check_keys(deployment: Deployment) -> Iterator[Finding]:
    if deployment.keys_file is None:
        return
    from jobs.api_keys import KeyRing, KeysError

    try:
        KeyRing(deployment.keys_file.expanduser())
    except KeysError as error:
        yield Finding("bad", f"keys file: {error}", "create one with `gleaner keys create`, or restore it")
        return
    mode = os.stat(deployment.keys_file.expanduser()).st_mode & 0o077  # noqa: PTH116
    if mode:
        yield Finding("warning", "other users may read the keys file (it contains only hashes)", "chmod 600")
    else:
        yield Finding("good", "the keys file is valid")


def _check_gateway(deployment: Deployment) -> Iterator[Finding]:
    if deployment.gateway_url is None:
        return
    command_version = version_of("gleaner-ner")
    with httpx.Client(base_url=deployment.gateway_url, timeout=5, trust_env=False) as client:
        ready = client.get("/readyz")
        if ready.status_code == 200 and ready.json()["status"] != "ok":
            yield Finding("bad", "the gateway cannot write to Redis", "check Redis: is it up, full, or a replica?")
        else:
            problem = f"the gateway is not ready ({ready.status_code})"
            yield _judge(
                ready.status_code == 200, "the gateway is ready", problem, "check that it can write to Redis"
            )
        version = client.get("/openapi.json").json()["info"]["version"]
    if version != command_version:
        versions = f"the gateway has version {version}, this command {command_version}"
        yield Finding("warning", versions, "install the same version")
    else:
        yield Finding("good", f"gateway and command have version {version}")


def _check_webhook(deployment: Deployment) -> Iterator[Finding]:
    if deployment.webhook is None:
        return
    try:
        httpx.head(deployment.webhook, timeout=15, trust_env=False)
    except httpx.HTTPError as error:
        remedy = "allow connections from this machine to it"
        yield Finding("bad", f"{deployment.webhook}: {type(error).__name__}", remedy)
    else:
        yield Finding("good", f"{deployment.webhook} is reachable")
