"""Building models: from a checkpoint, or from a configuration alone. What no weights give is initialised, listed and said.

Nothing is loaded in part without a word: error findings of `validate` stop the build, and every parameter that was made
new is named in `model.initialised` and in a warning.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..arch import architectures, by_name, called, known
from ..configuration.read import first_said, interpret, read_config
from ..errors import FindingsError, UndecidedError, UnsupportedError, UsageError, one_of, with_extra
from ..graph.account import require_read, unexplained_keys
from ..graph.canonical_arrays import Weights
from ..graph.examine import Subject, examine
from ..graph.sentence import sentence_of
from ..plan.initial import INITIALIZERS, Starts, draw, recipe
from ..rules.run import run_rules
from ..schema import Architecture, Dialect
from ..schema.traits import head, traits_of
from ..support.name_text import collapse
from .flow import APPLICATIONS
from .freeze import frozen
from .spec import Leaf, Spec, make_spec, spec_of, spec_of_config
from .tasks import Asked, asked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXTRAS = {"torch": ("torch", "torch"), "keras": ("keras", "tensorflow")}  # framework -> (module, extra to install)
FLAGS = {"with_pool": "pooler", "with_mlm": "lm", "with_nsp": "pooled"}  # what asks for a head -> its kind (`Traits.heads`)
# names that bert4keras and bert4torch give models, where no architecture is called so by itself
ALIASES = {"gpt": "openai-gpt", "t5.1.0": "t5", "t5.1.1": "t5", "mt5.1.1": "mt5"}
STACKS = ("_encoder", "_decoder")  # endings of such a name: one stack of two


def build_transformer_model(
    config_path: str | os.PathLike[str] | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
    model: str | None = None,
    framework: str = "torch",
    application: str = "encoder",
    with_pool: bool = False,
    with_mlm: bool = False,
    with_nsp: bool = False,
    *,
    heads: Sequence[str] = (),
    labels: int | None = None,
    freeze: str | Sequence[str] | None = None,
    initializer: str | None = None,
    seed: int = 0,
    dtype: str | None = "float32",
    full_mask: bool = False,
    resize_vocab: int | None = None,
    init_missing: bool = False,
    part: str | None = None,
    given: Mapping[str, object] | None = None,
) -> Any:
    """A `torch.nn.Module` or `keras.Model` of a configuration and, if given, a checkpoint of any container and dialect.

    `model`: "bert", "albert", ... or a key of bert4keras or bert4torch ("roformer_v2", "albert_unshared", "t5.1.1_encoder"; default: what
    the checkpoint and the configuration say); `application`: "encoder", "lm"
    (each position sees what comes before) or "unilm" (the second segment is written after the first); `heads`: further heads
    by group ("classifier", with `labels` classes) or as transformers' classes end ("ForSequenceClassification", "ForTokenClassification",
    "ForQuestionAnswering"; the model's `asked` has their names in its output); `freeze`: names, globs, modules, layers ("embeddings",
    "encoder.layers.0-5"); `initializer`: truncated_normal, normal, zeros or xavier_uniform instead of the authors' own for
    new weights, drawn by `seed`; `dtype`: of the parameters, None keeps the stored one (PyTorch);
    `resize_vocab`: rows of the vocabulary, further ones new; `init_missing`: parameters that the weights lack start anew as
    well, instead of being an error; `full_mask`: a Keras model's attention mask is [batch, query, key] (a PyTorch model takes either).

    Raises FindingsError with the findings of `validate` where configuration and weights do not fit, and UsageError or
    UnsupportedError, with the extra to install, where the framework is not there.
    """
    if framework not in EXTRAS:
        raise UsageError(f"no framework is called {framework!r}", hint=one_of(framework, EXTRAS))
    if application not in APPLICATIONS:
        raise UsageError(f"no application is called {application!r}", hint=one_of(application, APPLICATIONS))
    if initializer is not None and initializer not in INITIALIZERS:
        raise UsageError(f"no initializer is called {initializer!r}", hint=one_of(initializer, INITIALIZERS))
    require(framework)
    flags = [flag for flag, on in (("with_pool", with_pool or with_nsp), ("with_mlm", with_mlm), ("with_nsp", with_nsp)) if on]
    more = {"labels": labels} if labels is not None else {}
    name, stack = _key(model)
    if checkpoint_path is None:
        if config_path is None:
            raise UsageError("neither a configuration nor a checkpoint is named")
        arch, values = _from_config(os.fspath(config_path), name)
        if resize_vocab is not None:
            more["vocab"] = resize_vocab
        wanted = asked(arch, heads)
        groups = _known(arch, wanted.groups, flags) | (parts(arch) if stack != "_encoder" else frozenset())
        made = spec_of_config(wanted.arch, {**values, **(given or {}), **more, **wanted.values}, groups | wanted.groups)
        spec, _ = _as_called(model, wanted.on(made), None)
        built = finish(
            spec, None, framework=framework, application=application, freeze=freeze, initializer=initializer, seed=seed,
            dtype=dtype, full_mask=full_mask,
        )  # fmt: skip
        return _said_of(built, wanted)
    config = os.fspath(config_path) if config_path is not None else None
    with _examined(name, checkpoint_path, config=config, part=part, given={**(given or {}), **more}) as subject:
        found = subject.architecture
        if found is None or (name is not None and name not in found.names and found.name not in {a.name for a in called(name)}):
            what = found.title if found is not None else "no known architecture"
            raise UsageError(f"the weights are those of {what}" + (f", not of {model}" if model else ""), path=subject.checkpoint.path)
        refuse_errors(subject, init_missing)
        require_read(subject, "the model")
        _say_unread(unexplained_keys(subject))
        wanted = asked(found, heads)
        groups = _known(found, wanted.groups, flags) | (parts(found) & subject.graph.groups if stack != "_encoder" else frozenset())
        spec, weights = _as_called(model, wanted.on(with_new(subject, groups, resize_vocab, wanted)), Weights(subject))
        built = finish(
            spec, weights, framework=framework, application=application, freeze=freeze, initializer=initializer, seed=seed,
            dtype=dtype, full_mask=full_mask,
        )  # fmt: skip
        return _said_of(built, wanted)


def _said_of(built: Any, wanted: Asked) -> Any:
    built.__dict__["asked"] = wanted.outputs
    return built


def _say_unread(unknown: Collection[str]) -> None:
    if unknown:
        what = f"{len(unknown)} key{'s' * (len(unknown) > 1)} of the configuration that may change what the model computes"
        warnings.warn(f"{what}: nothing here reads {', '.join(sorted(unknown))}", stacklevel=3)


def _key(model: str | None) -> tuple[str | None, str]:
    """(what an architecture is called, "_encoder" or "_decoder" where only that stack is meant) of a key."""
    if not model:
        return None, ""
    stack = next((s for s in STACKS if model.endswith(s) and known(model) is None), "")
    name = model.removesuffix(stack)
    spellings = (name, name.replace("_", "-"), name.replace("-", "_"))  # transformers' own words have either
    return ALIASES.get(name) or next((n for n in spellings if known(n) is not None or called(n)), name), stack


def _examined(name: str | None, path: str | os.PathLike[str], **words: Any) -> Subject:
    """The checkpoint, taken for what the key says where its names could be that as well as what they are likely to be."""
    subject = examine(path, **words)
    r = subject.graph.recognition
    if name is None or r is None or r.learned is not None:
        return subject
    others = {*r.cousins, *r.likely, *r.lost}
    named = {a.name for a in (known(name), *called(name)) if a is not None}
    if r.architecture.name in named:
        meant = {r.architecture.name} if others and not named & others else set()
    else:
        meant = {a.name for a in _named(name)} & others if named else set()
    if len(meant) != 1:
        return subject
    subject.checkpoint.close()
    return examine(path, architecture=meant.pop(), **words)


def _as_called(model: str | None, spec: Spec, weights: Weights | None) -> tuple[Spec, Weights | None]:
    """A spec and its weights as a key wants them: ALBERT's layers apart, one stack of two."""
    if model == "albert_unshared":
        from .unshared import unshared

        return unshared(spec, weights)
    _, stack = _key(model)
    if stack:
        from .one_stack import one_stack

        return one_stack(spec, weights, stack[1:])
    return spec, weights


