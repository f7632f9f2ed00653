"""Forward traits: the words in which an architecture file says how its parameters make a model run.

An architecture's `traits` is a mapping of these fields; what it leaves out has the default. A value `"=activation"` is
the canonical configuration value of that name. Which projections, gates, norms and biases a block has is never said
twice: it follows from the modules that are there.
"""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import NamedTuple
from .layout import LayoutError
from .modules import Canonical
from .templates import placeholders


class Head(NamedTuple):
    """A head's kind, the path it lies at ("": where its group does), and its activation ("": the kind's own)."""

    kind: str
    path: str
    activation: str


def head(text: str) -> Head:
    """ "lm at lm_head", "first with gelu" as a Head; "first with =activation": with that of the blocks."""
    kind, *more = text.split()
    said = dict(zip(more[::2], more[1::2], strict=False))
    return Head(kind, said.get("at", ""), said.get("with", ""))


class Traits(NamedTuple):
    """How a model runs. The comments list the words of each field."""

    # template of a block of the encoder: "encoder.layers.{layer}"; several, one after another, with " | " between; "" where there is none
    encoder: str = ""
    decoder: str = ""  # of the decoder; both: the decoder also attends to the encoder
    norm: str = "after"  # after | before: where a block's norms stand
    norm_kind: str = "layer"  # layer | rms | scale: without a norm, but in heads (MobileBERT)
    block_eps: object = None  # of the norms of blocks; None: norm_eps
    grouped: bool = False  # a linear layer may have several groups of rows, each of which sees its share of the columns (SqueezeBERT)
    norm_eps: object = "=norm_eps"
    activation: object = "=activation"
    own: Mapping[str, Mapping[str, object]] = {}  # head -> what it has of its own (activation, norm_eps), where the configuration says so
    attention_heads: str = "heads"  # the axis that counts attention heads
    scaled: object = True  # scores divided by the square root of the head's width
    scaled_by_layer: object = False  # and by the layer's number, from 1
    mask: str = "all"  # all | causal: what a position of the only stack may see besides padding
    # learned | offset (learned, after the row of padding) | counted (after the padding index, padding not counted) |
    # masked (counted by the mask, after `pad`) | relative (sinusoids) | disentangled (DeBERTa's) | bucketed | rotary |
    # sinusoids (after `pad`) | counted_sinusoids (likewise, padding not counted) | waves (from 0) | xl (XLNet's) | none
    positions: str = "learned"
    # mean | max: every stack of `encoder` after the first runs on pairs of positions (Funnel; halving.py); "": none does
    halving: object = ""
    first_apart: object = True  # and the first position is no part of a pair
    truncated: object = True  # and then the last one is cut off
    whole_keys: object = True  # and the first layer of a stack is given all positions for its keys and values
    block_repeats: object = None  # and each layer of a stack runs so often
    restored: str = ""  # and then such blocks run on all positions again
    # so many positions before the text a layer sees as it was given them, zeros where nothing is said of them (Transformer-XL; recall.py)
    memory: object = 0
    memory_window: object = False  # and every position sees as many before it as there are
    cutoffs: object = ()  # the first word of every part of the vocabulary but the first, of an `in_parts` head
    clamp: object = 0  # xl: distances are not told apart beyond it; 0 and less: all are
    distance_kinds: object = ()  # disentangled: c2p, p2c: what weighs distances, as a list or "c2p|p2c"
    shared_keys: object = False  # disentangled: distances go through the projections of queries and keys
    conv_activation: object = "tanh"
    distance: object = 64  # relative: clipped there
    bucket_distance: object = 128  # bucketed: the farthest bucket begins there
    cross_distances: object = False  # bucketed: a decoder adds its table's to the scores of what it sees of the encoder, too
    bucket_count: object = 0  # how many buckets there are, where not as many as the table has rows
    pad: object = 0  # the padding index that `counted` positions begin after
    eos: object = 1  # the token that ends a sequence, at whose last place an `ended` head stands
    projected: str = "embeddings"  # embeddings | sum | words: a projection to the layers' width takes all and normed, all, words alone
    repeats: str = ""  # canonical value that says how often shared blocks run: "layers" (ALBERT)
    pooling: object = "cls"  # cls | bos (the first position) | mean | late (the mean of what is given at each): of a `classed` head
    token_dropout: object = False  # masked tokens are nothing, and the others as much larger as if fewer were there (ESM)
    mask_token: object = None
    heads: Mapping[str, str] = {}  # group -> kind of head (see heads.py), "KIND at PATH", "KIND with ACTIVATION"; "part": no head
    head_scaled: object = False  # hidden states are divided by the root of their width before an lm head; "tied": where it is tied
    only: Mapping[str, int] = {}  # sizes other than which do not run here
    dropout: object = "=dropout"
    attention_dropout: object = "=attention_dropout"
    init: Mapping[str, object] = {}  # glob of parameters -> what a new one starts as, before the usual rules (see initial.py)
    # --- what today's decoders need
    bare_norm: bool = False  # norms without parameters, which are no modules (OLMo); of a model normed after, the embeddings' too
    latent_eps: object = 1e-6  # of the norms inside low-rank attention
    parallel: object = False  # attention and feed-forward side by side, both of what came in
    residual_normed: object = False  # what comes out is added to what the norm gave, not to what came in
    skip_scale: object = 1.0  # of what it is added to
    scales: Mapping[str, object] = {}  # "ffn.out", "state.parts" -> the number, or numbers, that are multiplied there (see scales.py)
    residual_scale: object = 1.0  # of what attention and feed-forward give
    residual_depth: object = 0.0  # and that, over the root of the number of layers
    embedding_scale: object = 1.0  # of the words; "root": the root of their width; "bfloat16 root": rounded to that type
    logit_scale: object = 1.0
    logit_divisor: object = 1.0
    logit_width: object = 0.0  # and logits are divided by the hidden width over that
    head_normed: object = False  # the rows of the head of words are taken at unit length (Baichuan 2)
    logit_cap: object = 0.0  # cap * tanh(x / cap)
    score_scale: object = 0.0  # what scores are multiplied by; 0: as `scaled` says
    score_scale_of: object = 0.0  # a number by whose root they are divided
    score_growth: object = 1.0  # and multiplied by, beside their usual scale; "yarn": as YaRN's configuration says, squared
    attention_cap: object = 0.0
    unit_heads: object = False  # queries and keys that were turned are divided by the root of their mean square
    temperature: object = (
        False  # queries of layers that are not turned grow with their position: 1 + scale * log(1 + floor((at + 1) / floor))
    )
    temperature_floor: object = 1.0
    temperature_scale: object = 0.0
    clip: object = 0.0  # queries, keys and values are cut off there
    qk_norm: str = "before"  # before | after: norms of queries and keys before or after they are turned
    pairs: str = "half"  # half | interleaved: a column is turned with the one half a head further on, or with the next
    rotary: Mapping[str, object] = {}  # kind of layer (all | full | sliding) -> the canonical values of its angles begin so: "rope"
    # all | sliding | sliding_or_no_window | listed (by no_rope_layers or its interval) | asked (by position_embedding_type "rope") |
    # said (by the canonical value "turned"): the layers that are turned
    rotary_in: str = "all"
    turned_values: object = False  # values are turned as queries and keys are
    rotary_planes: int = 1  # 2: each half of a head is turned by a position of its own (ChatGLM: see `masks.planes`)
    rotary_scaled: bool = True  # whether cosine and sine are scaled where the configuration does not say so (YaRN)
    rotary_dtype: str = ""  # what the rates are rounded to: "float16"
    # the token before which all positions see each other, and those whose places all later ones share in the first plane, the first of them
    # that is there; None: there is none
    prefix: object = None
    slot: object = None
    other_slot: object = None
    rotary_size: object = 0  # how many columns of a head are turned, where no share of it says so
    window: object = 0  # how many positions, its own among them, a position sees in layers that slide
    # past | chunk | around | radius: what came before it, what is in its own chunk, half of it on either side, that much on either side
    window_kind: str = "past"
    global_block: object = 0  # how many positions a block has that is seen from everywhere (LongT5)
    # head -> what it makes be seen by all and see all, where nothing is said of it: "first" position | "question": all before the token
    # `sep` | "": none. A model that has this takes a global_attention_mask
    marks: Mapping[str, str] = {}
    sep: object = None
    # "block_sparse": beyond (5 + 2 block_count) block_size positions attention is to some blocks of a text (BigBird; sparse.py)
    blocks: object = ""
    block_size: object = 0
    block_count: object = 0
    windowed: object = True  # whether any does
    sliding: str = ""  # "" | all | a rule of layers.py: the layers that slide
    alibi: object = False  # scores fall with the distance, by a slope for each head
    alibi_kind: str = (
        "distance"  # distance | place: of the distance; or of the place, in bfloat16, over the root of the head's width (Falcon)
    )
    # softmax | softmax_chosen | sigmoid | root_softplus | sigmoid_input | two_rounds: what weights experts (see experts.py)
    router: str = "softmax"
    router_noise: object = 0.0  # two_rounds: scores further from the best than twice that, relatively, count for nothing
    per_token: object = 0  # experts that a token passes
    normalised: object = True  # their weights add up to one
    routed_scale: object = 1.0
    expert_groups: object = 1  # experts are chosen from the best groups of them
    groups_per_token: object = 1
    limited: object = True  # whether they are (DeepSeek-V2 names a method: "greedy" is without)
    group_score: str = "two"  # two | best: a group counts by its two best experts, or its best
    least_sum: object = 0.0  # what weights are divided by is at least that
    # how many tokens of a text an expert takes, the first of those that are sent to it; 0: all (Switch Transformers)
    expert_capacity: object = 0
    expert_loss: object = 0.0  # what share of what experts give is left out (NLLB-MoE)
    expert_limit: object = 0.0  # gate and up are cut off there
    # and then one is added to up, and the sigmoid of the gate is that of so many times it (gpt-oss); 0: neither, the gate is activated as
    # elsewhere (DeepSeek V4)
    expert_slope: object = 1.0
    # --- Gemma 3n's and 4's, DeepSeek V4's (streams.py)
    streams: str = ""  # altup | hyper: several streams of hidden states go through the layers, and how a layer takes from and gives to them
    stream_active: object = 0  # altup: the one that a layer runs on
    stream_eps: object = 0.0  # hyper: added to weights and to what they are divided by
    stream_rounds: object = 1  # hyper: how often rows and columns of the matrix between streams are divided by their sums
    stream_scaled: object = True  # altup: what a layer's own embedding works on is scaled
    shared_layers: object = 0  # so many of the last layers take keys and values from the last one of their kind before them
    bare_values: object = False  # values are normed, without a scale
    sparsity: object = ()  # for each layer, what share of its gate is cut off; None: as Gemma 3n's configurations mean it
    # --- what has mixers beside or instead of attention (mixers.py), and sparse attention
    # mamba | mamba2 | delta | channel_delta (Kimi) | convolution | recurrent (Griffin) | lightning (MiniMax): what `state` in a layer is
    mixer: str = ""
    state_activation: object = None  # of a mixer's convolutions; None: the blocks'
    mixer_eps: object = None  # of a mixer's norm; None: the blocks'
    gate_late: object = False  # mamba2: what is gated was normed before
    state_groups: object = 1  # mamba2: how many B and C there are; heads share them
    state_eps: object = 0.0  # mamba: step, B and C are normed without a scale, with that epsilon; 0: they are not
    step_limit: object = None  # mamba2: the least and the most that a step may be
    index_count: object = 0  # how many keys the indexer of a layer chooses for each query
    index_pairs: str = "half"  # and how its queries and keys are turned, as `pairs`
    runs_with: Mapping[str, tuple[object, ...]] = {}  # canonical value -> what it may be; with others it does not run here
    sentence: tuple[str, ...] = ()  # resolved: what makes a sentence's embedding of the last hidden states (see `graph.sentence.Module`)
    layers: tuple[Mapping[str, object], ...] = ()  # resolved: what each layer sees and how it is turned (layers.py)


