"""Fine-tuning a rebuilt BERT in Keras: the lower half frozen, a new head, data in the file format of CLUE (TNEWS, AFQMC).

    python examples/finetune_keras.py CONFIG CHECKPOINT VOCAB [DATA]

DATA is a folder with train.json and labels.json, see finetune_torch.py.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

import ckptkit

EPOCHS, BATCH, RATE, LENGTH = 3, 8, 5e-5, 128


def read(folder: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of train.json and the labels, in labels.json's order."""
    rows = [json.loads(line) for line in (folder / "train.json").read_text(encoding="utf-8").splitlines() if line]
    labels = [json.loads(line)["label"] for line in (folder / "labels.json").read_text(encoding="utf-8").splitlines() if line]
    return rows, labels


def encode(row: dict[str, str], vocab: dict[str, int], size: int) -> tuple[list[int], list[int]]:
    """(token ids, segments) of a row, a token a character, padded to LENGTH."""
    ids, segments = [vocab["[CLS]"]], [0]
    parts = [row["sentence"]] if "sentence" in row else [row["sentence1"], row["sentence2"]]
    for segment, text in enumerate(parts):
        tokens = [vocab.get(c, vocab["[UNK]"]) % size for c in text.lower()][: (LENGTH - 3) // len(parts)]
        ids += [*tokens, vocab["[SEP]"]]
        segments += [segment] * (len(tokens) + 1)
    return ids + [0] * (LENGTH - len(ids)), segments + [0] * (LENGTH - len(ids))


def main(config: str, checkpoint: str, vocabulary: str, data: str | None = None) -> tuple[list[float], Any]:
    """Train; the mean loss of every epoch, and the rebuilt model."""
    rows, labels = read(Path(data) if data else Path(__file__).parent / "data" / "tnews")
    vocab = {word: i for i, word in enumerate(Path(vocabulary).read_text(encoding="utf-8").splitlines())}
    keras.utils.set_random_seed(1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        layers = json.loads(Path(config).read_text(encoding="utf-8"))["num_hidden_layers"]
        model = ckptkit.build_transformer_model(
            config, checkpoint, framework="keras", with_pool=True, heads=["classifier"], labels=len(labels),
            freeze=["embeddings", f"encoder.layers.0-{layers // 2 - 1}"], seed=1,
        )  # fmt: skip
    print(*(str(w.message) for w in said), sep="\n")
    ids, segments = (np.array(x) for x in zip(*(encode(r, vocab, model.spec.sizes["vocab"]) for r in rows), strict=True))
    inputs = {"input_ids": ids, "token_type_ids": segments, "attention_mask": (ids != 0).astype("int32")}
    target = np.array([labels.index(r["label"]) for r in rows])
    trained = keras.Model(model.input, model.output["classifier"])
    trained.compile(keras.optimizers.AdamW(RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    done = trained.fit(inputs, target, BATCH, EPOCHS, verbose=2)
    return done.history["loss"], model


if __name__ == "__main__":
    main(*sys.argv[1:])
