"""What stands on the last hidden states, by kind; a function of (hidden, pooled, word table, mask) for each.

pooler            one dense layer and tanh over the first position: the pooled output
lm                [dense, activation, norm,] then the vocabulary, at every position; the table may be the word embeddings'
stem              dense, activation and perhaps a norm at every position; `lm`, `classed` and `stemmed` heads stand on it
classed           one linear layer over the text, pooled as the configuration says (`Traits.pooling`)
stemmed           one linear layer at every position, over the stem
pooled            one linear layer over the pooled output (the first position where there is no pooler)
tokens            one linear layer at every position
spans             a linear layer each for where a span starts and where it ends, at every position: two numbers (UIE, before its sigmoid)
answers           a feed-forward with its norm, then two numbers at every position; positions of the question but the first are out of it
                  (BigBird: the question is what comes before the first separator)
pooled_or_tokens  `pooled` where the model has a pooler, else `tokens` (transformers' two classes with one name; the one that
                  a configuration names decides)
first             dense, tanh, linear over the first position (RoBERTa's classification head)
ended             the same over the position at which the encoder's tokens end (T5's classification head)
summary           dense and an activation over the first position; what stands on it takes it for the pooled output
last              one linear layer at the last position that is no padding (GPT-2's score)
entities          as `lm`, at every entity and of the table of entities (LUKE); only where entities are given
in_parts          the vocabulary in parts: a first, with a number more for each further one, and the others; logarithms of probabilities
                  (Transformer-XL's adaptive softmax)
detector          dense, activation, linear to one number at every position (ELECTRA's discriminator)
kept              loaded and kept, not run (a head that needs an answer to give another, or the embeddings' projection)
"""

from __future__ import annotations

from typing import Any

from .blocks import activate, capped
from .masks import before
from .spec import Spec


def has(node: Any, name: str) -> bool:
    """Whether a head has a module; one that is a module itself has none."""
    return bool(node.has(name)) if hasattr(node, "has") else False


def pooler(ops: Any, spec: Spec, node: Any, hidden: Any) -> Any:
    return ops.tanh(node(hidden[:, 0]))


def lm(ops: Any, spec: Spec, node: Any, hidden: Any, table: Any, activation: str) -> Any:
    x = hidden
    if has(node, "transform"):
        x = activate(ops, activation, node.transform(x))
    if has(node, "norm"):
        x = node.norm(x)
    if spec.head_scaled:
        x = x * spec.sizes["hidden"] ** -0.5
    leaf = node.decoder if has(node, "decoder") else node
    if has(node, "wide"):  # the table has the first columns only
        logits = ops.linear(leaf, x[..., : spec.sizes["embedding"]], table) + node.wide(x[..., spec.sizes["embedding"] :])
    else:
        logits = ops.linear(leaf, x, table)
    if spec.traits.head_normed:
        rows = table if getattr(leaf, "tied", False) else leaf.weight
        logits = logits / ops.maximum(ops.sum(ops.square(rows), axis=-1) ** 0.5, 1e-12)
    scale = float(str(spec.traits.logit_scale)) / float(str(spec.traits.logit_divisor))
    return capped(ops, logits if scale == 1 else logits * scale, spec.traits.logit_cap)


def stem(ops: Any, spec: Spec, node: Any, hidden: Any, activation: str) -> Any:
    alone = not has(node, "transform")  # a stem of one module is that module
    x = activate(ops, activation, (node if alone else node.transform)(hidden))
    return node.norm(x) if has(node, "norm") else x


def mean(ops: Any, spec: Spec, node: Any, x: Any, mask: Any = None) -> Any:
    """The mean of real positions, [batch, width]."""
    if mask is None:
        return ops.mean(x, axis=1)
    real = ops.expand_dims(ops.cast(mask != 0, x.dtype), -1)
    return ops.sum(x * real, axis=1) / ops.sum(real, axis=1)


def first(ops: Any, spec: Spec, node: Any, hidden: Any, activation: str = "") -> Any:
    return node.output(node.drop(activate(ops, activation or "tanh", node.dense(node.drop(hidden[:, 0])))))


def spans(ops: Any, spec: Spec, node: Any, hidden: Any) -> Any:
    return ops.concatenate((node.start(hidden), node.end(hidden)), axis=-1)


def answers(ops: Any, spec: Spec, node: Any, hidden: Any, ids: Any) -> Any:
    x = node.norm(node.dense(activate(ops, str(spec.traits.activation), node.intermediate(hidden))) + hidden)
    place = ops.expand_dims(ops.arange(ops.shape(ids)[1]), 0)
    length = ops.sum(before(ids, int(str(spec.traits.sep)), ops=ops), axis=1)
    length = ops.expand_dims(ops.cast(length < ops.shape(ids)[1], "int32") * length, 1)  # without a separator the first position alone
    asked = ops.cast((place <= length) & (place > 0), x.dtype)
    return node.output(x) - ops.expand_dims(asked, -1) * 1e6


def ended(ops: Any, spec: Spec, node: Any, hidden: Any, ids: Any) -> Any:
    return first(ops, spec, node, at_last(ops, hidden, ids == int(str(spec.traits.eos))))


def at_last(ops: Any, hidden: Any, marked: Any) -> Any:
    """The hidden states, [batch, 1, width], at the last position that is marked."""
    at = ops.max(ops.cast(marked, "int32") * ops.expand_dims(ops.arange(ops.shape(marked)[1]), 0), axis=1)
    return ops.take_along_axis(hidden, ops.expand_dims(ops.expand_dims(at, -1), -1), axis=1)


def summary(ops: Any, spec: Spec, node: Any, hidden: Any, activation: str = "") -> Any:
    return activate(ops, activation or "tanh", node(hidden[:, 0]))


def detector(ops: Any, spec: Spec, node: Any, hidden: Any) -> Any:
    return node.output(activate(ops, str(spec.traits.activation), node.dense(hidden)))[..., 0]


def in_parts(ops: Any, spec: Spec, node: Any, hidden: Any, tables: tuple[Any, ...]) -> Any:
    parts = [getattr(node.parts, str(i)) for i in range(spec.sizes["parts"])]
    each = len(tables) // len(parts)

    def scores(number: int) -> Any:
        x = hidden
        if each == 2:
            x = ops.matmul(x, ops.held(parts[number], "project", tables[2 * number + 1]))
        return ops.linear(parts[number].output, x, tables[each * number])

    first = scores(0)
    if not node.has("tails"):
        return ops.log_softmax(first, axis=-1)
    tail_x = ops.matmul(hidden, ops.held(parts[0], "project", tables[1])) if each == 2 else hidden
    tails = ops.matmul(tail_x, ops.transpose(node.held("tails"), (1, 0))) + node.held("tails_bias")
    borders: Any = spec.traits.cutoffs
    whole = len(parts) == 1  # one table, of which the parts are rows
    ends = [*borders, first.shape[-1] if whole else None]
    short = first[..., : borders[0]]
    chances = ops.log_softmax(ops.concatenate((short, tails), axis=-1), axis=-1)
    out = [chances[..., : borders[0]]]
    for i in range(1, len(borders) + 1):
        own = first[..., borders[i - 1] : ends[i]] if whole else scores(i)
        at = borders[0] + i - 1
        out.append(chances[..., at : at + 1] + ops.log_softmax(own, axis=-1))
    return ops.concatenate(out, axis=-1)
