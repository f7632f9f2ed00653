"""From token ids through embeddings, blocks and heads: one assembly for every architecture and both frameworks.

`run(role, path, *arrays, **options)` runs a function of `ROLES` with the node at `path`: in PyTorch at once, in Keras as a layer of a
functional model. Everything that computes goes through it, so both do the same in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import UndecidedError
from ..schema.traits import Head, head
from . import ahead, blocks, compressed, embedding, experts, halving, heads, masks, mixers, recall, sentence, sparse, streams
from . import entities as beside
from . import positions as computed
from .convolution import convolved
from .gated_unit import gated_unit
from .indexer import indexed
from .one_stack import encoded
from .rotary import table
from .side import side
from .spec import Spec
from .xl import far

Run = Callable[..., Any]
GIVEN = ("hidden", "encoder", "entities", "sentence", "ahead", "lm_ahead", "mems")  # what a model gives beside its heads
APPLICATIONS = ("encoder", "lm", "unilm")


def visible(
    ops: Any, spec: Spec, node: Any, ids: Any, mask: Any = None, segments: Any = None, marked: Any = None, *,
    application: str = "encoder", window: int = 0,
) -> Any:  # fmt: skip
    """The attention mask [batch or 1, 1, query or 1, key]: padding (or the caller's own matrix) and what the application hides.

    `window`: how far back a position sees, 0 for all of the past; `marked`: [batch, position], what all see besides their window.
    """
    seen = None
    if mask is not None:
        seen = masks.padding(mask, ops=ops) if len(mask.shape) == 2 else mask != 0
    rule = None
    if application == "lm":
        length = ops.shape(ids)[1]
        if window and spec.traits.window_kind == "chunk":
            rule = masks.chunk(length, window, mask if mask is not None and len(mask.shape) == 2 else None, ops=ops)
        else:
            rule = masks.window(length, window, ops=ops) if window else masks.causal(length, ops=ops)
        if spec.traits.prefix is not None:
            rule = masks.prefixed(ids, _token(spec.traits.prefix), ops=ops)
    elif application == "encoder" and window:
        rule = masks.around(ops.shape(ids)[1], window if spec.traits.window_kind == "radius" else window // 2, ops=ops)
        rule = rule if marked is None else rule | ops.expand_dims(marked != 0, 1)
    elif application == "encoder" and sparse.applies(spec):
        rule = sparse.seen(ops, spec, ops.shape(ids)[1])
    elif application == "unilm":
        rule = masks.sequence_to_sequence(ops.zeros_like(ids) if segments is None else segments, ops=ops)
    if seen is None and rule is None:
        seen = ops.expand_dims(ids == ids if len(ids.shape) == 2 else ids[:, :, 0] == ids[:, :, 0], 1)  # of hidden states, too
    elif rule is not None:
        seen = rule if seen is None else ops.logical_and(seen, rule)
    return ops.expand_dims(seen, 1)


def global_positions(ops: Any, spec: Spec, node: Any, ids: Any, said: Any = None, how: str = "") -> Any:
    """Those that are said, else the first position, or those of a question, or none."""
    if said is not None:
        return said
    if how == "question":
        return masks.before(ids, _token(spec.traits.sep), ops=ops)
    first = ops.cast(ops.expand_dims(ops.arange(ops.shape(ids)[1]) == 0, 0), ids.dtype)
    return ops.zeros_like(ids) + (first if how else ops.zeros_like(first))


def relative(ops: Any, spec: Spec, node: Any, ids: Any, like: Any) -> Any:
    return computed.sinusoids(ops, spec, ops.shape(ids)[1], like.dtype)


def distances(ops: Any, spec: Spec, node: Any, ids: Any) -> Any:
    return node(ops.arange(spec.sizes["distances"]))


def bias(ops: Any, spec: Spec, node: Any, ids: Any, across: Any = None, *, both: bool) -> Any:
    return computed.position_bias(ops, spec, node, ops.shape(ids)[1], both=both, keys=None if across is None else ops.shape(across)[1])


def linear_bias(ops: Any, spec: Spec, node: Any, ids: Any, both: bool) -> Any:
    return computed.position_bias(ops, spec, node, ops.shape(ids)[1], both=both, transposed=True)


def distance_bias(ops: Any, spec: Spec, node: Any, ids: Any, like: Any, mask: Any = None) -> Any:
    return computed.distance_bias(ops, spec, ids, like.dtype, mask)


def angles(ops: Any, spec: Spec, node: Any, ids: Any, like: Any, positions: Any = None, kind: str = "all") -> Any:
    """How every position of a kind of layer is turned (see `rotary.table`)."""
    said: Any = spec.traits.rotary[kind]
    wide = "float64" if "float64" in str(like.dtype) else "float32"
    if spec.traits.rotary_planes == 2:
        slots = tuple(_token(t) for t in (spec.traits.slot, spec.traits.other_slot) if t is not None)
        both = masks.planes(ids, _token(spec.traits.prefix), slots, ops=ops) if positions is None else positions
        return ops.concatenate(tuple(table(ops, said, both[:, i], wide) for i in (0, 1)), axis=-1)
    at = ops.expand_dims(ops.arange(ops.shape(ids)[1]), 0) if positions is None else positions
    return table(ops, said, at, wide)


def _token(said: object) -> int:
    return int(str(said))


def norm(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    return node(x)


def linear(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    return node(x)


def first_linear(ops: Any, spec: Spec, node: Any, hidden: Any) -> Any:
    return node(hidden[:, 0])


def last_linear(ops: Any, spec: Spec, node: Any, hidden: Any, mask: Any = None) -> Any:
    if mask is None:
        return node(hidden[:, -1])
    return node(heads.at_last(ops, hidden, mask != 0)[:, 0])


ROLES: dict[str, Callable[..., Any]] = {
    "embeddings": embedding.embeddings,
    "decoder_embeddings": embedding.decoder_embeddings,
    "attention": compressed.attention,
    "ffn": blocks.ffn,
    "gau": gated_unit,
    "block": streams.block,
    "visible": visible,
    "marked": global_positions,
    "side": side,
    "block_bias": sparse.block_bias,
    "relative": relative,
    "moe": experts.moe,
    "state": mixers.state,
    "indexed": indexed,
    "lent": streams.lent,
    "by_layer": streams.by_layer,
    "spread": streams.spread,
    "gathered": streams.gathered,
    "angles": angles,
    "distances": distances,
    "xl": far,
    "remembered": recall.remembered,
    "past_seen": recall.seen,
    "past_far": recall.far,
    "past": recall.of_layer,
    "renewed": recall.renewed,
    "in_parts": heads.in_parts,
    "halved": halving.halved,
    "halved_mask": halving.halved_mask,
    "halved_far": halving.far,
    "spread_again": halving.spread,
    "conv": convolved,
    "bare_norm": blocks.bare,
    "distance_bias": distance_bias,
    "bias": bias,
    "linear_bias": linear_bias,
    "norm": norm,
    "pooler": heads.pooler,
    "lm": heads.lm,
    "stem": heads.stem,
    "mean": heads.mean,
    "first": heads.first,
    "ended": heads.ended,
    "answers": heads.answers,
    "spans": heads.spans,
    "summary": heads.summary,
    "detector": heads.detector,
    "entity_embeddings": beside.embedded,
    "joined": beside.joined,
    "joined_mask": beside.joined_mask,
    "streams_ahead": ahead.spread,
    "first_stream": ahead.words,
    "other_streams": ahead.further,
    "sentence": sentence.embedded,
    "words": beside.words,
    "entities": beside.entities,
    "linear": linear,
    "first_linear": first_linear,
    "last_linear": last_linear,
}


# a place of this name below a block runs so; others only hold what lies below them
PLACES = ("attention", "ffn", "embeddings", "decoder_embeddings", "moe", "gau", "state", "entity_embeddings")
ROLE_OF_NAME = {n: n for n in PLACES} | {"cross_attention": "attention"}


def flow(run: Run, spec: Spec, inputs: Mapping[str, Any], application: str = "encoder") -> dict[str, Any]:
    """Every array on the way, in order: "embeddings", "encoder.input", "encoder.0", ..., "hidden", then each head by its group.

    `inputs`: input_ids, and as the model has them attention_mask ([batch, key] or [batch, query, key]), token_type_ids,
    position_ids, decoder_input_ids, decoder_attention_mask, entity_ids, entity_attention_mask, entity_token_type_ids, entity_position_ids.
    With entities there are "entities", their last hidden states, and "entities.encoder.0", ...
    """
    out: dict[str, Any] = {}
    ids, mask, segments = inputs["input_ids"], inputs.get("attention_mask"), inputs.get("token_type_ids")
    traits = spec.traits
    by_mask = traits.positions == "masked" or traits.alibi_kind == "place" or bool(traits.token_dropout) or spec.has("encoder.conv")
    counted = (mask,) if by_mask and mask is not None and len(mask.shape) == 2 else ()
    embedded, x, words = run("embeddings", "embeddings", ids, segments, inputs.get("position_ids"), *counted)
    if traits.positions == "xl":
        counted = () if segments is None else (segments,)
    stack = "encoder" if traits.encoder else "decoder"
    kind = "lm" if application == "encoder" and traits.mask == "causal" else application
    out["embeddings"], every = embedded, mask
    joined = inputs.get("entity_ids") is not None and kind == "encoder" and spec.has("entity_embeddings")
    if joined:
        added = (inputs["entity_ids"], inputs.get("entity_position_ids"), inputs.get("entity_token_type_ids"))
        more, listed = run("entity_embeddings", "entity_embeddings", x, *added)
        x = run("joined", "", x, more)
        every = run("joined_mask", "", ids, more, mask, inputs.get("entity_attention_mask"))
    marked = marks(run, spec, ids, inputs.get("global_attention_mask")) if kind == "encoder" else None
    seen: dict[int, Any] = {0: None}
    windows = dict.fromkeys(int(str(layer["window"])) for layer in traits.layers)
    if not any(attends(spec, path) for path in spec.blocks(stack)):
        windows = {}
    elif traits.layers and (kind == "lm" or (kind == "encoder" and traits.window_kind in ("around", "radius"))):
        for window in windows:
            within = {"window": window} if window else {}
            seen[window] = run("visible", "", ids, mask, segments, *((marked,) if marked is not None else ()), application=kind, **within)
    elif not traits.memory:
        seen |= dict.fromkeys((0, *windows), run("visible", "", ids, every, segments, application=kind))
    turned = {
        kind: run("angles", "", ids, x, inputs.get("position_ids"), kind=kind)
        for kind in dict.fromkeys(str(layer["rotary"]) for layer in traits.layers)
        if kind
    }
    mixing = {"padding": mask} if mask is not None and len(mask.shape) == 2 else {}
    if traits.mixer == "recurrent" and inputs.get("position_ids") is not None:
        mixing["positions"] = inputs["position_ids"]
    mixing |= {"entities": more} if joined else {}
    mixing |= _beside(run, spec, ids, mask, marked) | (
        {"added": run("block_bias", "", ids, x)} if sparse.applies(spec) and kind == "encoder" else {}
    )
    own = run("by_layer", "embeddings", ids, embedded) if spec.has("embeddings.by_layer") else None
    x = run("spread", "streams_in" if spec.has("streams_in") else "", x) if traits.streams else x
    if traits.halving:
        x = halving.states(run, spec, kind, (ids, x, seen[0]), inputs, out)
    elif traits.memory:
        x = recall.states(run, spec, kind, (ids, x), inputs, out)
    else:
        x = _stack(run, spec, stack, ids, (x, seen, turned, counted, mixing, own), out, encoded(run, spec, inputs))
    if joined:
        both = {name: a for name, a in out.items() if name.startswith(f"{stack}.")} | {"entities": x}
        out |= {name if name == "entities" else f"entities.{name}": run("entities", "", a, ids) for name, a in both.items()}
        out |= {name: run("words", "", a, ids) for name, a in both.items() if name != "entities"}
        x = run("words", "", x, ids)
    if traits.encoder and traits.decoder and spec.has("decoder"):
        x, words = _decoded(run, spec, inputs, (x, words), out)
        if spec.has("decoder_embeddings.ahead"):
            states = {n: a for n, a in out.items() if n.startswith("decoder.")}
            return out | _ahead(run, spec, x, words, inputs["decoder_input_ids"], states)
    out["hidden"] = x
    _heads(run, spec, x, words, ids, mask, out)
    if traits.sentence:
        of = (mask,) if mask is not None and len(mask.shape) == 2 else ()
        out["sentence"] = run("sentence", "sentence" if spec.has("sentence") else "", x, *of)
    for name, found in heads_of(spec).items():
        if joined and found.kind == "entities":
            out[name] = run("lm", found.path, out["entities"], listed, activation=str(traits.activation))
    return out


def _decoded(run: Run, spec: Spec, inputs: Mapping[str, Any], encoded: tuple[Any, Any], out: dict[str, Any]) -> tuple[Any, Any]:
    """(the last hidden states of the decoder, the table of words): `encoded`, the encoder's."""
    x, words = encoded
    ids, mask, target = inputs["input_ids"], inputs.get("attention_mask"), inputs["decoder_input_ids"]
    out["encoder"] = x
    if spec.has("decoder_embeddings"):
        _, y, words = run("decoder_embeddings", "decoder_embeddings", target, words)
    else:
        _, y, _ = run("embeddings", "embeddings", target)
    sees = run("visible", "", target, inputs.get("decoder_attention_mask"), application="lm")
    memory_seen = run("visible", "", ids, mask) if mask is None or len(mask.shape) == 2 else None
    y = run("streams_ahead", "decoder_embeddings", y) if spec.has("decoder_embeddings.ahead") else y
    return _stack(run, spec, "decoder", target, (y, {0: sees}, {}, (), {}, None), out, (x, memory_seen)), words


def _beside(run: Run, spec: Spec, ids: Any, mask: Any, marked: Any) -> dict[str, Any]:
    """What attention is given besides, as "further": positions that see all, blocks that all see."""
    further = {"marked": (marked, run("visible", "", ids, mask))} if marked is not None else {}
    if spec.has("encoder.global_bias"):
        further["side"] = run("side", "encoder.global_bias", ids, *((mask,) if mask is not None else ()))
    return {"further": further} if further else {}


def _ahead(run: Run, spec: Spec, x: Any, table: Any, ids: Any, states: Mapping[str, Any]) -> dict[str, Any]:
    """What a decoder of several streams gives: "hidden" and "decoder.0" of the words, "ahead" and "ahead.decoder.0" of the others; its head
    of the first of them, and "lm_ahead" of the rest, one after another."""
    out = {name: run("first_stream", "", a, ids) for name, a in states.items()}
    out |= {f"ahead.{name}": run("other_streams", "", a, ids) for name, a in states.items()}
    out["hidden"], out["ahead"] = run("first_stream", "", x, ids), run("other_streams", "", x, ids)
    for name, found in heads_of(spec).items():
        if found.kind == "lm":
            given = {name: run("first_stream", "", out["ahead"], ids)}
            given |= {f"{name}_ahead": run("other_streams", "", out["ahead"], ids)} if ahead.streams(spec) > 1 else {}
            out |= {n: run("lm", found.path, a, table, activation=str(spec.own(name, "activation"))) for n, a in given.items()}
    return out


def marks(run: Run, spec: Spec, ids: Any, said: Any) -> Any:
    """Which positions all see, and which see all, [batch, position]: as it is said, else as a head wants it; None where there are none."""
    if not spec.traits.marks:
        return None
    how = next((how for head, how in spec.traits.marks.items() if head in heads_of(spec)), "")
    return run("marked", "", ids, *((said,) if said is not None else ()), how=how) if how or said is not None else None


def attends(spec: Spec, block: str) -> bool:
    """Whether a block asks which positions it sees: not if a mixer stands in the place of attention."""
    return spec.has(f"{block}.attention.output") or not spec.has(f"{block}.state")


def _stack(
    run: Run,
    spec: Spec,
    stack: str,
    ids: Any,
    given: tuple[Any, Mapping[int, Any], Mapping[str, Any], tuple[Any, ...], Mapping[str, Any], Any],
    out: dict[str, Any],
    memory: tuple[Any, Any] = (None, None),
) -> Any:
    """One stack. `given` is what goes in, what each position of it sees by the window of a layer, how it is turned by the kind of a layer,

    the mask by which positions are counted, what mixers ask besides (which positions are padded, their numbers), and every layer's own
    embedding; `memory` the encoder's output and what is seen of it, for a decoder.
    """
    x, seen, turned, counted, mixing, own = given
    out[f"{stack}.input"] = x
    positions = spec.traits.positions
    far = run("relative", "", ids, x) if positions == "relative" else None
    far = run("xl", "", ids, x, *counted) if positions == "xl" else far
    if spec.has(f"{stack}.distances"):
        far = run("distances", f"{stack}.distances", ids)
        far = run("norm", f"{stack}.distances_norm", far) if spec.has(f"{stack}.distances_norm") else far
    before = x
    added = run("bias", f"{stack}.position_bias", ids, both=stack == "encoder") if spec.has(f"{stack}.position_bias") else None
    if spec.has(f"{stack}.relative"):
        added = run("linear_bias", f"{stack}.relative", ids, both=stack == "encoder")
    added = mixing.get("added", added)
    if spec.traits.alibi:
        added = run("distance_bias", "", ids, x, *counted)
    crosses = memory[0] is not None and spec.traits.cross_distances
    crossing = run("bias", f"{stack}.position_bias", ids, memory[0], both=False) if crosses else None
    chosen = None
    lent: dict[int, Any] = {}
    lends = {int(str(layer["keys"])) for layer in spec.traits.layers if "keys" in layer}
    for i, path in enumerate(spec.blocks(stack)):
        second = stack == "decoder" and spec.traits.encoder  # windows and turns are said of the first stack
        at: Mapping[str, Any] = {"window": 0, "rotary": ""} if second else spec.layer(i)
        more = (turned[at["rotary"]],) if at["rotary"] else ()
        sees = seen.get(at["window"])
        if spec.traits.index_count and spec.has(f"{path}.attention.latent"):
            if spec.has(f"{path}.attention.indexer"):
                chosen = run("indexed", path, x, sees, *more)
            if chosen is None:
                raise UndecidedError(f"{path} has no indexer, and there is none before it whose choice it could share")
            sees = chosen
        if i in lends and not second:
            lent[i] = run("lent", path, x, *more)
        options = dict(mixing) if spec.has(f"{path}.state") else {}
        options |= {n: mixing[n] for n in ("entities", "further") if n in mixing and not second}
        options |= {"keys": lent[at["keys"]]} if "keys" in at else {}
        options |= {"ids": ids} if spec.has(f"{path}.moe.table") else {}
        options |= {"own": own} if own is not None and not second else {"crossing": crossing} if crossing is not None else {}
        given_too = (sees, added, far, *memory, *more) if attends(spec, path) else ()
        x = run("block", path, x, *given_too, **options)
        if i == 0 and spec.has(f"{stack}.conv"):
            x = run("conv", f"{stack}.conv", x, before, *counted)
        out[f"{stack}.{i}"] = x
    if spec.traits.streams:
        x = run("gathered", "streams_out", x)
    if spec.has(f"{stack}.norm") or (spec.traits.bare_norm and spec.traits.norm == "before"):
        x = run("norm", f"{stack}.norm", x) if spec.has(f"{stack}.norm") else run("bare_norm", "", x)
        out[f"{stack}.norm"] = x
    if spec.has(f"{stack}.project"):
        x = run("linear", f"{stack}.project", x)
    return x


def _heads(run: Run, spec: Spec, hidden: Any, table: Any, ids: Any, mask: Any, out: dict[str, Any]) -> None:
    pooled = stem = None
    order = ("stem", "pooler", "summary")
    for name, (kind, path, activation) in sorted(heads_of(spec).items(), key=lambda h: h[1].kind not in order):
        activation = str(spec.traits.activation) if activation == "=activation" else activation
        activation = activation or str(spec.traits.own.get(name, {}).get("activation") or "")
        if kind == "pooled_or_tokens":
            kind = "pooled" if pooled is not None else "tokens"
        if kind == "stem":
            stem = partial(run, "stem", path, activation=str(spec.own(name, "activation")))
        elif kind == "pooler":
            pooled = out[name] = run("pooler", path, hidden)
        elif kind == "summary":
            pooled = out[name] = run("summary", path, hidden, activation=activation)
        elif kind == "lm":
            given = hidden if stem is None else stem(hidden)
            out[name] = run("lm", path, given, table, activation=str(spec.own(name, "activation")))
        elif kind == "in_parts":
            out[name] = run("in_parts", path, hidden, table)
        elif kind in ("classed", "stemmed"):
            out[name] = _classed(run, spec, kind, path, stem or (lambda x: x), hidden, mask)
        elif kind == "pooled":
            out[name] = run("linear", path, pooled) if pooled is not None else run("first_linear", path, hidden)
        elif kind == "tokens":
            out[name] = run("linear", path, hidden)
        elif kind == "last":
            out[name] = run("last_linear", path, hidden, mask)
        elif kind == "first":
            out[name] = run("first", path, hidden, activation=activation)
        elif kind in ("ended", "answers", "detector", "spans"):
            out[name] = run(kind, path, hidden, *((ids,) if kind in ("ended", "answers") else ()))


def _classed(run: Run, spec: Spec, kind: str, path: str, stem: Callable[[Any], Any], hidden: Any, mask: Any) -> Any:
    """What a head gives that stands on a stem: at every position, or of the text as `Traits.pooling` says."""
    how = spec.traits.pooling
    counted = (mask,) if mask is not None and len(mask.shape) == 2 else ()
    if kind == "stemmed" or how == "late":
        given = run("linear", path, stem(hidden))
        return given if kind == "stemmed" else run("mean", "", given, *counted)
    if how == "mean":
        return run("linear", path, stem(run("mean", "", hidden, *counted)))
    if how not in ("cls", "bos"):
        raise UndecidedError(f"it is not known here how a text is pooled by {how!r}", hint="one of cls, bos, mean, late")
    return run("first_linear", path, stem(hidden))


def heads_of(spec: Spec) -> dict[str, Head]:
    """The heads that a model has, each with the path of its module or of what its modules lie under."""
    out = {}
    for name, text in spec.traits.heads.items():
        found = head(text)
        paths = [leaf.path for leaf in spec.leaves if leaf.path == found.path or (not found.path and leaf.group == name)]
        if paths:
            path = paths[0] if len(paths) == 1 else paths[0].rpartition(".")[0]
            out[name] = found._replace(path=path)
        elif found.path and spec.has(found.path):  # of several places
            out[name] = found
    return out
