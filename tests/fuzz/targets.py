"""The parsers of bytes from outside, each with its samples, its refusals and its bounds."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import patch

import zstandard
from fastapi import Request
from pydantic import ValidationError
from pydantic_settings import SettingsError

from gateway.errors import GatewayError
from gateway.http.requests import key_in_headers, to_incoming
from gateway.reading import cursors
from gateway.settings import GatewaySettings
from gateway.submission import headers
from gateway.submission.body import BodyLimits, read_body
from gateway.submission.parsing.job import load_submission, parse_submission
from gateway.submission.parsing.models import TenantModels
from gateway.submission.parsing.ndjson import NdjsonReader
from gateway.webhooks.addresses import ForbiddenTargetError, parse_target
from gateway.webhooks.allowed import parse_allowed
from gateway.webhooks.dns import parse_name_servers
from gleaner import WebhookVerificationError, verify_webhook
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.readers import read_documents
from gleaner.cli.files.rows import Format, Quotes, Reading
from gleaner.cli.label_options import read_labels
from jobs.api_keys import KeysError, list_keys
from jobs.codec import Codec, CodecError
from jobs.ledger import JobPosition
from jobs.results import Cursor
from tests.conftest import ROOT
from tests.fuzz.harness import Target
from tests.fuzz.receiver import answer_target, reply_target
from worker.model.errors import ModelBrokenError
from worker.model.sources import configs, safetensors, tokenizers

_MODELS = TenantModels(GatewaySettings())
_DOCUMENT = {
    "id": "a",
    "text": "Ada Lovelace met Charles Babbage in London.",
    "labels": ["person"],
    "relations": ["knows"],
    "classifications": {},
    "options": {"threshold": 0.4},
}
_HEAD = {
    "labels": {"person": "a human", "city": None},
    "relations": {"knows": "has met", "lives in": {"head": ["person"], "tail": ["city"], "threshold": 0.3}},
    "classifications": {"topic": ["sport"], "tone": {"labels": {"calm": None}, "multi_label": True}},
    "options": {"threshold": {"person": 0.5}, "flat": False, "long_text": "truncate"},
    "webhook": {"url": "https://example.com/hook", "events": ["job.failed"]},
    "metadata": {"batch": "1"},
    "deadline_s": 60.5,
    "priority": "standard",
}
_BODIES = tuple(
    json.dumps(body).encode()
    for body in (
        {"labels": ["person"], "documents": [{"text": "Ada"}]},
        {**_HEAD, "documents": [_DOCUMENT, {"text": "x"}, "plain"]},
        {"labels": ["a"] * 30, "documents": [{"text": "b", "id": str(n)} for n in range(100)]},
    )
)
_VALUES = (b"{},", b"[],", b'"a",', b"1,", b'"a":1,', b'{"a":[{}]},', b'"\\u00e9\\ud83d\\ude00",')
_LINES = b"\n".join(
    json.dumps(line).encode() for line in (_HEAD, _DOCUMENT, {"text": "b"}, {"id": "c", "text": "c"})
)


def _scratch(name: str) -> Callable[[bytes], Path]:
    """Return a writer of a scratch file of this name; the folder goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="gleaner-fuzz-")

    def write(data: bytes) -> Path:
        path = Path(folder.name) / name
        path.write_bytes(data)
        return path

    return write


def _read_body(data: bytes) -> None:
    content = load_submission(data, _MODELS, 100)
    parse_submission(content, _MODELS, lambda documents, _tasks: list(documents))


def _read_lines(data: bytes) -> None:
    reader = NdjsonReader(_MODELS, "reject" if len(data) % 2 else "fail_document")
    for start in range(0, len(data), 4096):
        reader.feed(data[start : start + 4096])
    reader.finish()


def _request(headers: Mapping[bytes, bytes], body: bytes = b"") -> Request:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/jobs",
        "query_string": b"",
        "headers": list(headers.items()),
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(scope, receive)


def _read_encoded(encoding: bytes, data: bytes) -> None:
    request = _request({b"content-type": b"application/json", b"content-encoding": encoding}, data)
    asyncio.run(read_body(to_incoming(request), BodyLimits(1_000_000)))


def _read_headers(data: bytes) -> None:
    value = data.replace(b"\n", b" ").replace(b"\r", b" ")  # as the server hands them on
    names = (b"content-type", b"idempotency-key", b"prefer", b"traceparent", b"content-encoding", b"authorization")
    request = _request(dict.fromkeys(names, value))
    headers.preferred_wait(request.headers["prefer"], 60)
    headers.trace_context(request.headers)
    key_in_headers(request)
    for refuse in (
        lambda: headers.read_idempotency_key(to_incoming(request)),
        lambda: headers.check_media_type(request.headers),
    ):
        try:
            refuse()
        except GatewayError:
            continue


