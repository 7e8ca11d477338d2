"""Each tenant's stored bytes, counted again from the keys: the lengths of all values stored for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import redis

P = "{gleaner}:"
JOB, SHARD, ID, DELIVERY, ENDPOINT, ANSWER, QUESTION, LABEL_SET = 2048, 256, 64, 1024, 512, 256, 128, 512
"""Counted for a record in addition to its lengths: the figures of `_lib.lua`."""


def recount(client: redis.Redis) -> dict[str, int]:
    """Return each tenant's stored bytes by the keys in Redis; tenants with none are left out."""
    sums: Counter[str] = Counter()
    counts = {
        "job": _job, "stage": _stage, "idem": _answer, "ep": _endpoint, "dlv": _delivery, "lset": _label_set
    }  # fmt: skip
    for kind, count in counts.items():
        for name in _names(client, kind):
            tenant, size = count(client, name, _fields(client, f"{kind}:{name}"))
            sums[tenant] += size
    deliveries = [_fields(client, f"dlv:{name}") for name in _names(client, "dlv")]
    tenants = {delivery["job"].decode(): delivery["tenant"].decode() for delivery in deliveries}
    for job in _names(client, "event"):
        event = _fields(client, f"event:{job}")
        sums[tenants[job]] += sum(len(value) for field, value in event.items() if field != "refs")
    return {tenant: size for tenant, size in sums.items() if size}


def stored(client: redis.Redis) -> dict[str, int]:
    """Return the bytes that the ledger says each tenant keeps; tenants that keep nothing are left out."""
    totals = {name: int(_fields(client, f"tenant:{name}").get("stored", 0)) for name in _names(client, "tenant")}
    books = {name: sum(map(int, _fields(client, f"kept:{name}").values())) for name in totals}
    assert totals == books, "the sum of a tenant's books is what it keeps"
    assert all(size >= 0 for size in totals.values())
    return {tenant: size for tenant, size in totals.items() if size}


def _names(client: redis.Redis, kind: str) -> Iterator[str]:
    for key in client.scan_iter(f"{P}{kind}:*", count=1000):
        yield key.decode().removeprefix(f"{P}{kind}:")


def _fields(client: redis.Redis, name: str) -> dict[str, bytes]:
    fields: Mapping[bytes, bytes] = client.hgetall(P + name)  # type: ignore[assignment]  # redis-py's
    return {field.decode(): value for field, value in fields.items()}


def _lengths(client: redis.Redis, name: str) -> int:
    return sum(map(len, _fields(client, name).values()))


def _ids(client: redis.Redis, job: str) -> int:
    return sum(len(doc_id.encode()) + ID for doc_id in _fields(client, f"ids:{job}"))


def _job(client: redis.Redis, job: str, fields: Mapping[str, bytes]) -> tuple[str, int]:
    questions = client.smembers(f"{P}asked:{job}")
    size = JOB + SHARD * int(fields["shards"]) + len(fields["opts"]) + len(fields["meta"]) + _ids(client, job)
    size += sum(_lengths(client, f"{kind}:{job}") for kind in ("in", "out", "part"))
    size += sum(2 * len(question) + QUESTION for question in questions)  # type: ignore[union-attr]  # redis-py's
    return fields["tenant"].decode(), size


def _stage(client: redis.Redis, job: str, fields: Mapping[str, bytes]) -> tuple[str, int]:
    return fields["tenant"].decode(), _lengths(client, f"in:{job}") + _ids(client, job)


def _answer(client: redis.Redis, name: str, fields: Mapping[str, bytes]) -> tuple[str, int]:
    answered = fields["state"] == b"done"
    return name.split(":")[0], len(fields["answer"]) + ANSWER if answered else 0


def _endpoint(client: redis.Redis, name: str, fields: Mapping[str, bytes]) -> tuple[str, int]:
    return fields["tenant"].decode(), ENDPOINT + len(fields["sealed"]) + len(fields["events"])


def _delivery(client: redis.Redis, name: str, fields: Mapping[str, bytes]) -> tuple[str, int]:
    attempts: list[bytes] = client.lrange(f"{P}att:{name}", 0, -1)  # type: ignore[assignment]  # redis-py's
    return fields["tenant"].decode(), DELIVERY + sum(map(len, attempts))


def _label_set(_: redis.Redis, name: str, fields: Mapping[str, bytes]) -> tuple[str, int]:
    versions = [value for field, value in fields.items() if field.isdigit()]
    return name.split(":")[0], LABEL_SET + sum(map(len, versions)) if versions else 0
