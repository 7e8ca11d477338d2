"""A gateway for tests, in this process on real stores, and a worker that takes real messages through the ledger.

The worker knows no model: every label found as a word of the text is an entity. All else is the service's own path:
claim, payload, results, complete.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import redis.asyncio
from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import GatewaySettings
from jobs import api_keys, ledger
from jobs.api_keys import Role
from jobs.codec import Codec
from jobs.ledger import AsyncLedger, Claim, Message, associated_data
from jobs.queue.celery_queues import KEY_PREFIX, model_queues
from jobs.queue.publisher import QueuePublisher
from jobs.redis.clients import connect_async
from jobs.schema import Document, DocumentResult, DocumentStatus, Entity
from jobs.shards import decode_documents, encode_documents, encode_results
from jobs.tasks import ClassScore, Relation, Tasks


@dataclass
class StubWorker:
    """Takes shards from the queues and finishes them, one at a time.

    Attributes:
        name: as the ledger lists it.
        claims: shards claimed and not finished, with their nonces.
    """

    store: AsyncLedger
    broker: redis.asyncio.Redis
    codec: Codec
    models: tuple[str, ...]
    name: str = "test-worker"
    claims: dict[Message, tuple[str, Claim]] = field(default_factory=dict)

    async def take_messages(self) -> list[Message]:
        """Everything in the queues, taken out."""
        messages: list[Message] = []
        for queue in model_queues(self.models):
            while (raw := await self.broker.rpop(KEY_PREFIX + queue)) is not None:
                job, shard, seq = orjson.loads(orjson.loads(raw)["body"])[0]
                messages.append(Message(queue, job, shard, seq))
        return messages

    async def claim_shard(self, message: Message) -> str:
        """Claim a shard's lease; return the ledger's reply."""
        nonce = f"nonce-{message.job}-{message.shard}-{message.seq}"
        claim = await self.store.run(ledger.claim_shard(message, nonce, self.name, "rev-1"))
        if claim.kind == "run":
            self.claims[message] = (nonce, claim)
        return claim.kind

    async def finish_shard(self, message: Message) -> str:
        """Run a claimed shard; return the ledger's reply."""
        nonce, claim = self.claims.pop(message)
        opts = orjson.loads(self.codec.decode(claim.opts, associated_data("opts", message.job)))
        documents = decode_documents(
            self.codec.decode(claim.blob, associated_data("in", message.job, message.shard))
        )
        tasks, options = Tasks.from_wire(opts), opts["options"]
        results = [_run(document, document.choose_tasks(tasks), options, claim.attempts) for document in documents]
        failed = [document for document in documents if document.error]
        errors: dict[str, int] = {}
        for document in failed:
            errors[str(document.error.code)] = errors.get(str(document.error.code), 0) + 1
        leftover = b""
        if failed:
            leftover = self.codec.encode(
                encode_documents(failed), associated_data("in", message.job, message.shard)
            )
        done = await self.store.run(
            ledger.complete_shard(
                message,
                nonce,
                ledger.ShardResult(
                    self.codec.encode(encode_results(results), associated_data("out", message.job, message.shard)),
                    leftover,
                    len(documents) - len(failed),
                    len(failed),
                    {"windows": len(documents) - len(failed)},
                    errors,
                ),
            )
        )
        await QueuePublisher(self.broker).push(done.publish)
        return done.kind

    async def run_shards(self) -> int:
        """Run all queued shards and those that they publish; return their number."""
        count = 0
        while messages := await self.take_messages():
            for message in messages:
                if await self.claim_shard(message) == "run":
                    await self.finish_shard(message)
                    count += 1
        return count

    async def run_next_shards(self) -> int:
        """Wait for a message, then run all queued shards; return their number."""
        queues = [KEY_PREFIX + queue for queue in model_queues(self.models)]
        queue, raw = await self.broker.brpop(queues, timeout=1.5)
        await self.broker.rpush(queue, raw)
        return await self.run_shards()


