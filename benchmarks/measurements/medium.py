"""A model of GLiNER medium's architecture (DeBERTa-v3-base sizes) with random weights: for speed, not for answers.

The same seed gives the same model. Its scores are shifted so that it finds about as many entities as a trained one,
because decoding takes time, too. `python -m benchmarks.measurements.medium` writes it below .cache/ and prints its
path.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from gliner import GLiNER
from gliner.config import UniEncoderSpanConfig
from gliner.model import UniEncoderSpanGLiNER
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import DebertaV2Config, PreTrainedTokenizerFast

from benchmarks.texts import LABELS, make_texts

FOLDER = Path(__file__).parents[2] / ".cache" / "gleaner-medium-random-3"
"""The number is incremented when the builder's output changes."""
SEED = 9
VOCABULARY = 300
"""Size of the vocabulary: small, so that words have several tokens as often as in real texts."""
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<<ENT>>", "<<SEP>>")
EMBEDDING_SIZE = 0.5
"""Standard deviation of embeddings' weights."""
LOGIT_SPREAD = 1.0
POSITIVE_SHARE = 1 / 150
"""Share of (span, label) pairs above 0.5; without overlapping ones that is one entity in about ten words."""


def medium_folder(folder: Path = FOLDER, layers: int = 12) -> Path:
    """Return the model's folder; build it if it does not exist.

    Args:
        folder: the folder.
        layers: of the encoder; fewer give a small model for tests.
    """
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.{os.getpid()}")
        _build_model(layers).save_pretrained(part, safe_serialization=True)
        try:
            part.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(part)
    return folder


def _build_model(layers: int) -> Any:
    torch.manual_seed(SEED)
    tokenizer = _train_tokenizer()
    encoder = DebertaV2Config(  # type: ignore[call-arg]  # keywords that only its base passes on
        vocab_size=len(tokenizer),
        hidden_size=768,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=512,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=256,
        max_relative_positions=-1,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        layer_norm_eps=1e-7,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = UniEncoderSpanConfig(
        model_name="gleaner-medium-random",
        name="gleaner-medium-random",
        encoder_config=encoder.to_dict(),
        vocab_size=len(tokenizer),
        class_token_index=tokenizer.convert_tokens_to_ids("<<ENT>>"),
        hidden_size=512,
        max_len=384,
        max_width=12,
        subtoken_pooling="first",
        num_rnn_layers=1,
        words_splitter_type="whitespace",
    )
    model = UniEncoderSpanGLiNER(config, tokenizer=tokenizer)
    model.eval()
    _scale_weights(model)
    _shift_scores(model)
    return model


def _train_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), show_progress=False, min_frequency=1
    )
    backend.train_from_iterator([*make_texts(300, seed=SEED), " ".join(LABELS)], trainer)
    ends = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=512,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    )


@torch.no_grad()
def _scale_weights(model: Any) -> None:
    """Scale the weights like a trained model's, so that scores depend on words and labels, not on rounding.

    With the small initial weights of training, all spans have almost equal scores, and spreading these also spreads
    the rounding of bf16, until no runtime in 16 bits agrees with one in 32.
    """
    for name, weight in model.model.named_parameters():
        if weight.dim() >= 2:
            weight.normal_(0.0, EMBEDDING_SIZE if "embed" in name else weight.shape[-1] ** -0.5)


@torch.inference_mode()
def _shift_scores(model: Any) -> None:
    """Spread the logits, and shift only their high end above zero.

    A score is the product of a span's and a label's vector. The last dimension is set to 1 in all spans and to the
    same number in all labels, which is thereby added to every logit.
    """
    span, prompt = model.model.span_rep_layer.span_rep_layer.out_project[-1], model.model.prompt_rep_layer[-1]
    for layer, constant in ((span, 1.0), (prompt, 0.0)):
        layer.weight[-1] = 0.0
        layer.bias[-1] = constant
    logits = _compute_logits(model)
    for part in (prompt.weight, prompt.bias):
        part *= LOGIT_SPREAD / logits.std()
    prompt.bias[-1] = -_compute_logits(model).quantile(1 - POSITIVE_SHARE)


def _compute_logits(model: Any) -> torch.Tensor:
    texts = [" ".join(text.split()[:30]) for text in make_texts(24, seed=SEED + 1)]
    words = [[word for word, *_ in model.data_processor.words_splitter(text)] for text in texts]
    batch = model.collate_batch(
        [{"tokenized_text": row, "ner": None} for row in words], list(LABELS), model.create_collator()
    )
    logits = model.run_batch(batch, threshold=0.5).logits
    return torch.cat([row[: len(text)].flatten() for row, text in zip(logits, words, strict=True)])


def load_medium(folder: Path) -> Any:
    """Return the model as gliner's users load it."""
    return GLiNER.from_pretrained(str(folder), local_files_only=True)


if __name__ == "__main__":
    print(medium_folder())
