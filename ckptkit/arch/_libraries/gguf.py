"""How llama.cpp names the tensors of a GGUF file, and the keys that say the rest: its `gguf` dialects of today's decoders and of others.

Sources: gguf-py `constants.py` and `tensor_mapping.py`, convert_hf_to_gguf.py and src/models of llama.cpp. Dimensions are row-major here.
Experts are stacked. Llama's queries and keys have their rotary pairs side by side, those of the others lie apart as in transformers: the
architecture's key decides it. Gemma's norms are stored as they are used. `gguf_keys` has how keys are read and written, `gguf_rope` what
becomes of rotary positions. What llama.cpp's code of an architecture would compute otherwise is refused (`Whole`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ckptkit.arch._libraries.decoder_words import D, E, may
from ckptkit.arch._libraries.gguf_keys import DERIVED, FREE, PERIODS, form
from ckptkit.arch._libraries.gguf_rope import conflicts as rope_conflicts
from ckptkit.arch._libraries.gguf_rope import keys as rope_keys
from ckptkit.arch._libraries.gguf_rope import remarks as rope_remarks
from ckptkit.arch._libraries.gguf_rope import tables
from ckptkit.arch._libraries.gguf_rope import written as rope_written
from ckptkit.schema import TORCH, Besides, Dialect, Files, Key, Module
from ckptkit.schema.dialect import Whole
from ckptkit.schema.sliding import slides, whole

Values = Mapping[str, object]
Said = Iterable[tuple[str, str]]
B = "blk.{layer}."
NAMES: Mapping[str, str] = {
    "embeddings.word": "token_embd",
    "embeddings.position": "position_embd",
    "embeddings.norm": "token_embd_norm",
    D + "attention.norm": B + "attn_norm",
    D + "attention.query": B + "attn_q",
    D + "attention.key": B + "attn_k",
    D + "attention.value": B + "attn_v",
    D + "attention.output": B + "attn_output",
    D + "attention.query_norm": B + "attn_q_norm",
    D + "attention.key_norm": B + "attn_k_norm",
    D + "attention.post_norm": B + "post_attention_norm",
    D + "ffn.norm": B + "ffn_norm",
    D + "ffn.post_norm": B + "post_ffw_norm",
    D + "ffn.gate": B + "ffn_gate",
    D + "ffn.up": B + "ffn_up",
    D + "ffn.intermediate": B + "ffn_up",
    D + "ffn.output": B + "ffn_down",
    D + "moe.router": B + "ffn_gate_inp",
    D + "moe.correction": B + "exp_probs_b.bias",
    D + "moe.shared.gate": B + "ffn_gate_shexp",
    D + "moe.shared.up": B + "ffn_up_shexp",
    D + "moe.shared.output": B + "ffn_down_shexp",
    D + "moe.shared_gate": B + "ffn_gate_inp_shexp",
    "decoder.norm": "output_norm",
    "lm_head": "output",
}
DENSE = (D + "ffn.gate", D + "ffn.up", D + "ffn.output")  # which families that have experts in every layer have no place for
PAIRED = {D + "attention.query": "heads", D + "attention.key": "kv_heads"}
FFN = (D + "ffn.gate", D + "ffn.up", D + "ffn.intermediate", D + "ffn.output")
OUTPUT = D + "attention.output"
WINDOWS = ("window", "windowed", "full_layers", "layer_types", "sliding_window_pattern", "window_pattern")  # what says which layers slide


EXPERTS: Mapping[str, str | Key] = {  # the keys of families whose first layers are dense
    "leading_dense_block_count": may("first_dense"), "expert_shared_count": may("shared_experts"),
    "expert_feed_forward_length": may("moe_intermediate"), "expert_weights_scale": may("routed_scale"),
    "expert_weights_norm": may("normalise_experts"), "expert_group_count": may("expert_groups"),
    "expert_group_used_count": may("groups_per_token"),
}  # fmt: skip
SOFTMAX, SIGMOID = 1, 2  # llama.cpp's numbers of what weights experts


def dense_first(sparse: Callable[[Values], Sequence[bool] | None]) -> Callable[[Values], Said]:
    """What llama.cpp cannot say of layers with experts: that they are not all after the first dense ones."""

    def conflicts(values: Values) -> Said:
        kinds = sparse(values)
        if kinds is not None and [*kinds] != sorted(kinds):
            yield "layers", "it has layers with experts after the dense ones only"

    return conflicts


def both(*every: Callable[[Values], Said]) -> Callable[[Values], Said]:
    """What any of several finds."""
    return lambda values: [found for one in every for found in one(values)]


def leading(sparse: Callable[[Values], Sequence[bool] | None]) -> Callable[[Values], object]:
    """How many layers are dense."""
    return lambda values: [*kinds].count(False) if (kinds := sparse(values)) is not None else None


def keys_of(name: str, eps: str = "layer_norm_rms_epsilon") -> dict[str, str | Key]:
    """The keys that every decoder of llama.cpp has."""
    return {
        f"{name}.block_count": "layers",
        f"{name}.embedding_length": "hidden",
        f"{name}.feed_forward_length": "intermediate",
        f"{name}.attention.head_count": "heads",
        f"{name}.attention.head_count_kv": may("kv_heads"),
        f"{name}.attention.key_length": may("head_dim"),
        f"{name}.attention.value_length": may("head_dim"),
        f"{name}.attention.{eps}": "norm_eps",
        f"{name}.vocab_size": may("vocab"),
        f"{DERIVED}.max_positions": "max_positions",
    }


def with_experts(name: str) -> dict[str, str | Key]:
    """The keys of experts."""
    return {f"{name}.expert_count": "experts", f"{name}.expert_used_count": may("experts_per_token")}


def stacked_experts(width: str, *, bias: bool = False) -> dict[str, tuple[str, ...]]:
    """The experts of a layer: one tensor for each of their three matrices."""
    out: dict[str, tuple[str, ...]] = {
        B + "ffn_gate_exps.weight": (E + "gate.weight", f"*{{expert}} {width} hidden"),
        B + "ffn_up_exps.weight": (E + "up.weight", f"*{{expert}} {width} hidden"),
        B + "ffn_down_exps.weight": (E + "output.weight", f"*{{expert}} hidden {width}"),
    }
    if bias:
        out |= {
            B + "ffn_gate_exps.bias": (E + "gate.bias", f"*{{expert}} {width}"),
            B + "ffn_up_exps.bias": (E + "up.bias", f"*{{expert}} {width}"),
            B + "ffn_down_exps.bias": (E + "output.bias", "*{expert} hidden"),
        }
    return out


class Window:
    """What llama.cpp makes of windows: `rule` says which layers slide (see `schema.sliding`). Where its code has none (`own` is false), the
    positions are cut to the window, up to which it computes the same; else its keys say which layers slide."""

    def __init__(self, rule: str, *, own: bool = False, usual: int | None = None) -> None:
        self.rule, self.own, self.usual = rule, own, usual  # `usual`: the positions of a model that counts none

    def size(self, values: Values) -> int:
        """The window, where some layer slides; 0 where none does."""
        size, layers = whole(values.get("window")), whole(values.get("layers"))
        return size if size and values.get("windowed") is not False and any(slides(self.rule, values, layers)) else 0

    def positions(self, values: Values) -> object:
        """The positions that a written file has."""
        most = values.get("max_positions") or self.usual
        size = 0 if self.own else self.size(values)
        return min(size, most) if size and isinstance(most, int) else most

    def pattern(self, name: str) -> Callable[[Values], object]:
        """Which layers slide, where the runtime takes others; None where it does not."""

        def made(values: Values) -> object:
            n, size = whole(values.get("layers")), self.size(values)
            have = slides(self.rule, values, n) if size else [False] * n
            return [*have] if size and have != [i % PERIODS[name] < PERIODS[name] - 1 for i in range(n)] else None

        return made

    def remarks(self, values: Values) -> Iterator[tuple[str, str]]:
        """What becomes of the positions."""
        kept, most = self.positions(values), values.get("max_positions") or self.usual
        if kept != most:
            what = (
                f"llama.cpp has no window in this architecture: the context length is written as {kept}, up to which it computes the same"
            )
            yield "max_positions", f"{what} (the model has {most})"


def square(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp makes a head as wide as the hidden size over the heads."""
    hidden, heads, width = (values.get(k) for k in ("hidden", "heads", "head_dim"))
    if isinstance(hidden, int) and isinstance(heads, int) and isinstance(width, int) and heads * width != hidden:
        yield "head_dim", f"its code of this architecture takes {hidden} / {heads}"


