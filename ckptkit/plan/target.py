"""What a conversion writes: the target's naming, container and file name, and which heads are added or dropped. Each is chosen, or
refused with the names that there are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .._typing import NamedTuple, NoReturn
from ..arch import architectures, dialect_names
from ..configuration.read import BLOCK
from ..containers import Container, by_name, containers, known
from ..errors import UnsupportedError, UsageError, one_of
from ..graph.examine import Subject
from ..graph.tf_objects import MEMORY
from ..packing import by_name as packed
from ..schema import Dialect
from ..schema.templates import reduce_names
from .with_codes import KINDS


class Wanted(NamedTuple):
    """What a caller asks of the target, in the words of `verbs.convert.convert`."""

    to: str | None = None  # a dialect, or a container; None: names stay
    container: str | None = None
    dtypes: Sequence[tuple[str, str]] = ()
    max_shard_size: int | None = None
    drop: Sequence[str] = ()
    drop_optimizer: bool = False
    init_missing: bool = False
    add: Sequence[str] = ()
    resize_vocab: int | None = None
    seed: int = 0
    dequantize: bool = False
    quantize: str | None = None
    keep: Sequence[str] = ()
    names_only: bool = False
    renew: bool = False
    tp: int = 1  # tensor-parallel ranks
    pp: int = 1  # stages of a pipeline

    @property
    def grows(self) -> bool:
        """Whether the target is to hold what the source does not."""
        return self.init_missing or bool(self.add) or self.resize_vocab is not None


class Request(NamedTuple):
    """What is written, decided. `dtypes`: (glob on target or canonical names, dtype), the last that fits counts."""

    target: str
    single: bool  # whether it is one file
    container: Container
    dialect: Dialect | None
    filename: str
    dtypes: tuple[tuple[str, str], ...] = ()
    max_shard_size: int | None = None
    drop_optimizer: bool = False
    drop_groups: frozenset[str] = frozenset()
    vocab: int | None = None  # rows of the vocabulary in the target
    init_missing: bool = False  # whether parameters that the source lacks start anew
    add_groups: frozenset[str] = frozenset()  # heads that start anew
    seed: int = 0
    dequantize: bool = False  # whether packed weights are decoded; else their parts move as they are
    quantize: str | None = None  # the name of the packing that weights get
    keep: tuple[str, ...] = ()  # globs of those that do not
    repack: bool = False  # whether packed weights get the parts that another naming has of the same packing
    names_only: bool = False  # without a configuration where the source has none
    tp: int = 1
    pp: int = 1


def choose_target(subject: Subject, wanted: Wanted, target: str) -> Request:
    """What is written at `target`: its naming, container and file name, the heads that are added or dropped. Raises UsageError."""
    wanted = with_container(wanted)
    if wanted.to is not None and subject.architecture is None and fragment_of(subject, wanted.to):
        wanted = wanted._replace(to=None, container=wanted.container or "safetensors")
    single = single_file(target, wanted.container)
    file = target if single else None
    form = wanted.container or (choose_container(subject, None, None, target).NAME if single else None)
    dialect = choose_dialect(subject, wanted.to, form) if wanted.to is not None or not wanted.grows else own_dialect(subject)
    container = choose_container(subject, dialect, wanted.container, file)
    if wanted.tp > 1 or wanted.pp > 1:
        dialect = dialect or subject.graph.dialect
        container = _of_ranks(dialect, wanted)
    if dialect is not None and dialect is subject.graph.dialect and _has_one_naming(subject) and not (wanted.renew or wanted.grows):
        dialect = None  # the names are the library's as they are
    repack = False
    if subject.packings.weights and not wanted.dequantize and dialect is not None:
        repack = dialect is not subject.graph.dialect and repacks(subject, dialect, container)
        if dialect is not subject.graph.dialect and not repack and not _own_packing(subject, dialect):
            _refuse_packed(subject, dialect)
        dialect = dialect if repack else None  # the names stay, and with them the parts
    return Request(
        target, single, container, dialect, filename(container, dialect or subject.graph.dialect, file), tuple(wanted.dtypes),
        wanted.max_shard_size, wanted.drop_optimizer, known_groups(subject, wanted.drop, "--drop"), wanted.resize_vocab,
        wanted.init_missing, new_groups(subject, dialect, wanted.add), wanted.seed,
        wanted.dequantize, wanted.quantize, tuple(wanted.keep), repack, wanted.names_only, wanted.tp, wanted.pp,
    )  # fmt: skip


def fragment_of(subject: Subject, to: str) -> tuple[str, ...]:
    """The architectures in whose naming `to` every name of an unknown checkpoint is, at its usual prefixes: a part of one of them, whose
    names are that naming's already. () where one name is in none."""
    if to != "hf" or subject.checkpoint.container not in ("safetensors", "torch"):
        return ()
    patterns = set(reduce_names(subject.checkpoint.tensors).values())
    out = []
    for arch in architectures().values():
        for d in arch.dialects.values():
            if d.name == to and patterns and any(patterns <= arch.table(d.name).index(prefix).keys() for prefix in d.prefixes):
                out.append(arch.title)
    return tuple(dict.fromkeys(out))


