"""Weights of a target that are to be packed: which, and as what.

Policy: matrices called `weight` are, the others stay. By default so do embeddings, output matrices, norms and what chooses experts, as
the libraries leave them; `--keep GLOB` adds to these, and what stays is said. In GGUF it is llama.cpp's rule: all matrices but norms,
positions, token types and the experts' choice, which are float32 there like every vector; a matrix whose rows are no whole blocks is
float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from ..configuration.quantization import KEYS
from ..errors import UsageError
from ..findings import Finding
from ..packing import Mismatch, quantizer
from ..support.name_text import collapse
from ..tensors import DTYPES, TensorSpec
from .arrange import Weights
from .target import Request
from .values import Encode, Piece
from .with_codes import words_of

USUAL = (
    "*embed*",
    "*lm_head*",
    "*norm*",
    "*router*",
    "*.gate.weight",
    "*wte*",
    "*wpe*",
    "*shared.weight",
    "*classifier*",
    "*score*",
    "*pooler*",
)
USUAL_MLX = ("*norm*", "*router*", "*.gate.weight")
USUAL_GGUF = ("*norm*", "*ffn_gate_inp*", "*position_embd*", "*token_types*", "*LayerNorm*", "*position_embeddings*",
              "*ssm_conv1d*", "*ssm_a", "*ssm_d", "*shortconv.conv*", "*altup_*_coef*", "*indexer.proj*", "*_exps.bias")  # fmt: skip
Target = tuple[str, TensorSpec, tuple[Piece, ...]]


def quantized(weights: Weights, request: Request) -> Weights:
    """`weights` with the parts of what is packed in the place of each. UsageError where nothing would be."""
    assert request.quantize is not None
    packing, settings = quantizer(request.quantize)
    blocks = packing.NAME == "ggml"
    if blocks and request.container.NAME != "gguf":
        raise UsageError(f"--quantize {request.quantize}: blocks of ggml lie in GGUF files", hint="--to gguf, or --container gguf")
    if not blocks and request.container.NAME == "gguf":
        raise UsageError(f"--quantize {request.quantize}: a GGUF file holds blocks of ggml", hint="q8_0, q4_0, q4_1, q5_0, q5_1 or mxfp4")
    usual = USUAL_GGUF if blocks else USUAL_MLX if packing.NAME == "mlx-affine" else USUAL
    targets: list[Target] = []
    came, encodes = dict(weights.came), dict(weights.encodes)
    stay: list[str] = []
    for name, spec, pieces in weights.targets:
        parts = None
        if _chosen(name, spec, (*usual, *request.keep), blocks):
            try:
                parts = packing.encoded(spec.shape, spec.dtype, settings)
            except Mismatch:
                parts = None
        if parts is None:
            if len(spec.shape) > 1 and DTYPES[spec.dtype].kind == "float":
                stay.append(name)
            targets.append((name, _plain(spec, blocks, kept=any(fnmatchcase(name, g) for g in usual)), pieces))
            continue
        story = came.pop(name)
        for role, part in parts.items():
            stored = _part_name(packing.PARTS[role], name)
            targets.append((stored, part, pieces))
            encodes[stored] = Encode(packing.NAME, role, spec.dtype, spec.shape, dict(settings))
            came[stored] = {**(story or {"from": [name]}), "how": f"quantised ({request.quantize}, {role})"}
    if len(encodes) == len(weights.encodes):
        raise UsageError(f"--quantize {request.quantize}: no weight is of a shape for it, or all are kept")
    order = [n for n, _, _ in targets]
    findings = weights.findings
    if stay:
        message = f"{len(stay)} matrices are not quantised: {collapse(stay, 4)}"
        findings = (*findings, Finding("info", "quantize", collapse(stay, 2), message))
    ties = {n: t for n, t in weights.ties.items() if t in set(order)}
    listed = {n: came[n] for n in (*order, *(n for n in came if n not in set(order)))}
    return weights._replace(targets=tuple(targets), came=listed, encodes=encodes, findings=findings, ties=ties)


def as_llama_cpp(weights: Weights) -> Weights:
    """The types that llama.cpp's converter gives: float32 for vectors, norms, positions, token types and what chooses experts."""
    targets = []
    for name, spec, pieces in weights.targets:
        single = len(spec.shape) < 2 or any(fnmatchcase(name, g) for g in USUAL_GGUF)
        plain = DTYPES[spec.dtype].kind == "float" and spec.dtype != "F32" and name not in weights.encodes
        targets.append((name, TensorSpec("F32", spec.shape) if single and plain else spec, pieces))
    return weights._replace(targets=tuple(targets))


def main_type(weights: Weights) -> str:
    """The type of most matrices, in lower case."""
    counts: dict[str, int] = {}
    for _, spec, _ in weights.targets:
        if len(spec.shape) > 1:
            counts[spec.dtype.lower()] = counts.get(spec.dtype.lower(), 0) + spec.numel
    return max(counts, key=lambda k: counts[k]) if counts else ""


def _chosen(name: str, spec: TensorSpec, keep: tuple[str, ...], blocks: bool) -> bool:
    if len(spec.shape) < 2 or DTYPES[spec.dtype].kind != "float" or DTYPES[spec.dtype].bits < 16:
        return False
    if not blocks and name.rpartition(".")[2] != "weight":
        return False
    return not any(fnmatchcase(name, g) for g in keep)


def _plain(spec: TensorSpec, blocks: bool, *, kept: bool) -> TensorSpec:
    """What stays: in GGUF vectors and what is kept are float32, other matrices float16."""
    if not blocks or DTYPES[spec.dtype].kind != "float":
        return spec
    return TensorSpec("F32" if len(spec.shape) < 2 or kept else "F16", spec.shape)


def _part_name(template: str, weight: str) -> str:
    return weight + template[1:] if template.startswith("@") else weight[: weight.rfind(".") + 1] + template[1:]


def said_of(raw: Mapping[str, object], request: Request, weights: Weights) -> dict[str, object]:
    """A configuration with what it has to say of the weights that were quantised, and of the matrices that were not."""
    if request.repack:
        return {**raw, **words_of(request.dialect, request.container.NAME)}
    if request.quantize is None:
        return dict(raw)
    packing, settings = quantizer(request.quantize)
    said = packing.words(settings)
    kept = [
        n.removesuffix(".weight") for n, s, _ in weights.targets if len(s.shape) > 1 and n.endswith(".weight") and n not in weights.encodes
    ]
    for key, word in (("fp8", "modules_to_not_convert"), ("compressed-tensors", "ignore")):
        words = said.get("quantization_config")
        if isinstance(words, dict) and words.get("quant_method") == key and kept:
            words[word] = kept
    return {**{k: v for k, v in raw.items() if k not in KEYS}, **said}