def all_keys(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp has as many heads of keys as of queries."""
    if values.get("kv_heads") not in (None, values.get("heads")):
        yield "kv_heads", f"its code of this architecture takes {values.get('heads')}"


NO_WINDOW = Window("")


def rows_of(
    modules: Mapping[str, Module], called: Mapping[str, str], rows: Mapping[str, str | tuple[str, ...]], without: Sequence[str],
    pairs: bool, experts: str, bare: Sequence[str],
) -> dict[str, str | tuple[str, ...]]:  # fmt: skip
    """The rows of a decoder: those that hold other than one module, and one for each other module that has a name."""
    held = {p.rpartition(".")[0] for v in rows.values() if isinstance(v, tuple) for p in v[:-1]}
    out: dict[str, str | tuple[str, ...]] = dict(rows)
    for module, m in modules.items():
        if module in held or module in without or module not in called or (experts and module.startswith(E)):
            continue
        if pairs and module in PAIRED:
            heads = "kv_heads per_group" if "per_group" in m.params[0][1].split() and module.endswith("query") else PAIRED[module]
            out[called[module] + ".weight"] = (f"{module}.weight", f"({heads} half two) hidden")
            if any(suffix == "bias" for suffix, _ in m.params):
                out[called[module] + ".bias"] = (f"{module}.bias", f"({heads} half two)")
        elif module in bare:
            out[called[module] + ".weight"] = f"{module}.weight"
        else:
            out[called[module]] = module
    if experts:
        out |= stacked_experts(experts, bias=any(s == "bias" for s, _ in modules[E + "gate"].params))
    return out


def gguf(
    name: str, modules: Mapping[str, Module], *, names: Mapping[str, str] = {}, rows: Mapping[str, str | tuple[str, ...]] = {},
    keys: Mapping[str, str | Key] = {}, pairs: bool = False, implied: Mapping[str, object] = {}, defaults: Mapping[str, object] = {},
    without: Sequence[str] = (), experts: str = "", eps: str = "layer_norm_rms_epsilon", rope: Sequence[str] | None = (),
    dimensions: bool = False, window: Window = NO_WINDOW, also: Mapping[str, object] = {}, free: Mapping[str, object] = {},
    bare: Sequence[str] = (), conflicts: Callable[[Values], Said] | None = None,
    remarks: Callable[[Values], Said] | None = None, besides: Besides | None = None, **more: object,
) -> Dialect:  # fmt: skip
    """The dialect of a decoder: `name` is what llama.cpp calls the architecture; `pairs`: rotary pairs lie side by side; `experts`: the
    axis of the experts' width; `without`: modules it has no place for; `rope`: what its code can of rotary positions (see
    `gguf_rope.conflicts`; None: it has none), `bare`: those whose biases it does not load, and with `dimensions` it says how many columns
    of a head turn; `free`, `conflicts`, `remarks`: see
    `Whole`; keys that are "" in `keys` are left out."""
    own_keys = {k if k.startswith(DERIVED) else f"{name}.{k}": v for k, v in keys.items()}
    every = {**keys_of(name, eps), **(with_experts(name) if experts else {}), **own_keys}
    words = (w for m in modules.values() for w in (m.switch, *m.switches.values()) if w and "@" not in w)
    off = {w.removeprefix("not "): False for w in words}  # what no tensor shows is not there
    usual = {"kv_heads": "=heads", "head_dim": "=hidden / heads", "tied": False, **off}
    made: dict[str, object] = {f"{name}.context_length": window.positions}
    loose = {**FREE, **(dict.fromkeys(WINDOWS, ...) if window is not NO_WINDOW else {}), **free}
    if rope is not None:
        every |= {f"{name}.rope.freq_base": may("rope_theta"), **{f"{DERIVED}.{k}": v for k, v in rope_keys().items()}}
        growth = 0.1 if "growth" in rope else 1.0 if "log" in rope else 0.0
        made |= {f"{name}.{k}": v for k, v in rope_written(dimensions=pairs or dimensions, growth=growth).items()}
    if "context_length" in keys:  # it is a size of a table of positions
        made.pop(f"{name}.context_length")
        every.pop(f"{DERIVED}.max_positions")
    elif window.usual is not None:
        every[f"{DERIVED}.max_positions"] = may("max_positions")
    if window.own:
        every |= {f"{name}.attention.sliding_window": may("window"), f"{DERIVED}.layer_types": may("layer_types")}
        made[f"{name}.attention.sliding_window_pattern"] = window.pattern(name)

    def against(values: Values) -> Said:
        if rope is not None:
            yield from rope_conflicts(values, rope)
        if conflicts is not None:
            yield from conflicts(values)

    def said(values: Values) -> Said:
        if rope is not None:
            yield from rope_remarks(values)
        yield from window.remarks(values)
        if remarks is not None:
            yield from remarks(values)

    own = besides or Besides()
    config = form(
        name, {k: v for k, v in every.items() if v}, implied=implied, defaults={**usual, **defaults},
        also={**made, **{f"{name}.{k}": v for k, v in also.items()}}, whole=Whole(loose, against, said),
    )  # fmt: skip
    return Dialect(
        name="gguf", title="llama.cpp (GGUF)", style=TORCH, container="gguf", config=config, files=Files(ties=False),
        rows=rows_of(modules, {**NAMES, **names}, rows, without, pairs, experts, bare),
        besides=own._replace(derived={**own.derived, **tables(rope or ())}), **more,  # type: ignore[arg-type]
    )  # fmt: skip
