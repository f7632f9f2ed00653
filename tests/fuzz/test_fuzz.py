"""The inputs that fuzzing found, and a short run of the same functions over mutations that are the same every time."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from seeds import seeds
from targets import CASES, LARGEST, TARGETS

SECONDS = float(os.environ.get("CKPTKIT_FUZZ_SECONDS", "0"))  # for each parser; 0: so many runs
RUNS = {  # folders take milliseconds
    "config": 2000, "gin": 3000, "dcp": 400, "deepspeed": 400, "fsdp": 300, "megatron": 400, "orbax": 2000, "torch_dist": 100,
    "consolidated": 300, "shards": 800, "torchscript": 5000,
}  # fmt: skip
TOKENS = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\1",
    b"PK",
    b"(",
    b".",
    b"}",
    b"]",
    b"\n",
    b'"',
    b"9" * 20,
    b"-1",
    b"\xe2\x80\xae",
    b"\xed\xa0\x80",
)


@pytest.mark.parametrize("path", sorted(CASES.glob("*/*")), ids=lambda p: f"{p.parent.name}-{p.name}")
def test_what_was_found_before_is_a_result_or_an_error(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """`data` with one to four changes: bytes flipped, cut out, doubled, set, or taken from `other`."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(7):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + rng.choice((1, 1, 2, 4, 8, 64))]
            case 2:
                out[at:at] = rng.choice(TOKENS)
            case 3:
                token = rng.choice(TOKENS)
                out[at : at + len(token)] = token
            case 4:
                out[at:at] = out[at : at + rng.choice((1, 4, 16, 200))]
            case 5:
                begin = rng.randrange(len(other) + 1)
                out[at : at + rng.choice((0, 8, 64))] = other[begin : begin + rng.choice((1, 8, 64, 400))]
            case _:
                del out[at:]
    return bytes(out)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_are_a_result_or_an_error(name: str) -> None:
    inputs = [s for s in seeds(name) if len(s) <= min(8192, LARGEST.get(name, 8192))]
    assert inputs, "there is nothing to begin with"
    rng = random.Random(name)
    end = time.monotonic() + SECONDS
    done = 0
    while done < RUNS.get(name, 15_000) or time.monotonic() < end:
        data = mutated(rng.choice(inputs), rng.choice(inputs), rng)
        try:
            TARGETS[name](data)
        except Exception as e:
            pytest.fail(f"{type(e).__name__}: {e} of {data!r}")
        done += 1
