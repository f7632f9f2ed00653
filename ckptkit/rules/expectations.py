"""What the caller expects to be true: `--expect NAME=VALUE` and the policy's entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..arch import architectures, countable, learned_index
from ..containers import containers
from ..errors import UsageError, one_of
from ..findings import Finding
from ..graph.examine import Subject
from ..schema import count_name
from ..tensors import DTYPES
from ._base import noticed

ORDER = 70

noticed("expect", "error", "What was expected of the checkpoint is true", """
    What `--expect NAME=VALUE` or the policy file says: architecture, variant, layers, any size, dtype, container. Undecided (exit
    status 3) where neither the tensors nor a configuration say it.""")  # fmt: skip


noticed("against", "error", "The library's own class has these tensors", """
    With `--against transformers`: the installed library builds the class that the configuration names on the meta device, without weights,
    and its names and shapes are held against those that are stored. Code that comes with a checkpoint is never run.""")  # fmt: skip

WORDS = ("architecture", "dialect", "container", "variant", "dtype")


def parse_expectations(expect: Mapping[str, object], what: str = "--expect", path: str | None = None) -> dict[str, object]:
    """{"layers": "24"} (or 24) with numbers as numbers, said in `what` (of the file `path`); UsageError for what nobody can expect."""
    if not expect:
        return {}
    known = {*WORDS, "parameters", "tensors", *countable()}
    out: dict[str, object] = {}
    for key, said in expect.items():
        value = said if isinstance(said, str) else f"{said}"
        if key not in known and key not in learned_index()["counts"]:
            raise UsageError(f"{what} {key}: there is no such thing to expect", path=path, hint=one_of(key, sorted(known)))
        if key in WORDS:
            out[key] = value
        elif not (value.isascii() and value.isdigit()):
            raise UsageError(f"{what} {key}={value}: expected a whole number", path=path)
        else:
            out[key] = int(value)
    if "container" in out and out["container"] not in containers():
        raise UsageError(f"no container is called {out['container']!r}", path=path, hint=one_of(out["container"], containers()))
    return out


def expectations(s: Subject, expect: Mapping[str, object]) -> Iterator[Finding]:
    for key, want in expect.items():
        have = observed(s, key)
        if have is None:
            said = s.value(key)
            if said is not None and said != want:
                yield Finding("error", "expect", key, f"expected {key} {want}; {s.says(key)} {said}, the tensors do not tell")
            elif said is None:
                yield Finding(
                    "warning", "expect", key, f"expected {key} {want}; neither the tensors nor a configuration say it", basis="undecided"
                )
            else:
                yield Finding("info", "expect", key, f"{key} {want} rests on what {s.says(key)}: the tensors do not tell", basis="inferred")
        elif have != want and not (isinstance(have, tuple) and want in have):
            shown = " or ".join(map(str, have)) if isinstance(have, tuple) else have
            if key == "variant":
                shown, want = _variant_words(s, str(want), shown)
            hint = one_of(expect[key], known) if (known := _words_for(s, key)) and expect[key] not in known else ""
            yield Finding("error", "expect", key, f"expected {key} {want}; the checkpoint has {shown}", hint)


def _words_for(s: Subject, key: str) -> list[str]:
    """What an expectation may name, where that is one of few words; nothing for a number."""
    if key == "dtype":
        return [d.numpy for d in DTYPES.values() if d.kind == "float" and d.numpy]
    if key == "variant":
        return [v for a in architectures().values() for v in a.variants]
    if key == "architecture":
        return list(architectures())
    of = architectures().values() if s.architecture is None else (s.architecture,)
    return list(dict.fromkeys(d.name for a in of for d in a.dialects.values())) if key == "dialect" else []


def _variant_words(s: Subject, want: str, shown: object) -> tuple[str, str]:
    """What is there and what was expected, each with the sizes that a variant is known by."""
    wanted = next((a.variants[want] for a in architectures().values() if want in a.variants), None)
    if wanted is None:
        return str(shown), f"{want}, which is no variant known here"
    have = {**s.graph.solution.sizes.axis, **s.graph.counts}
    seen = ", ".join(f"{k} {have[k]}" for k in wanted if k in have)
    return f"{seen} ({shown})" if seen else str(shown), f"{want} ({', '.join(f'{k} {n}' for k, n in wanted.items())})"


def observed(s: Subject, key: str) -> object:
    g = s.graph
    if key == "container":
        return s.checkpoint.container
    if key == "tensors":
        return len(s.checkpoint.tensors)
    if key == "dtype":
        kinds = dict.fromkeys(t.spec.dtype for t in s.checkpoint.tensors.values() if DTYPES[t.spec.dtype].kind == "float")
        names = [DTYPES[d].numpy or d for d in kinds]
        return names[0] if len(names) == 1 else "mixed (" + ", ".join(names) + ")"
    if key == "parameters":
        return parameters(s)
    if g.recognition is None:
        return "unknown" if key in ("architecture", "dialect") else None
    if key == "architecture":
        return g.recognition.architecture.name
    if key == "dialect":
        return g.recognition.dialect.name
    if key == "variant":
        heads = s.value("heads")
        every, open_counts = g.recognition.architecture.variants, g.recognition.architecture.config_counts
        fits = [
            v
            for v in variants(s, heads if isinstance(heads, int) else None)
            if all(s.value(c) in (None, every[v].get(c, s.value(c))) for c in open_counts)
        ]
        return tuple(fits) or "no known variant"
    if key in {count_name(p) for p in g.recognition.architecture.counted}:
        return g.counts.get(key, 0)
    return g.solution.sizes.axis.get(key)


def variants(s: Subject, heads: int | None) -> list[str]:
    """Every variant's name that agrees with the shape."""
    arch = s.architecture
    if arch is None:
        return []
    known = {**s.graph.solution.sizes.axis, **s.graph.counts}
    if heads is not None:
        known["heads"] = heads
    return [name for name, v in arch.variants.items() if all(known.get(k, n if k in arch.untold else None) == n for k, n in v.items())]


def parameters(s: Subject) -> int:
    """Elements of all parameters, tied ones once; of all tensors but optimizer state where the architecture is unknown."""
    return sum(s.checkpoint.tensors[n].spec.numel for n in s.counted())