def _read_cursors(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for decode in (cursors.decode_result_cursor, cursors.decode_job_cursor):
        try:
            decode(text)
        except GatewayError:
            continue


def _read_files(kind: Format, quotes: Quotes, write: Callable[[bytes], Path], data: bytes) -> None:
    for _row in read_documents(write(data), kind, Reading(quotes=quotes, split=len(data) % 2 == 0)):
        continue


def _read_tokenizer(write: Callable[[bytes], Path], data: bytes) -> None:
    path = write(data)
    tokenizers.check_tokenizer(path, configs.load_json(path))


def _read_model_folder(write: Callable[[bytes], Path], data: bytes) -> None:
    configs.check_configs(write(data).parent)


def _read_weights(write: Callable[[bytes], Path], data: bytes) -> None:
    safetensors.read_shapes(write(data))


def _read_keys(write: Callable[[bytes], Path], data: bytes) -> None:
    list_keys(write(data))


def _read_labels(write: Callable[[bytes], Path], data: bytes) -> None:
    read_labels(None, write(data))


def _read_blob(data: bytes) -> None:
    _CODEC.decode(data, "in:job:0")


_NAMES = re.compile(rb"[A-Z0-9_]+")


def _read_settings(data: bytes) -> None:
    environment = {}
    for line in data.replace(b"\0", b"").split(b"\n"):
        name, equals, value = line.partition(b"=")
        if equals and _NAMES.fullmatch(name):
            environment[f"GLEANER_{name.decode()}"] = os.fsdecode(value)
    with patch.dict(os.environ, environment):
        GatewaySettings()


def _read_targets(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for parse in (parse_target, parse_allowed, lambda servers: parse_name_servers(servers.split(","))):
        try:
            parse(text)
        except (ForbiddenTargetError, ValueError):
            continue


_SECRET = "whsec_" + "QUFB" * 10  # pragma: allowlist secret
_STAMP = b"webhook-id: dlv_1\nwebhook-timestamp: %d\n"
_SIGNED = _STAMP + b'webhook-signature: v1,QUJD v1a,AA==\n\n{"a":1}'


def _verify(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    pairs = [tuple(line.split(b": ", 1)) for line in head.split(b"\n") if b": " in line]
    verify_webhook(body, pairs, _SECRET)  # type: ignore[arg-type]  # pairs of two


_CODEC = Codec(["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="])  # pragma: allowlist secret
_KEYS = {
    "version": 1,
    "keys": [
        {"id": "k1", "tenant": "acme", "role": "admin", "hash": "0" * 64, "created_at": "2026-01-01T00:00:00Z"}
    ],
}


_READ_AHEAD = 70_000_000
"""Python makes room for the most that a bounded read may return; pages that stay empty cost nothing."""


def _file_target(kind: Format, *corpus: bytes, quotes: Quotes = Quotes.DOUBLED) -> Target:
    run = functools.partial(_read_files, kind, quotes, _scratch(f"file.{kind}"))
    tokens = (b'""', b"\t", b"text,id\n", b"sep=;\n")
    memory = _READ_AHEAD if kind == Format.HTML else 4_000_000
    return Target(corpus, run, (), tokens, cpu_s_per_mb=30, memory=memory, memory_per_byte=400)


def make_targets() -> dict[str, Target]:
    """Return every target by its name."""
    return {**_gateway_targets(), **_webhook_targets(), **_operator_targets(), **_command_targets()}


def _gateway_targets() -> dict[str, Target]:
    refusals = (GatewayError,)
    headers = (b"application/json; charset=utf-8", b"wait=10, x", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")
    places = (
        cursors.encode_result_cursor(Cursor(3, 7)),
        cursors.encode_job_cursor(JobPosition(5, "job_" + "0" * 26)),
    )
    blobs = [codec.encode(b'{"a":1}' * 50, "in:job:0") for codec in (_CODEC, Codec())]
    return {
        "bodies": Target(_BODIES, _read_body, (GatewayError,), (*_VALUES, b'"documents":[', b'{"text":"a"},')),
        "ndjson": Target((_LINES,), _read_lines, (GatewayError,), (*_VALUES, b'{"text":"a"}\n'), cpu_s_per_mb=20),
        "gzip": Target(
            [gzip.compress(body) for body in _BODIES],
            functools.partial(_read_encoded, b"gzip"),
            refusals,
            memory=6_000_000,
        ),
        "zstd": Target(
            [zstandard.compress(body) for body in _BODIES],
            functools.partial(_read_encoded, b"zstd"),
            refusals,
            memory=6_000_000,
        ),
        "headers": Target(headers, _read_headers, (), (b"wait=", b"charset=", b"; ")),
        "cursors": Target([cursor.encode() for cursor in places], _read_cursors, ()),
        "stored-blobs": Target(blobs, _read_blob, (CodecError,), memory=70_000_000, cpu_s=0.5),
    }


def _webhook_targets() -> dict[str, Target]:
    urls = (
        b"https://hooks.example.com:8443/a%20b?x=1",
        b"https://[2001:db8::1]/",
        b"acme=hooks.internal:80-90/x,10.0.0.0/8:1",
        b"10.0.0.10:53,[::1]:53",
    )
    return {
        "webhook-URLs": Target(urls, _read_targets, (), (b"%2e", b"xn--", b"0x7f", b"::ffff:", b"@")),
        "webhook-answers": answer_target(),
        "name-servers-answers": reply_target(),
        "signed-webhooks": Target(
            (_SIGNED % time.time(),), _verify, (WebhookVerificationError,), (b"v1,", b" v1,AAAA")
        ),
    }


def _operator_targets() -> dict[str, Target]:
    lines = (
        b"WEBHOOK_ALLOW=10.0.0.0/8:80,/x\nMODELS=a,b\nTENANT_SUBMITS_PER_S=3\nHTTPS=redirect",
        b"MODEL_SPLITS=a=b:10,c:90\nREDIS_URL=redis://u:p@h:1/0\nTRUSTED_PROXIES=10.0.0.0/8",
        b"ENCRYPTION_KEYS=MDEy\nWEBHOOK_NAMESERVERS=[::1]:53\nWEBHOOK_PROXY=http://u:p@h:1",
    )
    config = (ROOT / "models" / "gleaner-small" / "gliner_config.json").read_bytes()
    part = {"type": "Split", "pattern": {"Regex": "[^a-z]+|\\p{L}(?=x)"}, "behavior": "Isolated"}
    replace = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    whole = {"normalizer": replace, "pre_tokenizer": part, "padding": {"strategy": {"Fixed": 8}}}
    tokenizers = [json.dumps(content).encode() for content in (whole, {"pre_tokenizer": part})]
    patterns = (b"(?:a+)+", b"\\\\s*", b"[^\\\\r\\\\n]", b"|", b"(", b")")
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":{"format":"pt"}}'
    weights = len(header).to_bytes(8, "little") + header + b"\0"
    broken = (ModelBrokenError,)
    return {
        "keys-file": Target(
            (json.dumps(_KEYS).encode(),),
            functools.partial(_read_keys, _scratch("keys.json")),
            (KeysError,),
            cpu_s_per_mb=30,
            memory=_READ_AHEAD,
            memory_per_byte=400,
        ),
        "settings": Target(
            lines,
            _read_settings,
            (ValidationError, SettingsError),
            cpu_s=0.3,
            cpu_s_per_mb=20,
            memory_per_byte=400,
            largest=8192,
        ),
        "model-configs": Target(
            (config, tokenizers[0]),
            functools.partial(_read_model_folder, _scratch("gliner_config.json")),
            broken,
            memory=_READ_AHEAD,
            memory_per_byte=200,
        ),
        "tokenizers": Target(
            tokenizers,
            functools.partial(_read_tokenizer, _scratch("tokenizer.json")),
            broken,
            patterns,
            memory=_READ_AHEAD,
            memory_per_byte=200,
        ),
        "weights": Target(
            (weights,), functools.partial(_read_weights, _scratch("m.safetensors")), broken, memory_per_byte=200
        ),
    }


def _command_targets() -> dict[str, Target]:
    cells = (b'text,id\n"Ada, Countess",1\n"said ""hi""",2\n', b"id;text\n1;Ada\n", b"text\n" + b"word " * 50)
    page = b"<html><meta charset=utf-8><p>Ada &amp; <b>Bob</b><!-- x --><table><tr><td>1</table>"
    labels = (b'{"person": "a human", "city": null}', b'["person", "city"]')
    document = json.dumps(_DOCUMENT).encode()
    return {
        "csv": _file_target(Format.CSV, *cells),
        "csv-with-plain-quotes": _file_target(Format.CSV, *cells, quotes=Quotes.LITERAL),
        "tsv": _file_target(Format.TSV, b"text\tid\nAda\\tL\t1\n", b'text\tid\n"A\tb"\t2\n'),
        "json": _file_target(Format.JSON, b"[" + document + b', "x"]'),
        "jsonl": _file_target(Format.JSONL, b"\n".join([document] * 3)),
        "html": _file_target(Format.HTML, page),
        "text": _file_target(Format.LINES, "Ada. Bob! Größe\nCity\n".encode(), "Ada\n".encode("utf-16")),
        "labels": Target(
            labels, functools.partial(_read_labels, _scratch("labels.json")), (CommandError,), cpu_s_per_mb=20
        ),
    }