def _run(document: Document, tasks: Tasks, options: dict[str, Any], attempts: int) -> DocumentResult:
    if document.error is not None:
        return DocumentResult(
            document.index, document.id, DocumentStatus.FAILED, attempts=attempts, error=document.error
        )
    spans = (
        Entity(start, start + len(label), label, label, 0.9)
        for label in tasks.labels
        if (start := document.text.find(label)) >= 0
    )
    entities = tuple(sorted(spans, key=lambda entity: (entity.start, entity.end, entity.label)))
    return DocumentResult(
        document.index,
        document.id,
        DocumentStatus.SUCCEEDED,
        entities=entities,
        windows=1,
        attempts=attempts,
        text=document.text if options.get("return_text") else None,
        relations=_relate(entities, tasks) if tasks.relations else None,
        classifications=_classify(document.text, tasks) if tasks.classifications else None,
    )


def _relate(entities: Sequence[Entity], tasks: Tasks) -> tuple[Relation, ...]:
    """Return every pair of entities that a relation allows."""
    return tuple(
        Relation(name, head, tail, 0.8)
        for name, relation in tasks.relations.items()
        for head, tail in itertools.permutations(range(len(entities)), 2)
        if relation.head is None or entities[head].label in relation.head
        if relation.tail is None or entities[tail].label in relation.tail
    )


def _classify(text: str, tasks: Tasks) -> dict[str, tuple[ClassScore, ...]]:
    """Return the classes of each classification; those that are words of the text come first."""
    return {
        name: tuple(
            ClassScore(label, 0.9 if label in text else 0.1)
            for label in sorted(question.labels, key=lambda label: label not in text)
        )
        for name, question in tasks.classifications.items()
    }


@dataclass(frozen=True)
class Api:
    """A running gateway and its surroundings.

    Attributes:
        client: calls it as a submitter of the tenant `acme`.
        keys: a key of each role of `acme`, and `other`: an admin of another tenant.
        store, broker: straight to the stores, past the gateway.
    """

    app: FastAPI
    client: httpx.AsyncClient
    keys: dict[str, str]
    store: redis.asyncio.Redis
    broker: redis.asyncio.Redis
    worker: StubWorker
    keys_file: Path

    async def submit(self, *texts: str, **fields: Any) -> str:
        """Submit a job of these texts; return its id."""
        body = {"labels": ["Ada"], "documents": [{"text": text} for text in texts], **fields}
        # Escaped by hand: a lone surrogate is legal JSON, but httpx's own encoding refuses it.
        headers = {"Content-Type": "application/json"}
        response = await self.client.post("/v1/jobs", content=json.dumps(body), headers=headers)
        assert response.status_code == 202, response.text
        job_id: str = response.json()["id"]
        return job_id

    async def get_job(self, job_id: str, **params: Any) -> dict[str, Any]:
        """Return the job's JSON."""
        response = await self.client.get(f"/v1/jobs/{job_id}", params=params)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def as_role(self, role: str) -> dict[str, str]:
        """Headers of a caller of this role, or of `other`."""
        return {"Authorization": f"Bearer {self.keys[role]}"}


@asynccontextmanager
async def running_api(
    ledger_url: str, broker_url: str, folder: Path, models: Iterable[str] = ("gleaner-small",), **settings: Any
) -> AsyncIterator[Api]:
    """Run a gateway on these servers, called in this process."""
    keys_file = folder / "keys.json"
    keys = {role.value: api_keys.create_key(keys_file, tenant="acme", role=role).key for role in Role}
    keys["other"] = api_keys.create_key(keys_file, tenant="umbrella", role=Role.ADMIN).key
    config = GatewaySettings(
        redis_url=ledger_url, broker_url=broker_url, keys_file=keys_file, models=tuple(models), **settings
    )
    app = create_app(config)
    store, broker = connect_async(ledger_url, 2, "test"), connect_async(broker_url, 2, "test")
    worker = StubWorker(
        AsyncLedger(store),
        broker,
        Codec(key.get_secret_value() for key in config.encryption_keys),
        config.models.served,
    )
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        client.headers["Authorization"] = f"Bearer {keys['submitter']}"
        yield Api(app, client, keys, store, broker, worker, keys_file)
    await store.aclose()
    await broker.aclose()
