"""The worker's own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from jobs.settings import Settings
from worker.text.splitters import Splitter

LEAST_ROW_TOKENS = 128


class WorkerSettings(Settings):
    """What a worker reads from `GLEANER_*`, once, at start."""

    metrics_port: int = Field(9102, ge=0, le=65535, description="Port of /metrics, /livez and /readyz.")
    model: str = Field("gleaner-small", min_length=1, description="The one model this worker runs.")
    model_source: str = Field(
        "",
        description="Where the weights come from: a folder, a hub id, or s3://, gs://, az://. "
        "Empty: the model's name (`gleaner-small`: the shipped one).",
    )
    model_revision: str = Field("", description="Commit or tag of a hub id; pin it in production.")
    model_backbone_revision: str = Field(
        "",
        description="Commit of the hub repository that a model without a tokenizer takes it from; pin it, too.",
    )
    model_cache: Path = Field(
        Path("~/.cache/gleaner/models"), description="Where fetched weights are kept, checksummed."
    )
    model_convert: Literal["auto", "true", "false"] = Field(
        "auto",
        description="Convert pickled weights (`pytorch_model.bin`) to safetensors where a model has no others: "
        "once, in a process without secrets, network or write access. auto: where `GLEANER_MODEL_REVISION` is a "
        "commit, or the SHA-256 of a folder.",
    )
    model_variant: str = Field(
        "",
        pattern=r"^[a-z0-9_]{0,32}$",
        description="Which weights of a model to take where it has several: `fp16` is `model.fp16.safetensors`. "
        "Empty: the usual ones in safetensors, else the only variant in safetensors, else the pickles.",
    )
    model_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Score from which an entity counts where a request names none; published cards say 0.3 for "
        "some models. Empty: `default_threshold` of the model's gliner_config.json if it has that, else 0.5. Set "
        "it when all gateways and workers are of a version that knows it.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a CUDA device if there is one.")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto",
        description="auto: bf16 or fp16 on CUDA; on a CPU bf16 or fp32, whichever is faster with the same answers. "
        "int8, with OpenVINO only, is faster on processors with VNNI, and changes some answers: measure on yours.",
    )
    runtime: Literal["auto", "torch", "cudagraphs", "onnx", "openvino"] = Field(
        "auto",
        description="What runs the forward pass. auto: tried once at the first start, and the fastest taken whose "
        "answers are torch's; the choice is kept in the model cache. Exactly the library's scores: `torch` with "
        "precision `fp32`. `cudagraphs` is torch without a question to the CUDA device, and needs one.",
    )
    gpu_shared_by: int = Field(
        1, ge=1, le=16, description="Workers on this worker's GPU: each keeps to its part of the GPU's memory."
    )
    worker_slots: int = Field(
        32,
        ge=1,
        le=256,
        description="Shards of each priority that a worker holds at once: about two micro-batches' worth.",
    )
    microbatch_tokens: int = Field(
        0, ge=0, description="Padded tokens of one micro-batch; 0: found at warm-up for the device."
    )
    max_row_tokens: int = Field(
        0,
        ge=0,
        description="Tokens of one row of the model: labels, words and special tokens together. 0: twice the words "
        "that the model reads at once, rounded up to 512 (384 words: 1024), at most 4096. A lower limit of the "
        "tokenizer or of the encoder's positions holds in any case; memory grows with the square of it.",
    )
    word_splitter: Splitter = Field(
        Splitter.MODEL,
        description="What cuts texts into the words of which entities are made. model: what the model was trained "
        "with. char: as whitespace, but each character of Chinese, Japanese, Thai, Lao, Khmer and Burmese is a "
        "word, so that entities are found inside of texts without blanks. spacy: spaCy's rules for English; needs "
        "`gleaner-ner[spacy]`.",
    )
    merge_adjacent: bool = Field(
        False,
        description="Make one entity of adjacent ones of a label where a request does not say whether to: for "
        "models that mark the words of an entity one by one, such as NuNER_Zero.",
    )
    metric_labels: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Entity labels that metrics may name, comma-separated; all others count as `other`.",
    )
    close_reading: bool = Field(
        True,
        description="Read a long document's sentences one by one beside its windows: small models overlook in a "
        "full window what they find in the sentence alone. Doubles the cost of long documents; large models can do "
        "without.",
    )
    result_cache_ttl_s: int = Field(
        0,
        ge=0,
        le=30 * 24 * 3600,
        description="For how long a document that a tenant sends again, with the same labels and options, is "
        "answered from its earlier result instead of by the model (seconds), while that result is kept. 0: never.",
    )
    hang_timeout_s: float = Field(
        120.0,
        gt=0,
        description="A forward pass, or a step of the work around it, that takes longer ends the process; "
        "its leases bring the work back.",
    )
    document_budget_s: float = Field(
        10.0,
        gt=0,
        description="Processor seconds that a document may take outside the model, to be cut into windows and "
        "merged from them; above it fails as `too_costly`. A shard that runs alone holds others up for no longer.",
    )
    max_document_windows: int = Field(
        32_000,
        ge=1,
        description="Most windows of a document: the ranges in which a long text is read, times the passes that "
        "its labels need; above it is not read sentence by sentence, or fails as `input_too_long`.",
    )
    max_document_entities: int = Field(
        50_000,
        ge=1,
        description="Most entities of a document. Those of the lowest scores are left out, which a warning says; a "
        "document that is to be redacted fails as `too_many_entities`.",
    )

    @field_validator("max_row_tokens")
    @classmethod
    def _row(cls, value: int) -> int:
        if 0 < value < LEAST_ROW_TOKENS:
            raise ValueError(f"must be 0 or at least {LEAST_ROW_TOKENS}: labels and text share a row")
        return value

    @field_validator("metric_labels", mode="before")
    @classmethod
    def _labels(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
