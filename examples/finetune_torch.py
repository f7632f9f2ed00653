"""Fine-tuning a rebuilt BERT in PyTorch: the lower half frozen, a new head, data in the file format of CLUE (TNEWS, AFQMC).

    python examples/finetune_torch.py CONFIG CHECKPOINT VOCAB [DATA]

DATA is a folder with train.json and labels.json as CLUE has them, one JSON object a line: {"label": "100", "sentence": ...}
or {"label": "0", "sentence1": ..., "sentence2": ...}; the folder beside this file holds a small sample.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch

import ckptkit

EPOCHS, BATCH, RATE, LENGTH = 3, 8, 5e-5, 128


def read(folder: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of train.json and the labels, in labels.json's order."""
    rows = [json.loads(line) for line in (folder / "train.json").read_text(encoding="utf-8").splitlines() if line]
    labels = [json.loads(line)["label"] for line in (folder / "labels.json").read_text(encoding="utf-8").splitlines() if line]
    return rows, labels


def encode(row: dict[str, str], vocab: dict[str, int], size: int) -> tuple[list[int], list[int]]:
    """(token ids, segments) of a row, a token a character: [CLS] sentence [SEP] or [CLS] one [SEP] two [SEP]."""
    ids, segments = [vocab["[CLS]"]], [0]
    parts = [row["sentence"]] if "sentence" in row else [row["sentence1"], row["sentence2"]]
    for segment, text in enumerate(parts):
        tokens = [vocab.get(c, vocab["[UNK]"]) % size for c in text.lower()][: (LENGTH - 3) // len(parts)]
        ids += [*tokens, vocab["[SEP]"]]
        segments += [segment] * (len(tokens) + 1)
    return ids, segments


def padded(lists: list[list[int]]) -> torch.Tensor:
    width = max(map(len, lists))
    return torch.tensor([x + [0] * (width - len(x)) for x in lists])


def main(config: str, checkpoint: str, vocabulary: str, data: str | None = None) -> tuple[list[float], torch.nn.Module]:
    """Train; the mean loss of every epoch, and the model."""
    rows, labels = read(Path(data) if data else Path(__file__).parent / "data" / "tnews")
    vocab = {word: i for i, word in enumerate(Path(vocabulary).read_text(encoding="utf-8").splitlines())}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        freeze = ["embeddings", f"encoder.layers.0-{json.loads(Path(config).read_bytes())['num_hidden_layers'] // 2 - 1}"]
        model = ckptkit.build_transformer_model(
            config, checkpoint, with_pool=True, heads=["classifier"], labels=len(labels), freeze=freeze, seed=1
        )
    print(*(str(w.message) for w in said), sep="\n")
    size = model.spec.sizes["vocab"]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    torch.manual_seed(1)
    model.train()
    losses = []
    for epoch in range(EPOCHS):
        total = 0.0
        for at in torch.randperm(len(rows)).split(BATCH):
            ids, segments = zip(*(encode(rows[int(i)], vocab, size) for i in at), strict=True)
            mask = padded([[1] * len(x) for x in ids])
            target = torch.tensor([labels.index(rows[int(i)]["label"]) for i in at])
            loss = torch.nn.functional.cross_entropy(model(padded(list(ids)), padded(list(segments)), mask)["classifier"], target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(at)
        losses.append(total / len(rows))
        print(f"epoch {epoch + 1}: loss {losses[-1]:.4f}")
    return losses, model


if __name__ == "__main__":
    main(*sys.argv[1:])