def require(framework: str) -> None:
    """UnsupportedError, naming the extra, where a framework cannot be imported."""
    from importlib import import_module

    module, extra = EXTRAS[framework]
    if framework == "keras":
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # stderr is for messages about checkpoints
    try:
        import_module(extra)
        import_module(module)
    except ImportError as e:
        raise UnsupportedError(f"{extra} is not installed, and a {framework} model needs it ({e})", hint=with_extra(extra)) from None


def refuse_errors(subject: Subject, init_missing: bool = False) -> None:
    """FindingsError if the checkpoint has an error finding (other than what is missing, if that is to be made)."""
    errors = [f for f in run_rules(subject, integrity=False) if f.severity == "error" and not (init_missing and f.rule == "missing")]
    modules = sentence_of(subject)
    errors += [f for f in modules.faults if f.severity == "error"] if modules is not None else []
    if errors:
        raise FindingsError(
            errors[0].message, tuple(errors), path=subject.checkpoint.path, hint=errors[0].hint or "ckptkit validate shows every finding"
        )


def _known(arch: Architecture, groups: Collection[str], flags: Collection[str]) -> frozenset[str]:
    """The heads asked for, and for each of `flags` the first of its kind. UsageError for what the architecture does not have."""
    have = {m.group for m in arch.modules.values()} - {"core"}
    stated = {g: head(text).kind for g, text in _heads(arch).items() if g in have} if flags else {}
    out = set(groups)
    for flag in flags:
        if not arch.traits:
            raise UndecidedError(f"it is not known here how {arch.title} runs", hint="ckptkit validate and convert need no model")
        of_kind = next((g for g, kind in stated.items() if kind == FLAGS[flag]), None)
        if of_kind is None and FLAGS[flag] in {head(text).kind for text in _heads(arch).values()}:
            continue  # a part of the model, whose head is always there (T5's)
        if of_kind is None:
            raise UsageError(f"{arch.title} has no head of the kind that {flag} asks for", hint=f"one of {', '.join(sorted(have))}")
        out.add(of_kind)
    return frozenset(out)


