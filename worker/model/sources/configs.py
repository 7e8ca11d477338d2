"""Checks of a model's JSON files, read as data: they must not name code, refer elsewhere or exhaust the machine.

gliner passes `encoder_config` to transformers with `trust_remote_code=True`, and transformers looks up a
tokenizer's class by name; so everything that could choose code is checked here, before either is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from worker.model.errors import ModelBrokenError
from worker.model.sources import tokenizers
from worker.model.sources.folders import CONFIG, ENCODER, LABELS, TOKENIZER, read_small_file

MAX_VALUES = 200_000
"""Values of a configuration. DeBERTa's tokenizer_config.json has some hundred, one with 6,000 added tokens
50,000."""
MAX_TOKENIZER_VALUES = 3_000_000
"""Values of a tokenizer or a vocabulary: Gemma's, one of the largest, has 1.7 million."""
MAX_DEPTH = 32
MAX_NUMBER = 2**31
MAX_REPEATED = 512
"""Most layers, heads, groups: each is a loop that creates objects."""
LIMITS: Mapping[str, int] = {
    "num_labels": 10_000,
    "max_width": 512,
    "max_len": 100_000,
    "max_types": 100_000,
    **dict.fromkeys(("start_top_k", "end_top_k", "ends_per_start", "starts_per_end"), 512),
    **dict.fromkeys(("boundary_top_k_max", "pool_boundary_top_k", "relation_pair_cap"), 1_024),
    **dict.fromkeys(("relation_heads_per_type", "relation_tails_per_type"), 512),
    **dict.fromkeys(("candidate_budget", "pool_size", "min_pool_per_query"), 4_096),
}
"""Upper limits of values that create objects, or lengthen rows, without weights that would show it."""

