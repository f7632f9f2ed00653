"""GGUF files to measure with: a Llama whose matrices are Q4_K, of as many layers as asked for, what it is in float16, and a vocabulary.

Written by hand from docs/gguf.md of ggml; blocks are random bytes with scales that are finite.
"""

from __future__ import annotations

import struct
from pathlib import Path

HIDDEN, WIDE, HEADS, WORDS = 2048, 8192, 16, 32000
Q4_K, F32, BLOCK, BYTES = 12, 0, 256, 144


def tensors(layers: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and row-major shapes of a Llama."""
    out: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (WORDS, HIDDEN)), ("output.weight", (WORDS, HIDDEN))]
    for i in range(layers):
        b = f"blk.{i}."
        out += [(f"{b}attn_{x}.weight", (HIDDEN, HIDDEN)) for x in ("q", "k", "v", "output")]
        out += [(f"{b}ffn_gate.weight", (WIDE, HIDDEN)), (f"{b}ffn_up.weight", (WIDE, HIDDEN)), (f"{b}ffn_down.weight", (HIDDEN, WIDE))]
        out += [(f"{b}attn_norm.weight", (HIDDEN,)), (f"{b}ffn_norm.weight", (HIDDEN,))]
    return [*out, ("output_norm.weight", (HIDDEN,))]


def text(s: str) -> bytes:
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def number(key: str, value: float) -> bytes:
    return text(key) + (struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value))


def keys(layers: int, words: int) -> tuple[int, bytes]:
    """(how many, the keys) of a Llama with a vocabulary of `words`."""
    sizes = {
        "block_count": layers, "context_length": 2048, "embedding_length": HIDDEN, "feed_forward_length": WIDE,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0, "vocab_size": WORDS,
    }  # fmt: skip
    out = [text("general.architecture") + struct.pack("<I", 8) + text("llama"), *(number(f"llama.{k}", v) for k, v in sizes.items())]
    if words:
        listed = b"".join(text(f"token{i}") for i in range(words))
        merges = b"".join(text(f"tok en{i}") for i in range(words))
        out += [
            text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2"),
            text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, words) + listed,
            text("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, words) + merges,
            text("tokenizer.ggml.token_type") + struct.pack("<IIQ", 9, 5, words) + struct.pack("<i", 1) * words,
            text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, words) + bytes(4 * words),
        ]
    return len(out), b"".join(out)


def make_gguf(folder: Path, form: str) -> None:
    """ "q4k-LAYERS": a Q4_K file; "float16-LAYERS": as many bytes as it is in float16; "vocab-WORDS": two layers and a vocabulary."""
    import numpy as np

    kind, _, many = form.partition("-")
    layers = int(many) if kind != "vocab" else 2
    every = tensors(layers)
    if kind == "float16":
        with open(folder / "model.safetensors", "wb") as f:
            for _, shape in every:
                f.write(np.random.default_rng(1).bytes(2 * int(np.prod(shape))))
        return
    count, head = keys(layers, int(many) if kind == "vocab" else 0)
    infos, at = b"", 0
    for name, shape in every:
        packed = len(shape) > 1 and kind == "q4k"
        infos += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), Q4_K if packed else F32, at)
        size = int(np.prod(shape)) // BLOCK * BYTES if packed else 4 * int(np.prod(shape))
        at += -(-size // 32) * 32
    front = b"GGUF" + struct.pack("<IQQ", 3, len(every), count) + head + infos
    rng = np.random.default_rng(0)
    with open(folder / "model.gguf", "wb") as f:
        f.write(front + bytes(-len(front) % 32))
        for _, shape in every:
            n = int(np.prod(shape))
            if kind == "vocab":
                f.seek(-(-4 * n // 32) * 32, 1)
            elif len(shape) == 1:
                f.write(np.ones(n, "<f4").tobytes())
            else:
                blocks = rng.integers(0, 256, (n // BLOCK, BYTES), np.uint8)
                blocks[:, :4] = np.frombuffer(np.asarray([1e-3, 1e-3], "<f2").tobytes(), np.uint8)
                f.write(blocks.tobytes())
        f.truncate(len(front) + -len(front) % 32 + at)
