"""Fine-tuning in Keras on CLUE's tasks, over any encoder or decoder that ckptkit builds: the lower half frozen, a new head.

    python examples/finetune_keras.py bert-hf/ --task tnews --vocab bert-hf/vocab.txt
    python examples/finetune_keras.py fixtures/made/bert-hf --task cmrc --epochs 40 --rate 0.01 --length 64 --no-dropout

It prints how the loss falls and how much of the sample is right, which it learns by heart. The data are examples/data, see clue.py.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from arguments import Arguments, given, parse
from clue import HEADS, Tokens, batch, example, lower_half, read, right, room

import ckptkit


class Told(keras.callbacks.Callback):
    """Says after every epoch how much of the sample is right."""

    def __init__(self, inputs: dict[str, np.ndarray], targets: np.ndarray, size: int) -> None:
        super().__init__()
        self.inputs, self.targets, self.size = inputs, targets, size
        self.shares: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        said = np.concatenate([
            self.model.predict_on_batch({k: v[at : at + self.size] for k, v in self.inputs.items()})
            for at in range(0, len(self.targets), self.size)
        ])  # fmt: skip
        self.shares.append(right(said, self.targets) / len(self.targets))
        print(f"epoch {epoch + 1}: loss {(logs or {})['loss']:.4f}, {self.shares[-1]:.0%} of the sample right")


def loss_of(target: Any, said: Any) -> Any:
    """Of classes [batch, classes]; of spans [batch, length, 2] the mean of that of the first and the last position."""
    if len(said.shape) == 3:
        said = keras.ops.transpose(said, (0, 2, 1))
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(target, said, from_logits=True))


def main(a: Arguments) -> tuple[list[float], list[float], Any]:
    """Train; (the loss of every epoch, the share that was right after it, the model)."""
    rows, labels = read(a.task, a.data)
    keras.utils.set_random_seed(1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = ckptkit.build_transformer_model(
            a.config, a.checkpoint, a.model, framework="keras", heads=[HEADS[a.task]],
            labels=len(labels) or None, freeze=lower_half(a.checkpoint, a.config), seed=1, given=given(a),
        )  # fmt: skip
    print(*(str(w.message) for w in said), sep="\n")
    head, length = model.asked[HEADS[a.task]], room(model, a.length)
    tokens = Tokens(a.vocab, rows, model.spec.sizes["vocab"])
    inputs, targets = batch([example(r, tokens, labels, length) for r in rows], model.spec.has("embeddings.segment"))
    trained = keras.Model(model.input, model.output[head])
    decay = keras.optimizers.schedules.PolynomialDecay(a.rate, a.epochs * -(-len(rows) // a.batch), a.rate * 0.05)
    trained.compile(keras.optimizers.AdamW(decay), loss_of)
    told = Told(inputs, targets, a.batch)
    done = trained.fit(inputs, targets, a.batch, a.epochs, verbose=0, callbacks=[told])
    return done.history["loss"], told.shares, model


if __name__ == "__main__":
    main(parse(__doc__))