# what the configuration may say of a trait ("=pad"), and what holds where it says nothing; None: it is asked for, as it changes outputs
RESOLVED: dict[str, object] = {
    "norm_eps": None, "activation": None, "scaled": True, "scaled_by_layer": False, "dropout": 0.0, "attention_dropout": 0.0, "pad": 1,
    "distance": 64, "bucket_distance": 128, "eos": 1, "head_scaled": "tied",
    "cross_distances": False,
}  # fmt: skip
# what the configuration may switch off (null), or leave out where no form of the architecture has a value for it
OPTIONS: dict[str, object] = {
    "block_eps": None,
    "parallel": False, "residual_normed": False, "residual_scale": 1.0, "embedding_scale": 1.0, "logit_scale": 1.0, "logit_divisor": 1.0,
    "logit_cap": 0.0, "score_scale": 0.0, "score_scale_of": 0.0, "attention_cap": 0.0, "clip": 0.0, "rotary_size": 0, "window": 0,
    "windowed": False, "alibi": False, "per_token": 0, "normalised": False, "routed_scale": 1.0, "expert_groups": 1, "groups_per_token": 1,
    "least_sum": 0.0,
    "expert_capacity": 0, "expert_loss": 0.0, "expert_limit": 0.0, "expert_slope": 1.0, "latent_eps": 1e-6, "limited": True,
    "router_noise": 0.0,
    "residual_depth": 0.0, "logit_width": 0.0, "unit_heads": False, "temperature": False, "temperature_floor": 1.0,
    "temperature_scale": 0.0, "head_normed": False, "prefix": None, "slot": None, "other_slot": None, "skip_scale": 1.0,
    "state_groups": 1, "state_eps": 0.0, "step_limit": None, "index_count": 0, "state_activation": None, "gate_late": False,
    "score_growth": 1.0,
    "halving": "", "first_apart": True, "truncated": True, "whole_keys": True, "block_repeats": None,
    "memory": 0, "memory_window": False, "cutoffs": (),
    "clamp": 0, "sep": None, "global_block": 0, "blocks": "", "block_size": 0, "block_count": 0,
    "distance_kinds": (), "shared_keys": False, "conv_activation": "tanh", "bucket_count": 0,
    "turned_values": False, "pooling": "cls", "token_dropout": False, "mask_token": None,
    "stream_active": 0, "stream_eps": 0.0, "stream_rounds": 1, "stream_scaled": True, "shared_layers": 0, "sparsity": None,
}  # fmt: skip
# what outputs depend on and no form has a value for: it is not taken for switched off where a configuration leaves it out
ASKED = frozenset(
    (
        "router_noise",
        "per_token",
        "routed_scale",
        "expert_groups",
        "groups_per_token",
        "score_scale",
        "logit_scale",
        "expert_limit",
        "residual_depth",
        "logit_width",
        "unit_heads",
        "temperature",
        "temperature_floor",
        "temperature_scale",
        "state_groups",
        "index_count",
        "head_normed",
        "prefix",
    )
)
MEANT: dict[str, Mapping[object, str]] = {  # words that a configuration says by yes or no
    "norm": {True: "before", False: "after"},
    "mask": {True: "causal", False: "all"},
    "pairs": {True: "interleaved", False: "half"},
    "router": {"sqrtsoftplus": "root_softplus", "softmax": "softmax", "sigmoid": "sigmoid"},
}
STACKS = ("encoder", "decoder", "restored")  # the fields that say where blocks lie
OWN = ("activation", "norm_eps")  # what a head may have of its own
WORDS: dict[str, frozenset[str]] = {
    "norm": frozenset(("after", "before")),
    "norm_kind": frozenset(("layer", "rms", "scale")),
    "mask": frozenset(("all", "causal")),
    "projected": frozenset(("embeddings", "sum", "words")),
    "positions": frozenset(
        (
            "learned",
            "offset",
            "counted",
            "relative",
            "bucketed",
            "rotary",
            "masked",
            "disentangled",
            "sinusoids",
            "counted_sinusoids",
            "waves",
            "xl",
            "none",
        )
    ),
    "alibi_kind": frozenset(("distance", "place")),
    "window_kind": frozenset(("past", "chunk", "around", "radius")),
    "qk_norm": frozenset(("before", "after")),
    "pairs": frozenset(("half", "interleaved")),
    "index_pairs": frozenset(("half", "interleaved")),
    "mixer": frozenset(("", "mamba", "mamba2", "delta", "channel_delta", "convolution", "recurrent", "lightning")),
    "rotary_dtype": frozenset(("", "float16")),
    "streams": frozenset(("", "altup", "hyper")),
    "rotary_in": frozenset(("all", "sliding", "sliding_or_no_window", "listed", "asked", "said")),
    "router": frozenset(("softmax", "softmax_chosen", "sigmoid", "root_softplus", "sigmoid_input", "two_rounds")),
    "group_score": frozenset(("two", "best")),
}
HEAD_KINDS = frozenset((
    "pooler", "lm", "stem", "classed", "stemmed", "pooled", "tokens", "pooled_or_tokens", "first", "ended", "summary", "last", "detector",
    "spans", "answers", "entities", "in_parts", "kept", "part",
))  # fmt: skip
ACTIVATIONS = frozenset(("gelu", "gelu_tanh", "gelu_10", "relu", "relu2", "silu", "tanh", "linear", "quick_gelu", "xielu"))


