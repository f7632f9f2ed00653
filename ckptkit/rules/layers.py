"""How many layers there are, by the tensors and by the configuration."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding
from ..graph.examine import Subject
from ..schema import count_name, placeholders
from ..support.name_text import collapse, counted, gaps, natural, ranges
from ._base import also, as_written, claimed_groups, rule
from .expectations import variants

ORDER = 20


def _stored_of(s: Subject, placeholder: str, wanted: set[int]) -> list[str]:
    assert s.graph.recognition is not None
    return [n for n, m in s.graph.recognition.matches.items() if dict(m.at).get(placeholder) in wanted]


@rule("layers", "error", "The number of layers, both ways, without holes")
def layers(s: Subject) -> Iterator[Finding]:
    """The numbers in the tensors' names say how many layers there are. They are held against the configuration both ways, and must
    run from 0 without a hole.

    More in the weights than in the configuration: a loader that trusts the configuration drops the rest without a word, and the
    model is another one. Fewer: it makes layers of random numbers. Both numbers, the tensors concerned and the known variant of
    that shape are in the message. What to do: correct the configuration (`ckptkit fix` sets it from the tensors), or get the
    whole checkpoint.
    """
    if s.architecture is None:
        return
    for placeholder in s.architecture.counted:
        count = count_name(placeholder)
        have = s.graph.indices.get(placeholder, set())
        n = max(have) + 1 if have else 0
        holes = gaps(have)
        word = placeholder.replace("_", " ")
        if holes:
            stored = sorted(_stored_of(s, placeholder, have), key=natural)
            gone = ", ".join(map(ranges, holes))
            yield Finding(
                "error", "layers", f"{word} {gone}", f"{word}{'s' * (n - len(have) > 1)} {gone} missing in the middle: the weights hold "
                f"{word}s {ranges(have)} ({collapse(stored, 2)})", "the checkpoint was cut or merged wrongly; get it whole",
            )  # fmt: skip
        said = s.value(count)
        if not isinstance(said, int) or isinstance(said, bool) or said == n:
            continue
        key = s.values.keys.get(count, count) if s.values else count
        if not have and _of_no_layer(s, placeholder):
            continue
        if not have and _leaves_out(s, placeholder):
            if not s.config or "architectures" not in s.config.raw:
                yield Finding(
                    "info",
                    "head",
                    word,
                    f"the weights hold no {word}; {s.config_name} says {said} of them ({key}), which this part of the model does not use",
                )
            continue
        contiguous = f"{ranges(have)}, contiguous" if not holes else ranges(have)
        told = as_written(s, count, said)
        says = f"{s.config_name} says {counted(said, count)}{f' ({key} {told})' if told != said else ''}"
        variant = variant_words(s)
        if said < n:
            over = sorted(_stored_of(s, placeholder, {i for i in have if i >= said}), key=natural)
            extra = f"{word}s {ranges(range(said, n))}" if n - said > 1 else f"{word} {said}"
            yield Finding(
                "error", "layers", collapse(over, 4),
                f"{says}; the weights hold {n} ({contiguous}). {len(over)} "
                f"tensors of {extra} would be dropped "
                f"by a loader that trusts the configuration.{variant}", f"set {key} to {as_written(s, count, n)}",
            )  # fmt: skip
        else:
            lacking = ranges(range(n, said))
            per = len(_stored_of(s, placeholder, {n - 1})) if n else 0
            stored = sorted(_stored_of(s, placeholder, {n - 1}), key=natural) if n else []
            yield Finding(
                "error", "layers", collapse(stored, 2) or word,
                f"{says}; the weights hold {n}{f' ({contiguous})' if n else ''}. "
                f"A loader that trusts the configuration "
                f"would make {(said - n) * per} tensors of {word}{'s' * (said - n > 1)} {lacking} at random.{variant}",
                f"set {key} to {as_written(s, count, n)}, or get the whole checkpoint",
            )  # fmt: skip


def _of_no_layer(s: Subject, placeholder: str) -> bool:
    """Whether only layers of a kind have what is counted (experts), or a switch, and by the configuration no layer is of it."""
    assert s.architecture is not None
    words = {i.switch for p, i in s.architecture.params.items() if placeholder in placeholders(p)}
    for word in words:
        if word and "@" not in word and s.value(word.removeprefix("not ")) is word.startswith("not "):
            continue
        kinds = s.said_kinds(word.removeprefix("not ")) if "@" in word else None
        if kinds is None or (not word.startswith("not ")) in map(bool, kinds):
            return False
    return True


def variant_words(s: Subject) -> str:
    variant = s.graph.variant()
    if variant is None or s.architecture is None:
        return ""
    return f" This is {variant}'s shape ({' x '.join(str(v) for v in s.architecture.variants[variant].values())})."


def _leaves_out(s: Subject, placeholder: str) -> bool:
    """Whether a checkpoint may lack every layer of a kind: their group is a whole that it does not hold, nor claims to."""
    assert s.architecture is not None
    groups = {i.group for p, i in s.architecture.params.items() if placeholder in placeholders(p)}
    if "core" in groups or groups & s.graph.groups:
        return False
    return not groups & claimed_groups(s)


@also("layers")
def shared_layers(s: Subject) -> Iterator[Finding]:
    """Counts that no tensor holds, since layers share their weights: what bounds them, and what the known models of the shape have."""
    arch = s.architecture
    if arch is None:
        return
    for small, large in arch.at_most:
        n, said = s.graph.counts.get(small, 0), s.value(large)
        if isinstance(said, int) and not isinstance(said, bool) and said < n:
            yield Finding(
                "error", "layers", s.values.keys.get(large, large) if s.values else large,
                f"{s.says(large)} {counted(said, large)}; the weights hold {counted(n, small)}, each for at least one of them: "
                f"a loader that trusts the configuration would leave {n - said} unused", f"find out how many {large} it was trained with",
            )  # fmt: skip
    heads = s.value("heads")
    for count in arch.config_counts:
        said = s.value(count)
        known = {
            arch.variants[v][count]: v
            for v in reversed(variants(s, heads if isinstance(heads, int) else None))
            if count in arch.variants[v]
        }
        if said is None and s.graph.counts:
            usual = f" The known models of this shape have {' or '.join(f'{n} ({v})' for n, v in known.items())}." if known else ""
            yield Finding(
                "warning", "layers", count,
                f"neither the tensors nor a configuration say how many {count} there are: they share their weights.{usual}",
                "give the configuration with --config FILE", "undecided",
            )  # fmt: skip
        if isinstance(said, int) and known and said not in known:
            usual = " or ".join(f"{n} ({v})" for n, v in known.items())
            yield Finding(
                "warning", "layers", s.values.keys.get(count, count) if s.values else count,
                f"{s.says(count)} {counted(said, count)}; no tensor holds the count, as layers share their weights, "
                f"but the known models of this shape have {usual}",
                f"make sure of {s.values.keys.get(count, count) if s.values else count}", "inferred",
            )  # fmt: skip


@rule("kind", "error", "Each layer is of one kind, and of the one configured")
def kind(s: Subject) -> Iterator[Finding]:
    """Where layers differ (the first ones dense and the rest with experts, attention in some and a state space in others), the
    tensors say which each is. A layer is of one kind only, and the configuration must say the same: a loader makes the layer that the
    configuration describes, and what the file holds for another kind is left out. Where layers lack what others have, and only the
    configuration says whether they have any (keys that several layers share), without one that is undecided.
    """
    if s.architecture is None:
        return
    for switch, seen in s.graph.layer_kinds.items():
        name, _, holder = switch.partition("@")
        both = sorted(i for i, on in seen.items() if len(on) == 2)
        if both:
            yield Finding(
                "error", "kind", f"{holder} {ranges(both)}",
                f"{holder}{'s' * (len(both) > 1)} {ranges(both)} {'hold' if len(both) > 1 else 'holds'} the tensors of two kinds: "
                f"{name} and not {name}", "two checkpoints were merged, or names were changed: get it whole",
            )  # fmt: skip
        said = s.said_kinds(switch)
        if said is None:
            continue
        for on in (True, False):
            wrong = [i for i, state in sorted(seen.items()) if len(state) == 1 and i < len(said) and on in state and said[i] is not on]
            if wrong:
                stored = collapse(sorted(_stored_of_kind(s, switch, on, set(wrong)), key=natural), 2)
                which = f"{holder}{'s' * (len(wrong) > 1)} {ranges(wrong)}"
                if on and switch in s.architecture.idle:
                    yield Finding("info", "kind", stored, f"{which} {'hold' if len(wrong) > 1 else 'holds'} {stored}, which by "
                                  f"{s.config_name} the model does not use there")  # fmt: skip
                    continue
                are_, said_ = ("is", "is not") if on else ("is not", "is")
                yield Finding(
                    "error", "kind", stored, f"{which} {are_} {name} by the tensors ({stored}), and {said_} by {s.config_name}",
                    "use the configuration that belongs to the weights",
                )  # fmt: skip


@also("kind")
def open_kinds(s: Subject) -> Iterator[Finding]:
    """Layers without the tensors that others have (keys that several layers share), where only the configuration says whether they have
    any, and there is none. A layer of a kind that is never beside another kind lacks nothing of that one."""
    arch = s.architecture
    if arch is None or arch.learned:
        return
    open_ = [k for k in arch.layer_kinds if k in arch.one_sided and k not in arch.by_count and s.said_kinds(k) is None]
    on = {k: {i for i, stands in s.kinds(k).items() if stands is arch.one_sided[k]} for k in open_}
    lacking: dict[tuple[str, ...], list[str]] = {}
    for switch in open_:
        holder = switch.partition("@")[2]
        excused = {i for layers in on.values() if not layers & on[switch] for i in layers}
        without = sorted(s.graph.indices.get(holder, set()) - on[switch] - excused)
        if without and on[switch]:
            where = f"{holder}{'s' * (len(without) > 1)} {ranges(without)}"
            lacking.setdefault((where, "have" if len(without) > 1 else "has"), []).extend(
                _stored_of_kind(s, switch, arch.one_sided[switch], on[switch])
            )
    for (where, have), others in lacking.items():
        yield Finding(
            "warning", "kind", where,
            f"{where} {have} nothing of what others have ({collapse(sorted(others, key=natural), 2)}): whether that is meant, the "
            "configuration says", "give the configuration with --config FILE", "undecided",
        )  # fmt: skip


@also("kind")
def listed_kinds(s: Subject) -> Iterator[Finding]:
    """Lists of the layers' kinds that are longer or shorter than there are layers."""
    if s.architecture is None or s.values is None:
        return
    lengths: dict[tuple[int, int], tuple[str, str, str]] = {}
    for switch in s.architecture.layer_kinds:
        said, n = s.said_kinds(switch), s.graph.counts.get(count_name(switch.partition("@")[2]))
        if said is not None and n and len(said) != n:
            lengths.setdefault((len(said), n), switch.partition("@"))
    for (length, n), (name, _, holder) in lengths.items():
        if s.value(count_name(holder)) == length:  # the number of layers itself is wrong, which another rule tells
            continue
        yield Finding(
            "error", "kind", name, f"{s.config_name} says of {counted(length, count_name(holder))} whether they are {name}; the weights "
            f"hold {n}", "use the configuration that belongs to the weights",
        )  # fmt: skip


def _stored_of_kind(s: Subject, switch: str, on: bool, places: set[int]) -> list[str]:
    r = s.graph.recognition
    assert r is not None
    word, holder = switch if on else f"not {switch}", switch.partition("@")[2]
    params = r.architecture.params
    return [n for n, m in r.matches.items() if any(word in params[p].words for p in m.row.parts) and dict(m.at).get(holder) in places]