def _of_ranks(dialect: Dialect | None, wanted: Wanted) -> Container:
    """The container that a naming's ranks write. UsageError where it has none, or another is asked for."""
    if dialect is None or dialect.split is None or not dialect.split.container:
        what = f"{dialect.title} says nothing of ranks" if dialect is not None else "the architecture is unknown"
        raise UsageError(f"--tp, --pp: {what}", hint="--to megatron, or --to meta")
    if wanted.container not in (None, dialect.split.container, dialect.split.whole or None):
        raise UsageError(
            f"--tp, --pp: files of ranks are {dialect.split.container}'s, not {wanted.container}'s", hint="leave --container out"
        )
    return by_name(wanted.container or dialect.split.container)


def _has_one_naming(subject: Subject) -> bool:
    """Whether the architecture is a learned one, without a wrapper to take off."""
    r = subject.graph.recognition
    return r is not None and r.learned is not None and not r.wrapper


def repacks(subject: Subject, dialect: Dialect, container: Container) -> bool:
    """Whether all that is packed is MXFP4, which the target has too: as blocks of ggml, or as gpt-oss' parts."""
    kinds = {w.form.options.get("type", w.form.packing) for w in subject.packings.weights.values()}
    held = dialect.container == container.NAME and (container.NAME == "gguf" or bool(dialect.packed))
    return held and kinds <= KINDS


def _own_packing(subject: Subject, dialect: Dialect) -> bool:
    """Whether the source's names are this naming's, and its weights packed as its library packs them."""
    own = subject.graph.dialect
    kinds = {packed(w.form.packing) for w in subject.packings.weights.values()}
    return own is not None and dialect.twin == own.name and all(dialect.name in p.METHODS for p in kinds)


def _refuse_packed(subject: Subject, dialect: Dialect) -> NoReturn:
    """UnsupportedError: what another naming would do with packed weights is not known."""
    weights = subject.packings.weights
    kinds = ", ".join(dict.fromkeys(w.label for w in weights.values()))
    raise UnsupportedError(
        f"{len(weights)} weights are packed ({kinds}), and {dialect.title} has no place for their parts", path=subject.checkpoint.path,
        hint="--dequantize decodes them (with --dtype, to that type); without --to everything moves as it is stored",
    )  # fmt: skip


def with_container(wanted: Wanted) -> Wanted:
    """`wanted`, where a container is named in the dialect's place (`--to npz`) with that container."""
    if wanted.to is not None and wanted.container is None and is_container(wanted.to):
        return wanted._replace(to=None, container=wanted.to)
    return wanted


def single_file(target: str, container: str | None) -> bool:
    """Whether `target` names one file: it ends like a container that can be a single file, and is no directory."""
    if "." not in os.path.basename(target) or os.path.isdir(target) or target.endswith(".index.json"):
        return False
    return any(target.endswith(k.suffixes) for k in known() if k.writable and k.single and container in (None, k.name))


def is_container(word: str) -> bool:
    """Whether a target form is a container's name and no dialect's: the names then stay as they are."""
    return any(k.writable and k.name == word for k in known()) and word not in dialect_names()


