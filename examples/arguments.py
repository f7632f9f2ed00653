"""The command line of the examples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from clue import LABELS


class Arguments(NamedTuple):
    checkpoint: str
    task: str = "tnews"
    config: str | None = None
    vocab: Path | None = None
    model: str | None = None
    data: Path | None = None
    epochs: int = 20
    batch: int = 16
    rate: float = 1e-4
    length: int = 128
    dropout: bool = True


def given(a: Arguments) -> dict[str, object]:
    """What is set of the model by hand."""
    return {} if a.dropout else {"dropout": 0.0, "attention_dropout": 0.0}


def parse(what: str | None) -> Arguments:
    p = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint", help="a checkpoint in any form that ckptkit reads")
    p.add_argument("--task", choices=LABELS, default="tnews")
    p.add_argument("--config", help="its configuration, if it does not lie beside it")
    p.add_argument("--vocab", type=Path, help="vocab.txt or tokenizer.json; without it the characters of the sample, to try out")
    p.add_argument("--model", help="what it must be, in transformers', bert4keras' or bert4torch's word: bert, roformer_v2, ...")
    p.add_argument("--data", type=Path, help="a folder with the task's train.json; without it the sample")
    p.add_argument("--epochs", type=int, default=20)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--rate", type=float, default=1e-4)
    p.add_argument("--length", type=int, default=128, help="tokens of a row at most")
    p.add_argument("--no-dropout", dest="dropout", action="store_false", help="for models too small to learn through it")
    return Arguments(**vars(p.parse_args()))
