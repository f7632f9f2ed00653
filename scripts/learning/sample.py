"""Sampling: a model type's classes at many configurations, one key changed at a time and many at once."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from transformers import PreTrainedConfig, PreTrainedModel

from .observe import (
    CONFIG_MAPPING,
    FURTHER,
    IDLE,
    LAYERS,
    MEMORY,
    NEEDED,
    Sample,
    Timeout,
    aliases_of,
    alternatives,
    build,
    classes_of,
    default,
    defaults_of,
    flatten,
    keys,
    make_config,
    parts_of,
    put,
    small_base,
    words_of,
)

Path = tuple[str, ...]
LIKELY = re.compile(r"size|dim|heads|hidden|layer|kernel|channel|depth|bias|num_|width|rank|_rate|stride|experts|embed|type|bins|state")


class Single(NamedTuple):
    """A sample in which one key differs from another sample's."""

    parent: int
    child: int
    path: Path


class Lab:
    """The samples of a model type. `relevant` are the keys that change names or shapes, with the values that a class builds with."""

    def __init__(self, model_type: str, seconds: float = 90) -> None:
        self.model_type = model_type
        self.config = FURTHER[model_type][0] if model_type in FURTHER else CONFIG_MAPPING[model_type]
        self.further = model_type in FURTHER
        self.library = FURTHER[model_type][1].library if self.further else ""
        self.seen: dict[str, dict[str, Any]] = {}  # of another library's: key -> the values that it was built with, each by its text
        self.spread = FURTHER[model_type][1].spread() if self.further else {}
        self.rng = random.Random(model_type)
        self.end = time.process_time() + seconds
        self.samples: list[Sample] = []
        self.heads = True  # whether the size of a head is counted with that nothing says
        self.extra: list[Sample] = []  # what the same has in memory, under the class's name and "@memory"
        self.overs: list[dict[str, Any]] = []
        self.singles: list[Single] = []
        self.relevant: dict[Path, list[Any]] = {}
        self.errors: dict[str, str] = {}
        self.stuck: dict[Path, int] = {}  # keys with which nothing else builds
        self.computed: set[str] = set()  # keys that the library computes of others
        start = default(self.config)
        self.defaults, self.aliases = defaults_of(start), aliases_of(start)
        for key in flatten(NEEDED.get(model_type, {})):  # nothing says these by default
            self.defaults.pop(key, None)
        self.classes: list[type[PreTrainedModel]] = []
        self.parts: dict[str, dict[str, str]] = {}
        self.all_parts = list(parts_of(start))
        found = classes_of(model_type)
        if not found:
            raise LookupError("no class: a part of another model")
        self.base = small_base(found[0], self.config)
        at_base = {}
        for cls in found:
            s = self.build(cls, self.base)
            if s is not None:
                at_base[cls] = s
        if not at_base:
            raise RuntimeError(next(iter(self.errors.values()), "it does not build"))
        most = max(len(s.shapes) for s in at_base.values())  # the first that is nearly the whole
        self.principal = next(c for c in at_base if len(at_base[c].shapes) * 1.1 + 2 >= most)
        self.classes = [self.principal, *(c for c in at_base if c is not self.principal)]
        for c in self.classes:
            self.keep(at_base[c], self.base)

    def find_parts(self) -> None:
        """Where the names of a part of a composite are those of that part's own class: its type, class, and the beginning of the names."""
        config = make_config(self.config, self.base)
        names = self.samples[0].shapes
        for path, model_type in parts_of(config).items():
            inner = config
            for key in path.split("."):
                inner = getattr(inner, key)
            for cls in classes_of(model_type) if model_type in CONFIG_MAPPING else ():
                try:
                    own = build(cls, inner, {}, {})
                except (Exception, Timeout):
                    continue
                first = next(iter(own.shapes))
                starts = [n.removesuffix(first) for n in names if n.endswith(first)]
                found = next((p for p in starts if p and all(p + n in names for n, k in own.kinds.items() if k[0] != "t")), None)
                if found is not None:
                    self.parts[path] = {"type": model_type, "class": cls.__name__, "at": found}
                    break

    @property
    def late(self) -> bool:
        return time.process_time() > self.end

    def build(self, cls: type[PreTrainedModel], over: dict[str, Any]) -> Sample | None:
        """A class at overrides; None where it does not build."""
        try:
            config = make_config(self.config, over)
            labels = over.get("num_labels")
            if labels and getattr(config, "num_labels", labels) != labels:
                config.num_labels = labels
            found = build(cls, config, self.defaults, self.aliases)
            for k, v in found.written.items() if self.further else ():
                self.seen.setdefault(k, {})[json.dumps(v, sort_keys=True, default=str)] = v
            return found
        except (Exception, Timeout) as e:
            self.errors.setdefault(cls.__name__, f"{type(e).__name__}: {' '.join(str(e).split())[:160]}")
            return None

    def keep(self, sample: Sample, over: dict[str, Any]) -> int:
        self.samples.append(sample)
        self.overs.append(over)
        if sample.memory is not None:
            name = sample.cls + MEMORY
            kinds = dict.fromkeys(sample.memory, "p")
            self.extra.append(Sample(name, sample.written, {**sample.env, "*class": name}, sample.memory, kinds))
        return len(self.samples) - 1

    def one_at_a_time(self, parent: int = 0, only: set[Path] | None = None, *, quick: bool = False) -> list[Path]:
        """Change each key of a sample's configuration alone; the keys that changed nothing. `quick`: by one value each."""
        over, base = self.overs[parent], self.samples[parent]
        cls = next(c for c in self.classes if c.__name__ == base.cls)
        words = words_of(self.principal)
        idle = []
        config = make_config(self.config, over)
        every = list(keys(config))
        known = {p for p, _ in every}
        parts = {p[:-1] for p in known}
        every += [((*part, k), None) for k in words["*further"] for part in sorted(parts) if (*part, k) not in known and not IDLE.search(k)]
        every = [(p, v) for p, v in every if only is None or p in only]
        silent = self.idle_together(cls, parent, [(p, v) for p, v in every if not LIKELY.search(p[-1])], words)
        for path, value in every:
            if self.late:
                continue
            if path in silent:
                idle.append(path)
                continue
            seen, wanted = 0, 1 if quick else 3 if type(value) is int else 8
            works: list[Any] = []
            tries = 0
            pinned = False
            for new in alternatives(path, value, words, self.rng):
                tries += 1
                s = self.build(cls, put(over, path, new)) if tries < 12 else None
                if s is None:
                    continue
                same = s.shapes == base.shapes and s.kinds == base.kinds
                seen += 1
                if type(value) is int and not pinned and (pins := self.moved(base, s, path)):
                    pinned = True
                    still = put(over, path, new)
                    for other, kept in pins:
                        still = put(still, other, kept)
                    alone = self.build(cls, still)
                    if alone is not None and (alone.shapes != base.shapes or alone.kinds != base.kinds):
                        works.append(new)
                        self.singles.append(Single(parent, self.keep(alone, still), path))
                if not same:
                    works.append(new)
                    self.singles.append(Single(parent, self.keep(s, put(over, path, new)), path))
                if seen >= (1 if same and type(value) is int and new is not None else wanted):
                    break
            if not seen and type(value) is int and value > 1 and not quick:
                self.stuck[path] = value
            if works:
                if type(value) is int and LAYERS.search(path[-1]):
                    works += [v for v in (1, 2, 3, 6) if v not in (*works, value)]
                self.relevant.setdefault(path, [])
                self.relevant[path] += [w for w in [value, *works] if w not in self.relevant[path]]
            else:
                idle.append(path)
        return idle

    def idle_together(
        self, cls: type[PreTrainedModel], parent: int, every: list[tuple[Path, Any]], words: dict[str, list[str]]
    ) -> set[Path]:
        """The keys that change nothing by any value, found by changing many at once: most are of that kind."""
        values = {path: found[:11] for path, value in every if (found := alternatives(path, value, words, self.rng))}
        kept = {path: 1 if all(type(v) in (int, bool) for v in found) else len(found) for path, found in values.items()}
        silent = set()
        for at in range(0, len(every), 12):
            group = [p for p, _ in every[at : at + 12] if p in values]
            for k in range(max((kept[p] for p in group), default=0)):
                group = [*self._silent(cls, parent, [(p, values[p][k]) for p in group if k < kept[p]]), *(p for p in group if k >= kept[p])]
            silent |= set(group)
        return silent

    def _silent(self, cls: type[PreTrainedModel], parent: int, changes: list[tuple[Path, Any]]) -> list[Path]:
        """Of these changes those that, made together, move nothing; halves where a whole does."""
        if self.late or len(changes) < 2:
            return []
        over, base = self.overs[parent], self.samples[parent]
        for path, new in changes:
            over = put(over, path, new)
        s = self.build(cls, over)
        if s is not None and s.shapes == base.shapes and s.kinds == base.kinds:
            return [p for p, _ in changes]
        half = len(changes) // 2
        return [*self._silent(cls, parent, changes[:half]), *self._silent(cls, parent, changes[half:])] if half > 1 else []

    def other_kinds(self) -> None:
        """Build with fractions, and with what may stand for nothing: a key that moves something by them is known by its default alone."""
        config = make_config(self.config, self.base)
        for key, value in list(vars(config).items()):
            tried = [value * 1.25 + 0.125] if isinstance(value, float) else [[0.5, 0.25], 1.5] if value is None else []
            for new in tried if not IDLE.search(key) and not key.startswith("_") else ():
                before = {k: dict(v) for k, v in self.seen.items()}
                s = self.build(self.principal, put(self.base, (key,), new))
                if s is not None and (s.shapes != self.samples[0].shapes or s.kinds != self.samples[0].kinds):
                    self.seen = before

    def known(self) -> dict[str, Any]:
        """What is known of the keys: those that were never moved, with what they say ("fixed"), "words" and "types" of the others."""
        fixed: dict[str, Any] = {}
        words: dict[str, list[str]] = {}
        types: dict[str, list[str]] = {}
        for key, values in self.seen.items():
            if key.startswith("_") or (IDLE.search(key) and key not in self.config.FIXED):
                continue
            if len(values) == 1:
                fixed[key] = next(iter(values.values()))
                continue
            met = {w for v in values.values() for w in (v if isinstance(v, list) else [v]) if isinstance(w, str)}
            words |= {key: sorted(met)} if met else {}
            kinds = sorted({type(v).__name__ for v in values.values()})
            types[key] = kinds
        return {"fixed": fixed, "words": words, "types": types}

    def in_pairs(self) -> None:
        """Keys that cannot be changed alone: each with another one of its part, so that what the class holds them to still holds."""
        over, base = self.base, self.samples[0]
        whole = [(p, v) for p, v in keys(make_config(self.config, over)) if type(v) is int and v > 1]
        for path, value in self.stuck.items():
            for other, w in whole:
                if other == path or other[:-1] != path[:-1] or self.late:
                    continue
                for times in (2, 3):
                    both = put(put(over, path, value * times), other, w * times)
                    s = self.build(self.principal, both)
                    if s is None:
                        break
                    if s.shapes != base.shapes:
                        child = self.keep(s, both)
                        self.singles += [Single(0, child, path), Single(0, child, other)]
                        for p, v, n in ((path, value, value * times), (other, w, w * times)):
                            self.relevant.setdefault(p, [v])
                            self.relevant[p] += [n] if n not in self.relevant[p] else []

    def moved(self, before: Sample, after: Sample, path: Path) -> list[tuple[Path, Any]]:
        """The keys that the library computed anew when `path` was changed (a head's size, of the hidden size), with what they were."""
        out = []
        for key, value in before.env.items():
            if (
                key != ".".join(path)
                and type(value) is int
                and after.env.get(key) != value
                and key in self.defaults
                and not IDLE.search(key)
            ):
                out.append((tuple(key.split(".")), value))
                self.computed.add(key)
        return out if len(out) <= 4 else []

    def under_flags(self, idle: list[Path]) -> None:
        """Keys that count only where another one is set (a flag, a null, a word): tried again where that one changed names."""
        seen: set[tuple[str, ...]] = set()
        for single in self.singles:  # which grows: a key may count only where two others are set
            a, b = self.samples[single.parent], self.samples[single.child]
            new = _patterns(b) - _patterns(a)
            mark = tuple(sorted(new)[:3])
            if not mark or mark in seen or self.late:
                continue
            seen.add(mark)
            again = {p for p, values in self.relevant.items() if type(values[0]) is int}
            self.one_at_a_time(single.child, {*idle, *again} - {single.path})
            if len(seen) >= 12:
                break

    def leave_out(self, names: set[str]) -> None:
        """Forget classes and their samples."""
        kept = [i for i, s in enumerate(self.samples) if s.cls not in names]
        number = {old: new for new, old in enumerate(kept)}
        self.samples, self.overs = [self.samples[i] for i in kept], [self.overs[i] for i in kept]
        self.extra = [s for s in self.extra if s.cls.partition("@")[0] not in names]
        self.singles = [Single(number[a], number[b], p) for a, b, p in self.singles if a in number and b in number]
        self.classes = [c for c in self.classes if c.__name__ not in names]

    def joint(self, cls: type[PreTrainedModel]) -> tuple[Sample, dict[str, Any]] | None:
        """A class at a configuration in which many keys differ at once."""
        for _ in range(4 if self.further and self.rng.random() < 0.7 else 0):
            over = FURTHER[self.model_type][1].structured(self.rng)
            s = self.build(cls, over) if over is not None else None
            if s is not None and over is not None:
                return s, over
        wanted = [(p, self.rng.choice(values)) for p, values in self.relevant.items() if self.rng.random() < 0.55]
        self.rng.shuffle(wanted)
        while True:
            over = self.base
            for path, value in wanted:
                over = put(over, path, value)
            s = self.build(cls, over)
            if s is not None:
                return s, over
            if len(wanted) < 2:
                return None
            wanted = wanted[: len(wanted) * 2 // 3]

    def joints(self, each: int, other: int) -> list[tuple[Sample, dict[str, Any]]]:
        """Joint samples of the principal class, and of each other one."""
        out = []
        for cls in self.classes:
            for _ in range(each if cls is self.principal else other):
                if self.late:
                    break
                found = self.joint(cls)
                if found is not None:
                    out.append(found)
        return out


SMALL = (  # by the usual names of keys: what a tiny model of any family has, in three sets of sizes
    (re.compile(r"^(hidden_size|d_model|n_embd|dim|embed_dim|embedding_size|d_embed|hidden_dim|decoder_hidden_size|emb_dim)$"), 48, 24, 40),
    (re.compile(r"^projection_dim$"), 40, 20, 36),
    (re.compile(r"(num_|n_|^|_)(attention_|key_value_|kv_)?heads?$"), 6, 2, 4),
    (re.compile(r"(^|_)(n|num)_(\w+_)?layers?$|^(en|de)coder_layers$|^depth$"), 3, 2, 5),
    (re.compile(r"(intermediate_size|ffn_dim|d_ff|n_inner|dim_feedforward|hidden_dim_ffn)$"), 80, 56, 72),
    (re.compile(r"^vocab_size$"), 120, 99, 111),
    (re.compile(r"^(max_position_embeddings|n_positions|max_(source|target)_positions|n_ctx)$"), 72, 50, 66),
    (re.compile(r"^(num_local_experts|num_experts|n_routed_experts)$"), 4, 4, 6),
    (re.compile(r"^image_size$"), 48, 32, 64),
    (re.compile(r"^patch_size$"), 12, 8, 16),
    (re.compile(r"^(head_dim|d_kv)$"), 8, 12, 10),
)


def tiny(config: PreTrainedConfig, kind: int) -> dict[str, Any]:
    """Overrides that make a whole configuration small at once; the third `kind` halves all sizes. Keys that cannot move alone move here."""
    out: dict[str, Any] = {}
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            out[key] = tiny(value, kind)
        elif re.search("_token_id$", key) and isinstance(value, int):
            out[key] = 1
        elif type(value) is int and kind == 3:
            if value >= 32 and value % 2 == 0 and not IDLE.search(key):
                out[key] = value // 2
        elif type(value) is int:
            found = next((sizes[kind] for name, *sizes in SMALL if name.search(key) and value > sizes[kind]), None)
            if found is not None:
                out[key] = found
    return out


def tiny_samples(lab: Lab, kinds: Iterable[int]) -> list[tuple[Sample, dict[str, Any]]]:
    """Each class at tiny configurations, late or not: what was learned in haste is held against them too."""
    config = default(lab.config)
    every = [(cls, tiny(config, kind)) for kind in kinds for cls in lab.classes]
    return [(s, over) for cls, over in every if (s := lab.build(cls, over)) is not None]


def other_lengths(lab: Lab) -> None:
    """Lists of one length that only change it together (sizes of stages): one shorter, one longer."""
    config = make_config(lab.config, lab.base)
    by: dict[tuple[Path, int], list[tuple[Path, list[Any]]]] = {}
    for path, value in keys(config):
        if isinstance(value, (list, tuple)) and 2 <= len(value) <= 12 and all(isinstance(v, (int, str)) for v in value):
            by.setdefault((path[:-1], len(value)), []).append((path, list(value)))
    for (part, n), lists in by.items():
        stages = [
            (p, v)
            for p, v in keys(config)
            if p[:-1] == part and v == n and type(v) is int and re.search("stage|num_layers|feature_levels", p[-1])
        ]
        for change in (lambda v: v[:-1], lambda v: [*v, v[-1]]):
            for counts in ([], stages):
                over = lab.base
                for path, value in lists:
                    over = put(over, path, change(value))
                for path, _ in counts:
                    over = put(over, path, n - 1 if len(change([0] * n)) < n else n + 1)
                s = lab.build(lab.principal, over)
                if s is not None:
                    lab.keep(s, over)
                    break


def _patterns(sample: Sample) -> set[str]:
    """The names with every number alike."""
    return {re.sub(r"\.\d+(?=\.)", ".#", n) for n in sample.shapes}


def observe(model_type: str, seconds: float = 90) -> Lab:
    """A lab with all that learning needs."""
    lab = Lab(model_type, seconds)
    idle = lab.one_at_a_time()
    if lab.further:
        lab.other_kinds()
    lab.in_pairs()
    lab.under_flags(idle)
    other_lengths(lab)
    common = _patterns(lab.samples[0])
    for i in range(1, len(lab.classes)):
        if _patterns(lab.samples[i]) - common:
            lab.one_at_a_time(i, quick=True)
    if ("num_labels",) not in lab.relevant:
        lab.relevant["num_labels",] = [2, 3, 5, 7]
    for path, values in list(lab.relevant.items()):
        if path[-1] in ("num_attention_heads", "hidden_size", "vocab_size") or IDLE.search(path[-1]):
            lab.relevant[path] = values[:4]
    lab.find_parts()
    for sample, over in (*tiny_samples(lab, (0, 1, 3)), *lab.joints(60 if lab.spread else 28, 6)):
        lab.keep(sample, over)
    return lab
