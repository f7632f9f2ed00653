"""What stands on the last hidden states, by kind; a function of (hidden, pooled, word table, mask) for each.

pooler            one dense layer and tanh over the first position: the pooled output
lm                [dense, activation, norm,] then the vocabulary, at every position; the table may be the word embeddings'
pooled            one linear layer over the pooled output (the first position where there is no pooler)
tokens            one linear layer at every position
pooled_or_tokens  `pooled` where the model has a pooler, else `tokens` (transformers' two classes with one name)
first             dense, tanh, linear over the first position (RoBERTa's classification head)
last              one linear layer at the last position that is no padding (GPT-2's score)
detector          dense, activation, linear to one number at every position (ELECTRA's discriminator)
"""

from __future__ import annotations

from typing import Any

from .blocks import activate
from .spec import Spec


def pooler(ops: Any, spec: Spec, node: Any, hidden: Any) -> Any:
    return ops.tanh(node(hidden[:, 0]))


def lm(ops: Any, spec: Spec, node: Any, hidden: Any, table: Any) -> Any:
    x = hidden
    if node.has("transform"):
        x = activate(ops, str(spec.traits.activation), node.transform(x))
    if node.has("norm"):
        x = node.norm(x)
    scale = float(str(spec.traits.head_scale))
    if scale != 1.0:
        x = x * scale
    return ops.linear(node.decoder if node.has("decoder") else node, x, table)


def first(ops: Any, spec: Spec, node: Any, hidden: Any) -> Any:
    return node.output(node.drop(ops.tanh(node.dense(node.drop(hidden[:, 0])))))


def detector(ops: Any, spec: Spec, node: Any, hidden: Any) -> Any:
    return node.output(activate(ops, str(spec.traits.activation), node.dense(hidden)))[..., 0]