def parts(arch: Architecture) -> frozenset[str]:
    """The groups that are no head but a part of the model itself (T5's decoder)."""
    return frozenset(g for g, text in _heads(arch).items() if head(text).kind == "part")


def _heads(arch: Architecture) -> Mapping[str, str]:
    """What the traits say of heads, if there are traits."""
    return traits_of(arch).heads if arch.traits else {}


def _from_config(path: str, name: str | None) -> tuple[Architecture, dict[str, object]]:
    raw = read_config(path)
    named = name or raw.declared
    theirs = called(name or "") if isinstance(raw.raw.get("model"), str) else []  # as bert4torch, whose settings these are, calls it
    arches = theirs or _named(named) if named else sorted(architectures().values(), key=lambda a: a.rank)
    arch, d = max(((a, d) for a in arches for d in a.dialects.values()), key=lambda found: _said(raw.raw, found[1]))
    if not named and not _said(raw.raw, d):
        raise UsageError("no known model has such a configuration", path=path, hint="name the model")
    values = interpret(raw, arch, d)
    errors = [f for f in values.findings if f.severity == "error"]
    if errors:
        raise FindingsError(errors[0].message, tuple(errors), path=path)
    computed = {c: follow(values.values) for c, follow in d.config.follows.items() if values.values.get(c) is None}
    return arch, {**values.values, **computed}


def _named(name: str) -> list[Architecture]:
    """What is called so by a configuration or by bert4keras and bert4torch, which may be two things. UsageError where nothing is."""
    found = [a for a in (known(name), *called(name)) if a is not None]
    return list({a.name: a for a in found}.values()) or [by_name(name)]


def _said(raw: Mapping[str, object], dialect: Dialect) -> int:
    """How much of a configuration is in the keys and marks of a dialect's form."""
    form = dialect.config
    settings: Mapping[str, object] | None = form.reader.unfold(raw) if form.reader.unfold is not None else raw
    if settings is None and form.labels:
        settings = raw
    if settings is None:
        return 0
    return sum(first_said(settings, k) is not None for k in form.keys) + sum(settings.get(k) == v for k, v in form.marks.items())


def with_new(subject: Subject, groups: frozenset[str], vocab: int | None = None, wanted: Asked | None = None) -> Spec:
    """The spec with heads that the weights hold and heads that they lack: sizes of the latter from relations and `given`."""
    arch = wanted.arch if wanted is not None else subject.architecture
    assert arch is not None
    if groups <= subject.graph.groups | subject.tied_groups:
        return spec_of(subject, groups, vocab)
    held = spec_of(subject, groups & subject.graph.groups, vocab)
    values = {**held.values, **{a: n for a, n in held.sizes.items() if a not in arch.fixed}}
    whole = spec_of_config(arch, {**values, **(wanted.values if wanted is not None else {})}, groups)
    new = tuple(leaf for leaf in whole.leaves if leaf.group in groups - subject.graph.groups)
    return held._replace(leaves=held.leaves + new, ties={**held.ties, **whole.ties}, sizes={**whole.sizes, **held.sizes})