MODEL_TYPES = frozenset(
    ("albert", "bert", "big_bird", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2",
     "distilbert", "electra", "ernie", "eurobert", "flaubert", "funnel", "ibert", "layoutlm",
     "longformer", "luke", "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra", "mt5", "nomic_bert",
     "nystromformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "squeezebert",
     "t5", "umt5", "xlm", "xlm-roberta", "xlm-roberta-xl", "xmod", "yoso")
)  # fmt: skip
"""Encoders of text that transformers has built in."""
SPAN_ENCODERS = frozenset(("deberta-v2", "modernbert", "rnn"))
RELATIONS_LAYERS: frozenset[object] = frozenset(
    (None, "none", "dot", "mlp", "attention", "attn", "bilinear", "gcn", "gat")
)
"""gliner's ways to decide which spans are related."""
TOKENIZERS = frozenset(
    ("Albert", "Barthez", "Bart", "BertGeneration", "Bert", "Bertweet", "BigBird", "Camembert", "Cohere",
     "Deberta", "DebertaV2", "DistilBert", "Electra", "Ernie", "Esm", "FNet", "Flaubert", "Funnel", "GPT2",
     "GPTNeoX", "Gemma", "Herbert", "LED", "LayoutLM", "Llama", "Longformer", "Luke", "M2M100", "MBart",
     "MPNet", "MT5", "MobileBert", "ModernBert", "Nllb", "Nystromformer", "Pegasus", "Phobert", "Qwen2",
     "RemBert", "RoCBert", "RoFormer", "Roberta", "SqueezeBert", "T5", "XLMRoberta", "XLM", "XLNet")
)  # fmt: skip
"""Tokenizers of text that transformers has built in, by name without "Tokenizer" and "TokenizerFast"."""
BACKENDS = frozenset(
    ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend", "SentencePieceBackend")
)
SPLITTERS = frozenset(
    ("whitespace", "char", "spacy", "mecab", "jieba", "janome", "camel", "hindi", "stanza", "universal")
)
"""gliner's splitters, without hanlp, which fetches pickles."""
ATTENTION = frozenset((None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"))
REFUSED = frozenset(
    ("auto_map", "custom_pipelines", "trust_remote_code", "quantization_config", "gguf_file", "init_inputs",
     "use_kernels", "kernel_config", "use_kernel_forward", "auto_mapping", "peft_config")
)  # fmt: skip
"""Keys that name code, or a loader that brings code with it. Null, false and empty are harmless."""
OTHER_PARTS: Mapping[str, str] = {
    "labels_decoder": "a GLiNER that generates labels",
    "labels_decoder_config": "a GLiNER that generates labels",
    "decoder_config": "a GLiNER with a decoder",
}
"""Keys that occur only in unsupported architectures."""
OTHER_TYPES: Mapping[str, str] = {
    "decoder": "a GLiNER that generates labels",
    "streaming": "a GLiNER for streams",
}
"""Parts of `model_type` in unsupported architectures."""
EXTRACTORS = ("extractor", "gliner2")
"""Prefixes of `model_type` in config.json of GLiNER2's models."""
EXTRACTOR_PARTS: Mapping[str, frozenset[object]] = {
    "architecture": frozenset((None, "span", "boundary")),
    "counting_layer": frozenset((None, "count_lstm", "count_lstm_moe", "count_lstm_v2")),
    "token_pooling": frozenset((None, "first")),
}
"""Supported parts of GLiNER2's models, by their keys in config.json."""
OTHER_LIBRARIES: Mapping[str, str] = {
    "gliclass": "a GLiClass model",
    "glirel": "a GLiREL model",
    "gliformer": "a GLiFormer model",
}
"""Prefixes of `model_type` in config.json of models of related libraries."""
_SUGGESTION = (
    "Gleaner runs GLiNER's uni-encoders, bi-encoders and models for relations, such as urchade/gliner_medium-v2.1."
)


class Library(StrEnum):
    """Libraries whose models can be run."""

    GLINER = "gliner"
    GLINER2 = "gliner2"


def check_configs(folder: Path, bare: bool = False) -> None:
    """Check all JSON files of a model; if it is `bare`, encoder and tokenizer are added later, from elsewhere.

    Raises:
        ModelBrokenError: a file is not JSON, names code, refers elsewhere, or could exhaust the machine.
    """
    if (folder / CONFIG).is_file():
        _check_model(folder, bare)
    else:
        _check_extractor(folder)
    _check_tokenizer(folder)
    if (folder / LABELS).is_dir():
        _check_tokenizer(folder / LABELS)


def _check_tokenizer(folder: Path) -> None:
    for name in ("config.json", TOKENIZER, "special_tokens_map.json"):
        if (folder / name).is_file():
            content = load_json(folder / name, MAX_VALUES)
            _check_values(folder / name, content)
            _check_classes(folder / name, content)
    for name in ("tokenizer.json", "vocab.json", "added_tokens.json"):
        if (folder / name).is_file():
            content = load_json(folder / name, MAX_TOKENIZER_VALUES)
            if name == "tokenizer.json":
                tokenizers.check_tokenizer(folder / name, content)
    for name in ("vocab.txt", "merges.txt"):
        if (folder / name).is_file() and read_small_file(folder / name).count(b"\n") > MAX_TOKENIZER_VALUES:
            raise ModelBrokenError(f"{folder / name}: more than {MAX_TOKENIZER_VALUES:,} lines.")


def check_architecture(source: str, names: Collection[str], fetch: Callable[[str], Path]) -> Library:
    """Return the library of a model; refuse anything but a supported architecture, by its configuration alone.

    `fetch` returns the path of one of its files, if that is small.

    Raises:
        ModelBrokenError: it is another kind of model; the message names the kind.
    """
    if CONFIG in names:
        other = _other_architecture(load_json(fetch(CONFIG)))
        if other:
            raise ModelBrokenError(f"{source}: {other}, an architecture that is not supported. {_SUGGESTION}")
        return Library.GLINER
    if _is_extractor(names, fetch):
        if ENCODER not in names:
            raise ModelBrokenError(f"{source}: this is a GLiNER2 model without {ENCODER}. {_SUGGESTION}")
        return Library.GLINER2
    kind = _other_library(names, fetch)
    if kind:
        raise ModelBrokenError(f"{source}: this is {kind}; it has no {CONFIG}. {_SUGGESTION}")
    raise ModelBrokenError(f"{source}: no {CONFIG}; is this a GLiNER model?")


def _other_architecture(content: Mapping[str, Any]) -> str:
    """Return a configuration's unsupported architecture, and the key that shows it; "" if supported."""
    for key, kind in OTHER_PARTS.items():
        if content.get(key):
            return f"{key} says that this is {kind}"
    model_type = content.get("model_type")
    for part, kind in OTHER_TYPES.items():
        if isinstance(model_type, str) and part in model_type:
            return f"model_type {model_type[:60]!r} says that this is {kind}"
    if content.get("span_mode") != "token_level":
        return ""
    if content.get("represent_spans"):
        # gliner picks those spans by the lowest threshold of a batch, so that answers depend on the other texts.
        return "represent_spans says that this is a token model that also scores spans"
    if content.get("relations_layer") and content.get("span_encoder_config"):
        return "span_encoder_config says that this is a token model for relations with an encoder of spans"
    return ""


def _is_extractor(names: Collection[str], fetch: Callable[[str], Path]) -> bool:
    if "config.json" not in names or "adapter_config.json" in names:
        return False
    name = load_json(fetch("config.json")).get("model_type")
    return isinstance(name, str) and name.lower().startswith(EXTRACTORS)


def _other_library(names: Collection[str], fetch: Callable[[str], Path]) -> str:
    """Return the kind of a model without GLiNER's configuration, as far as its files show; "" if unknown."""
    if "glirel_config.json" in names:
        return "a GLiREL model"
    if "adapter_config.json" in names:
        return "an adapter (LoRA), not a complete model; merge it into its model and save that"
    if "config.json" not in names:
        return ""
    content = load_json(fetch("config.json"))
    model_type, classes = content.get("model_type"), content.get("architectures")
    name = model_type if isinstance(model_type, str) else ""
    for beginning, kind in OTHER_LIBRARIES.items():
        if name.lower().startswith(beginning):
            return kind
    first = classes[0] if isinstance(classes, list) and classes and isinstance(classes[0], str) else name
    return f"a {first[:60]} of transformers, not a GLiNER model" if first else ""


def load_json(path: Path, most_values: int = MAX_VALUES) -> dict[str, Any]:
    """Return the object in a JSON file, within the limits of memory.

    Raises:
        ModelBrokenError: it is too large, nested too deep, or not a JSON object.
    """
    raw = read_small_file(path)
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > most_values:
        raise ModelBrokenError(f"{path}: more than {most_values:,} values; this is not a file of a model.")
    try:
        content = orjson.loads(raw)
    except ValueError as error:
        raise ModelBrokenError(f"{path}: not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ModelBrokenError(f"{path}: not a JSON object.")
    return content


def _check_model(folder: Path, bare: bool) -> None:
    path = folder / CONFIG
    content = load_json(path)
    _check_values(path, content)
    other = _other_architecture(content)
    if other:
        raise ModelBrokenError(f"{path}: {other}, an architecture that is not supported. {_SUGGESTION}")
    encoder = content.get("encoder_config")
    if encoder is None and not bare:
        raise ModelBrokenError(f"{path}: no encoder_config. Put the content of its backbone's config.json there.")
    if encoder is not None:
        _check_type(path, "encoder_config", encoder, MODEL_TYPES)
    if content.get("span_encoder_config") is not None:
        _check_type(path, "span_encoder_config", content["span_encoder_config"], SPAN_ENCODERS)
    if content.get("labels_encoder") is not None or content.get("labels_encoder_config") is not None:
        _check_label_encoder(folder, content)
    _check_name(path, "relations_layer", content.get("relations_layer"), RELATIONS_LAYERS)
    splitter = content.get("words_splitter_type", "whitespace")
    if not isinstance(splitter, str) or splitter not in SPLITTERS:
        raise ModelBrokenError(
            f"{path}: words_splitter_type {str(splitter)[:60]!r} is not supported. Set it to "
            "whitespace there, or to char for Chinese, Japanese, Thai and other scripts without blanks."
        )


def _check_label_encoder(folder: Path, content: Mapping[str, Any]) -> None:
    """Check the label encoder of a bi-encoder; its configuration and tokenizer must be in the model's folder."""
    encoder = f"its label encoder, {str(content.get('labels_encoder'))[:100]}"
    if content.get("labels_encoder_config") is None:
        raise ModelBrokenError(
            f"{folder / CONFIG}: no labels_encoder_config. Put the content of the config.json of {encoder}, there."
        )
    _check_type(folder / CONFIG, "labels_encoder_config", content["labels_encoder_config"], MODEL_TYPES)
    if not (folder / LABELS / TOKENIZER).is_file():
        raise ModelBrokenError(
            f"{folder}: no {LABELS}/{TOKENIZER}. Copy the tokenizer's files of {encoder}, into the folder {LABELS} "
            "there."
        )


def _check_extractor(folder: Path) -> None:
    """Check the configurations of a GLiNER2 model and of its encoder."""
    path = folder / "config.json"
    content, encoder = load_json(path), load_json(folder / ENCODER)
    _check_values(folder / ENCODER, encoder)
    _check_type(folder / ENCODER, "encoder_config", encoder, MODEL_TYPES)
    for key, allowed in EXTRACTOR_PARTS.items():
        _check_name(path, key, content.get(key), allowed)


def _check_name(path: Path, key: str, value: object, allowed: frozenset[object]) -> None:
    if not isinstance(value, str | None) or value not in allowed:
        names = ", ".join(sorted(str(name) for name in allowed if name))
        raise ModelBrokenError(f"{path}: {key} {str(value)[:60]!r} is not supported. Supported: {names}.")


def _check_type(path: Path, key: str, config: Any, allowed: frozenset[str]) -> None:
    if not isinstance(config, dict):
        raise ModelBrokenError(f"{path}: {key} is not an object.")
    kind = config.get("model_type", "deberta-v2")
    if not isinstance(kind, str) or kind not in allowed:
        names = ", ".join(sorted(allowed))
        raise ModelBrokenError(f"{path}: {key}.model_type {str(kind)[:60]!r} is not supported. Supported: {names}.")


def _check_classes(path: Path, content: Mapping[str, Any]) -> None:
    kind = content.get("model_type")
    if path.name == "config.json" and not (kind is None or is_model_type(kind)):
        raise ModelBrokenError(f"{path}: model_type {str(kind)[:60]!r} is not supported.")
    name = content.get("tokenizer_class")
    if name is not None and not is_tokenizer(name):
        raise ModelBrokenError(f"{path}: tokenizer_class {str(name)[:60]!r} is not built in; it is not supported.")


def is_model_type(name: object) -> bool:
    """Return whether this is the type of a permitted encoder, or one of gliner's."""
    return isinstance(name, str) and (name in MODEL_TYPES or name.startswith(("gliner", *EXTRACTORS)))


def is_tokenizer(name: object) -> bool:
    """Return whether this is the class name of a built-in tokenizer."""
    if not isinstance(name, str):
        return False
    return name in BACKENDS or name.removesuffix("Fast").removesuffix("Tokenizer") in TOKENIZERS


def _check_values(path: Path, content: Mapping[str, Any]) -> None:
    """Check every value, at any depth, by its key."""
    for key, value in _iter_values(path, content):
        if key in REFUSED and value:
            raise ModelBrokenError(
                f"{path}: {key} names code or a loader of code, and a model must be data. If the model works "
                f"without it, remove {key}; otherwise it is not supported."
            )
        implementation = key.endswith(("attn_implementation", "experts_implementation"))
        if implementation and not (isinstance(value, str | None) and value in ATTENTION):
            raise ModelBrokenError(f"{path}: {key} {str(value)[:60]!r} is not built in. Remove it.")
        if type(value) is int and abs(value) > _max_number(key):
            raise ModelBrokenError(f"{path}: {key} is {value:,}; it may be at most {_max_number(key):,}.")


def _max_number(key: str) -> int:
    if any(part in key for part in ("layer", "heads", "group", "block", "repeat")):
        return MAX_REPEATED
    if key in ("model_max_length", "max_length"):
        return 2**64  # many have 10^30 for "no limit"; no object is created by it
    return LIMITS.get(key, MAX_NUMBER)


def _iter_values(path: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every value with its key; items of a list have the list's key."""
    rest: list[tuple[str, Any, int]] = [("", content, 0)]
    while rest:
        key, value, depth = rest.pop()
        if depth > MAX_DEPTH:
            raise ModelBrokenError(f"{path}: nested more than {MAX_DEPTH} deep.")
        yield key, value
        if isinstance(value, dict):
            rest += [(name, item, depth + 1) for name, item in value.items()]
        elif isinstance(value, list):
            rest += [(key, item, depth + 1) for item in value]
