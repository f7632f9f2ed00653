"""Fine-tuning in PyTorch on CLUE's tasks, over any encoder or decoder that ckptkit builds: the lower half frozen, a new head.

    python examples/finetune_torch.py bert-hf/ --task tnews --vocab bert-hf/vocab.txt
    python examples/finetune_torch.py fixtures/made/bert-hf --task cmrc --epochs 40 --rate 0.01 --length 64 --no-dropout

It prints how the loss falls and how much of the sample is right, which it learns by heart. The data are examples/data, see clue.py.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from arguments import Arguments, given, parse
from clue import HEADS, Tokens, batch, example, lower_half, read, right, room

import ckptkit


def loss_of(said: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Of classes [batch, classes]; of spans [batch, length, 2] the mean of that of the first and the last position."""
    return torch.nn.functional.cross_entropy(said, target)


def main(a: Arguments) -> tuple[list[float], list[float], Any]:
    """Train; (the loss of every epoch, the share that was right after it, the model)."""
    rows, labels = read(a.task, a.data)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = ckptkit.build_transformer_model(
            a.config, a.checkpoint, a.model, heads=[HEADS[a.task]],
            labels=len(labels) or None, freeze=lower_half(a.checkpoint, a.config), seed=1, given=given(a),
        )  # fmt: skip
    print(*(str(w.message) for w in said), sep="\n")
    head, length = model.asked[HEADS[a.task]], room(model, a.length)
    tokens = Tokens(a.vocab, rows, model.spec.sizes["vocab"])
    examples = [example(r, tokens, labels, length) for r in rows]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=a.rate)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, a.epochs)
    torch.manual_seed(1)
    losses, shares = [], []
    for epoch in range(a.epochs):
        total = 0.0
        model.train()
        for at in torch.randperm(len(examples)).split(a.batch):
            inputs, target = batch([examples[int(i)] for i in at], model.spec.has("embeddings.segment"))
            answer = model(**{k: torch.from_numpy(v).long() for k, v in inputs.items()})[head]
            loss = loss_of(answer, torch.from_numpy(target))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(at)
        decay.step()
        model.eval()
        with torch.no_grad():
            inputs, target = batch(examples, model.spec.has("embeddings.segment"))
            answer = model(**{k: torch.from_numpy(v).long() for k, v in inputs.items()})[head]
        losses.append(total / len(examples))
        shares.append(right(answer.numpy(), target) / len(examples))
        print(f"epoch {epoch + 1}: loss {losses[-1]:.4f}, {shares[-1]:.0%} of the sample right")
    return losses, shares, model


if __name__ == "__main__":
    main(parse(__doc__))