def arrays_of(
    spec: Spec,
    weights: Weights | None,
    *,
    initializer: str | None = None,
    seed: int = 0,
    told: Callable[[int], object] | None = None,
) -> tuple[Spec, dict[str, NDArray[np.generic]], tuple[str, ...]]:
    """(the spec with the ties that hold, an array for every parameter that is no tie, the names of the new ones). `told` hears of each how
    many numbers it has."""
    import numpy as np

    ties = dict(spec.ties) if weights is None else tied_here(weights, spec)
    if weights is None and spec.values.get("tied") is False:
        ties = {}
    arrays: dict[str, NDArray[np.generic]] = {}
    new = []
    for name, shape, leaf in spec.params():
        if name in ties:
            continue
        if told is not None:
            told(math.prod(shape))
        if weights is None or name not in weights:
            arrays[name] = _drawn(spec, name, shape, leaf, initializer, seed, range(shape[0] if shape else 1))
            new.append(name)
            continue
        array = weights.get(name)
        if array.shape != shape:  # the vocabulary, which is the first axis of every canonical parameter that has it
            have, want = len(array), shape[0]
            if want > have:
                new.append(f"{name}[{have}:{want}]")
                array = np.concatenate([array, _drawn(spec, name, shape, leaf, initializer, seed, range(have, want)).astype(array.dtype)])
            array = array[:want]
        arrays[name] = array
    return spec._replace(ties=ties), arrays, tuple(new)


def _drawn(
    spec: Spec, name: str, shape: tuple[int, ...], leaf: Leaf, initializer: str | None, seed: int, rows: range
) -> NDArray[np.generic]:
    """Some rows of a new parameter."""
    import numpy as np

    how = recipe(Starts(spec.traits.init, spec.values.get, spec.sizes), leaf.kind, name[len(leaf.path) + 1 :], name, shape, initializer)
    row = math.prod(shape[1:])
    out = np.empty(len(rows) * row, np.float32)
    draw(how, name, seed, rows.start * row, out)
    return out.reshape(len(rows), *shape[1:]) if shape else out.reshape(())


def finish(
    spec: Spec,
    weights: Weights | None,
    *,
    framework: str,
    application: str = "encoder",
    freeze: str | Sequence[str] | None = None,
    initializer: str | None = None,
    seed: int = 0,
    dtype: str | None = "float32",
    keep: bool = True,
    full_mask: bool = False,
) -> Any:
    """The built model. `keep`: PyTorch parameters may lie over the mapped file. `full_mask`: see `build_transformer_model`."""
    spec, arrays, new = arrays_of(spec, weights, initializer=initializer, seed=seed)
    fixed = frozen([n for n, _, _ in spec.params()], freeze)
    if weights is not None and new:
        warnings.warn(
            f"{len(new)} parameter{'s' * (len(new) > 1)} not in the checkpoint, initialised (seed {seed}): {collapse(list(new))}",
            stacklevel=3,
        )
    if framework == "torch":
        from . import torch as engine

        built: Any = engine.build(spec, arrays, application=application, dtype=dtype, keep=keep)
    else:
        from . import keras as keras_engine  # type: ignore[attr-defined,no-redef,unused-ignore]

        built = keras_engine.build(spec, arrays, application=application, full_mask=full_mask)
    built.__dict__["initialised"] = new
    (engine if framework == "torch" else keras_engine).freeze(built, fixed)
    return built


__all__ = ["arrays_of", "build_transformer_model", "finish", "make_spec", "refuse_errors", "require", "with_new"]


def tied_here(weights: Weights, spec: Spec) -> dict[str, str]:
    """The ties of the spec that hold: the parameter is absent, or present and equal while nothing says that they are apart."""
    import numpy as np

    out = {}
    for name, other in spec.ties.items():
        if name not in weights.subject.graph.params:
            if spec.values.get("tied") is not False or other in weights:
                out[name] = other
        elif spec.values.get("tied") is not False and np.array_equal(weights.get(name), weights.get(other)):
            out[name] = other
    return out