def traits_of(arch: Canonical) -> Traits:
    """The checked traits of an architecture. LayoutError names the word that is none of the vocabulary."""
    where = f"{arch.name}: traits"
    for field in arch.traits:
        if field not in Traits._fields:
            raise LayoutError(f"{where}: there is no {field!r}; the fields are {', '.join(Traits._fields)}")
    traits = Traits(**arch.traits)  # type: ignore[arg-type]
    for field, words in WORDS.items():
        value = getattr(traits, field)
        if value not in words and not (field in MEANT and named(value)):
            raise LayoutError(f"{where}: {field} is {value!r}, not one of {', '.join(sorted(words))}")
    for field in STACKS:
        for template in filter(None, getattr(traits, field).split(" | ")):
            if not any(m.startswith(template + ".") for m in arch.modules):
                raise LayoutError(f"{where}: no module lies under the {field}'s {template!r}")
            if not placeholders(template):
                raise LayoutError(f"{where}: the {field}'s {template!r} has no placeholder")
    groups = {m.group for m in arch.modules.values()} - {"core"}
    for group, text in traits.heads.items():
        kind, path, activation = head(text)
        known = kind in HEAD_KINDS and activation in {"", "=activation", *ACTIVATIONS}
        if not known or ((path or group) not in {*groups, *arch.modules} and not any(m.startswith(f"{path}.") for m in arch.modules)):
            raise LayoutError(f"{where}: {group!r}: {text!r} is no head of the architecture, or no kind of one")
    for group, own in traits.own.items():
        if group not in groups or not own.keys() <= {*OWN}:
            raise LayoutError(f"{where}: {group!r} is no head, or has something else of its own than {', '.join(OWN)}")
    for group in groups - traits.heads.keys():
        raise LayoutError(f"{where}: the head {group!r} has no kind")
    return traits


def named(said: object) -> str:
    """The canonical value that a trait names ("=pad"); "" where it is the value itself."""
    return said[1:] if isinstance(said, str) and said.startswith("=") else ""


def required(arch: Canonical) -> frozenset[str]:
    """The canonical values that a configuration must say, since outputs depend on them and no tensor tells them: the number of attention
    heads, and what traits name and have no other value for. They are asked for, never assumed."""
    traits = {**Traits._field_defaults, **arch.traits}
    return frozenset({*arch.heads, *filter(None, (named(traits[field]) for field, usual in RESOLVED.items() if usual is None))})


def head_values(arch: Canonical) -> dict[str, tuple[str, str]]:
    """Canonical value of one head alone -> (that head, the blocks' value that it has where nothing says otherwise). Of the blocks alone
    ("core"): likewise, the whole model's."""
    traits = {**Traits._field_defaults, **arch.traits}
    own = traits["own"] if isinstance(traits["own"], Mapping) else {}
    found = {value: (group, named(traits[field])) for group, has in own.items() for field, said in has.items() if (value := named(said))}
    blocks = named(traits["block_eps"])
    return {**found, **({blocks: ("core", named(traits["norm_eps"]))} if blocks else {})}
