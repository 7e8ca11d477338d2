"""The worker's own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from jobs.settings import Settings
from worker.model.splitters import Splitter

MIN_ROW_TOKENS = 128


class WorkerSettings(Settings):
    """Settings of a worker, read once at start from `GLEANER_*`."""

    metrics_port: int = Field(9102, ge=0, le=65535, description="Port of /metrics, /livez and /readyz.")
    model: str = Field("gleaner-small", min_length=1, description="The one model this worker runs.")
    model_source: str = Field(
        "",
        description="Source of the weights: a folder, a hub id, or s3://, gs://, az://. Empty: the model's name "
        "(`gleaner-small`: the shipped one).",
    )
    model_revision: str = Field("", description="Commit or tag of a hub id; pin it in production.")
    model_backbone_revision: str = Field(
        "",
        description="Commit of the hub repository whose tokenizer a model without one uses; pin it, too.",
    )
    model_cache: Path = Field(
        Path("~/.cache/gleaner/models"), description="Folder for downloaded weights and their checksums."
    )
    model_convert: Literal["auto", "true", "false"] = Field(
        "auto",
        description="Convert pickled weights (`pytorch_model.bin`) to safetensors if a model has no others: once, "
        "in a process without secrets, network or write access. auto: only if `GLEANER_MODEL_REVISION` is a "
        "commit, or the SHA-256 of a folder.",
    )
    model_variant: str = Field(
        "",
        pattern=r"^[a-z0-9_]{0,32}$",
        description="Variant of the weights if a model has several: `fp16` is `model.fp16.safetensors`. Empty: "
        "the default weights in safetensors, else the only variant in safetensors, else the pickles.",
    )
    model_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Score from which an entity counts if a request names none; some model cards recommend 0.3. "
        "Empty: `default_threshold` of the model's gliner_config.json if it has one, else 0.5. Set it when all "
        "gateways and workers are of a version that supports it.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a CUDA device if there is one.")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto",
        description="auto: bf16 or fp16 on CUDA; on a CPU bf16 or fp32, whichever is faster with the same "
        "results. int8, with OpenVINO only, is faster on processors with VNNI, and changes some results: measure "
        "with your texts.",
    )
    runtime: Literal["auto", "torch", "cudagraphs", "onnx", "openvino"] = Field(
        "auto",
        description="Runtime of the forward pass. auto: the first start tries all and takes the fastest with the "
        "same results as torch; the choice is stored in the model cache. For exactly the library's scores use "
        "`torch` with precision `fp32`. `cudagraphs` is torch with recorded CUDA graphs, and needs a CUDA device.",
    )
    gpu_shared_by: int = Field(
        1,
        ge=1,
        le=16,
        description="Number of workers on this worker's GPU; each uses its share of the GPU's memory.",
    )
    worker_slots: int = Field(
        32,
        ge=1,
        le=256,
        description="Shards of each priority that a worker processes at once: about two micro-batches' worth.",
    )
    microbatch_tokens: int = Field(0, ge=0, description="Padded tokens of a micro-batch; 0: measured at warm-up.")
    max_row_tokens: int = Field(
        0,
        ge=0,
        description="Tokens of one row of the model: labels, words and special tokens together. 0: twice the "
        "words that the model reads at once, rounded up to 512 (384 words: 1024), at most 4096. A lower limit of "
        "the tokenizer or of the encoder's positions takes precedence; memory grows with the square of it.",
    )
    word_splitter: Splitter = Field(
        Splitter.MODEL,
        description="Splits texts into the words of which entities consist. model: the splitter that the model "
        "was trained with. char: as whitespace, but each character of Chinese, Japanese, Thai, Lao, Khmer and "
        "Burmese is a word, so that entities are found in texts without blanks. spacy: spaCy's rules for English; "
        "needs `gleaner-ner[spacy]`.",
    )
    merge_adjacent: bool = Field(
        False,
        description="Merge adjacent entities of a label unless a request says otherwise: for models that mark the "
        "words of an entity one by one, such as NuNER_Zero.",
    )
    metric_labels: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Entity labels that metrics may name, comma-separated; all others count as `other`.",
    )
    close_reading: bool = Field(
        True,
        description="Read a long document's sentences one by one in addition to its windows: small models "
        "overlook in a full window entities that they find in the sentence alone. Doubles the cost of long "
        "documents; large models can do without.",
    )
    result_cache_ttl_s: int = Field(
        0,
        ge=0,
        le=30 * 24 * 3600,
        description="Seconds for which the stored result of a document is reused if the same tenant sends it "
        "again with the same labels and options. 0: never.",
    )
    hang_timeout_s: float = Field(
        120.0,
        gt=0,
        description="Seconds after which a hung forward pass, or a hung step of the work around it, ends the "
        "process; the leases bring the work back.",
    )
    document_budget_s: float = Field(
        10.0,
        gt=0,
        description="Processor seconds that a document may take outside the model, for cutting it into windows "
        "and merging their results; a document that takes longer fails with `too_costly`. An isolated shard keeps "
        "other shards waiting for no longer than this at a time.",
    )
    max_document_windows: int = Field(
        32_000,
        ge=1,
        description="Limit of windows per document: the ranges in which a long text is read, times the passes "
        "that its labels need. A document with more is not read sentence by sentence, or fails with "
        "`input_too_long`.",
    )
    max_document_entities: int = Field(
        50_000,
        ge=1,
        description="Limit of entities per document. Those with the lowest scores are left out with a warning; a "
        "document that is to be redacted fails with `too_many_entities`.",
    )

    @field_validator("max_row_tokens")
    @classmethod
    def _check_row_tokens(cls, value: int) -> int:
        if 0 < value < MIN_ROW_TOKENS:
            raise ValueError(f"must be 0 or at least {MIN_ROW_TOKENS}: labels and text share a row")
        return value

    @field_validator("metric_labels", mode="before")
    @classmethod
    def _split_labels(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