def choose_dialect(subject: Subject, to: str | None, container: str | None = None) -> Dialect | None:
    """The target dialect called `to`; UsageError says which ones the architecture has. Of several the one that `container` is written in
    counts."""
    if to is None:
        return None
    arch = subject.architecture
    if arch is None:
        if to not in dialect_names():
            raise UsageError(f"no dialect is called {to!r}", hint=one_of(to, sorted(dialect_names()), "ckptkit list dialects"))
        raise UsageError(
            f"the architecture is unknown, so its names cannot be translated to {to}", path=subject.checkpoint.path,
            hint="leave --to out to change the container only (--container NAME), or see `ckptkit list architectures`",
        )  # fmt: skip
    fits = [d for d in arch.dialects.values() if to in (d.name, d.alias)]
    if not fits:
        others = [a.name for a in architectures().values() if any(to in (d.name, d.alias) for d in a.dialects.values())]
        also = f"; if it is one of {', '.join(others)}, say so with --architecture" if others else ""
        raise UsageError(f"{arch.title} has no dialect {to!r}", hint=one_of(to, arch.dialects) + also)
    own, groups = subject.graph.dialect, subject.graph.groups
    rests = subject.values.rest if subject.values is not None else {}
    block = as_mapping(as_mapping(subject.config.raw if subject.config is not None else None).get(BLOCK))
    came = as_mapping(block.get(MEMORY))
    held = {b.row.parts[b.which] for b in subject.graph.params.values()}
    chosen = {p for p in held if "@" not in arch.params[p].switch and arch.params[p].switch}  # what a form of the model has by choice
    # the container's, one that computes as the model does, one with room for what it has by choice, the one of that very name, the one
    # that holds the heads, the one that holds the rest; between equals the source's own, one it once came from, its part
    return max(
        fits,
        key=lambda d: (
            d.container == container,
            sum(1 if subject.value(c) == v else -1 for c, v in d.config.needs.items()),
            chosen <= arch.table(d.name).by_param.keys(),
            d.name == to,
            len(groups & arch.table(d.name).groups),
            len(held & arch.table(d.name).by_param.keys()),
            d is own,
            bool(rests.get(d.name)) or d.name in came,
            own is not None and d.part == own.part,
        ),
    )


def choose_container(subject: Subject, dialect: Dialect | None, name: str | None, file: str | None) -> Container:
    """The container asked for, the one a file name asks for, the dialect's own, or the source's."""
    if name is not None:
        c = by_name(name)
    elif file is not None:
        c = next(k.load() for k in known() if k.writable and k.single and file.endswith(k.suffixes))
    elif dialect is not None:
        c = by_name(dialect.container)
    else:
        raise UsageError("neither a dialect (--to) nor a container (--container) is named", hint=f"--container {' or '.join(writable())}")
    if not c.WRITABLE:
        raise UsageError(f"{c.TITLE} can be read but not written", hint=f"one of {', '.join(writable())}")
    return c


def writable() -> list[str]:
    """The names of the containers that can be written, those that hold any model's tensors first."""
    return [c.NAME for c in sorted(containers().values(), key=lambda c: getattr(c, "ONLY", "")) if c.WRITABLE]


def filename(container: Container, dialect: Dialect | None, file: str | None) -> str:
    """What the weights are called in the target."""
    if file is not None:
        return os.path.basename(file)
    if dialect is not None and dialect.filename is not None and dialect.container == container.NAME:
        return dialect.filename
    return container.DEFAULT_FILE


def own_dialect(subject: Subject) -> Dialect:
    """The dialect that the names are of; UsageError where none is known."""
    if subject.graph.dialect is None:
        raise UsageError(
            "the architecture is unknown, so nothing can be made new in it",
            path=subject.checkpoint.path,
            hint="--architecture NAME, if recognition is wrong",
        )
    return subject.graph.dialect


def new_groups(subject: Subject, dialect: Dialect | None, add: Sequence[str]) -> frozenset[str]:
    """The heads of `add` that the source lacks; UsageError where the target's naming has no place for one."""
    groups = known_groups(subject, add, "--add") - subject.graph.groups
    if groups and subject.architecture is not None and dialect is not None:
        table = subject.architecture.table(dialect.name)
        for g in sorted(groups - table.groups):
            raise UsageError(f"--add {g}: {dialect.title} has no place for it", hint=f"it has {', '.join(sorted(table.groups - {'core'}))}")
    return groups


def known_groups(subject: Subject, drop: Sequence[str], option: str) -> frozenset[str]:
    """`drop` as groups of the architecture that are no core; UsageError lists them."""
    if not drop:
        return frozenset()
    arch = subject.architecture
    groups = {p.group for p in arch.params.values()} - {"core"} if arch is not None else set()
    for g in drop:
        if g not in groups:
            raise UsageError(f"{option} {g}: there is no such head here", hint=one_of(g, sorted(groups)) or None)
    return frozenset(drop)


def as_mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
