"""A hub model as urchade's v2.1 are: weights and a configuration, and the tokenizer in another repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import sentencepiece
from gliner import GLiNER

from tests.conftest import ROOT
from tests.support.servers.hub import commit, hub
from worker.model.engine import EngineOptions, load_model
from worker.model.sources.resolve import Resolved, resolve_model

DEBERTA = {
    "model_type": "deberta-v2", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 64, "vocab_size": 100, "max_position_embeddings": 64, "relative_attention": True,
    "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p",
    "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip
"""microsoft/deberta-v3-base's configuration, but small."""
TINY = {"hidden_size": 32, "max_len": 64, "max_width": 4, "dropout": 0.0, "span_mode": "markerV0"}
TEXT = "Ada Lovelace worked with Charles Babbage in London"


def make_backbone(folder: Path) -> None:
    """Write a repository like the backbone's: a SentencePiece model, and no tokenizer class named."""
    folder.mkdir()
    words = f"{TEXT} person place".split()
    corpus = folder.parent / "corpus.txt"
    corpus.write_text("\n".join(" ".join(words[n:] + words[:n]) for n in range(len(words))))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spm"), vocab_size=60, hard_vocab_limit=False, minloglevel=2,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]",
        unk_piece="[UNK]",
    )  # fmt: skip
    (folder / "spm.vocab").unlink()
    (folder / "config.json").write_text(json.dumps(DEBERTA))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))


def make_whole(backbone: Path, folder: Path) -> Path:
    """Make a small model of this backbone, with the tokens that gliner adds to its tokenizer."""
    config: dict[str, Any] = TINY | {"model_name": str(backbone)}
    GLiNER.from_config(config, backbone_from_pretrained=False).save_pretrained(folder, safe_serialization=True)
    return folder


def make_bare(whole: Path, folder: Path) -> None:
    """Write the model as the hub has it: no tokenizer, no encoder, the backbone by name."""
    folder.mkdir()
    config = json.loads((whole / "gliner_config.json").read_text())
    del config["encoder_config"]
    (folder / "gliner_config.json").write_text(json.dumps(config | {"model_name": "owner/backbone"}))
    shutil.copy(whole / "model.safetensors", folder)


def _fetched(url: str, tmp_path: Path, *revisions: str) -> dict[str, str]:
    code = (
        "import sys, pathlib; from worker.model.sources.resolve import SourceOptions, resolve_model;"
        "options = SourceOptions(sys.argv[3] or None);"
        "found = resolve_model('owner/bare', sys.argv[2] or None, pathlib.Path(sys.argv[1]), options);"
        "print(found.folder, found.revision)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_ENDPOINT": url}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cache"), *revisions],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    folder, revision = run.stdout.split()
    return {"folder": folder, "revision": revision}


def test_it_becomes_whole_and_answers_the_same(tmp_path: Path) -> None:
    """Tokenizer and encoder come with the model, pinned, without a backbone's weights; then no hub is needed."""
    make_backbone(tmp_path / "backbone")
    make_bare(make_whole(tmp_path / "backbone", tmp_path / "whole"), tmp_path / "bare")
    model = GLiNER.from_pretrained(str(tmp_path / "whole"), local_files_only=True)

    with hub({"owner/bare": tmp_path / "bare", "owner/backbone": tmp_path / "backbone"}) as url:
        fetched = _fetched(url, tmp_path, commit("owner/bare"), commit("owner/backbone"))
        assert _fetched(url, tmp_path, "", "") == fetched
    assert fetched["revision"] == commit("owner/bare")

    folder = Path(fetched["folder"])
    baked = Path(shutil.copytree(folder, tmp_path / "baked"))  # as an image takes it: files, not links
    assert not any(path.is_symlink() for path in baked.iterdir())
    assert resolve_model(str(baked), None, tmp_path).folder == baked
    expected = model.predict_entities(TEXT, ["person", "place"], threshold=0.0)
    assert expected
    for model_folder in (folder, baked):
        again = GLiNER.from_pretrained(str(model_folder), local_files_only=True)
        assert again.predict_entities(TEXT, ["person", "place"], threshold=0.0) == expected
    assert load_model(Resolved(folder, "r"), EngineOptions("cpu", "fp32", "torch")).spec.revision == "r"
