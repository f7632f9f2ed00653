"""The words of a dialect: styles, configuration forms, classes, what a naming lacks. `schema` has the rest and re-exports these.

A dialect is one naming of one architecture. Its rows name modules; its style says which tensors a module expands to and how each
lies. Everything is data: reading and writing follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .._typing import TYPE_CHECKING, Any, NamedTuple
from .adjust import Adjust

if TYPE_CHECKING:
    from .library_names import Spelling
    from .split import Split

# style: kind -> canonical suffix -> (layout form, stored suffix, further suffixes met when reading)
# the form is "canonical", "transposed" (linear weights stored in, out), "conv" (stored 1, in, out: a convolution of width one) or
# "row" (a unit dimension before the canonical ones)
Style = Mapping[str, Mapping[str, tuple[str, ...]]]

GOOGLE: Style = {
    "linear": {"weight": ("transposed", "/kernel"), "bias": ("canonical", "/bias")},
    "norm": {"weight": ("canonical", "/gamma"), "bias": ("canonical", "/beta")},
    "embedding": {"weight": ("canonical", "")},
    "param": {"": ("canonical", "")},
}
TORCH: Style = {
    "linear": {"weight": ("canonical", ".weight"), "bias": ("canonical", ".bias")},
    "norm": {"weight": ("canonical", ".weight", ".gamma"), "bias": ("canonical", ".bias", ".beta")},
    "embedding": {"weight": ("canonical", ".weight")},
    "param": {"": ("canonical", "")},
}
CONV1D: Style = {**TORCH, "linear": {"weight": ("transposed", ".weight"), "bias": ("canonical", ".bias")}}
FLAX: Style = {
    "linear": {"weight": ("transposed", "/kernel"), "bias": ("canonical", "/bias")},
    "norm": {"weight": ("canonical", "/scale"), "bias": ("canonical", "/bias")},
    "embedding": {"weight": ("canonical", "/embedding")},
    "param": {"": ("canonical", "")},
}
# Keras layers by the names of their variables, and by their numbers alone (Keras 3's objects)
HDF5: Style = {
    **GOOGLE,
    "embedding": {"weight": ("canonical", "/embeddings", "/weight")},
}
OBJECTS: Style = {
    "linear": {"weight": ("transposed", "/0"), "bias": ("canonical", "/1")},
    "norm": {"weight": ("canonical", "/0"), "bias": ("canonical", "/1")},
    "embedding": {"weight": ("canonical", "/0")},
    "param": {"": ("canonical", "")},
}


class Lack(NamedTuple):
    """A parameter that a dialect has no place for, and what its absence means.

    Reading: the parameter is `fill` everywhere ("identity": ones on the diagonal), with `sizes` for axes only it has.
    Writing from a source that holds it: what is all `fill` is left out; else its rows are added to every row of `fold`
    (float addition, reported as not lossless), or it is left out because that is `harmless` (the reason, which is
    reported), or it is refused. With `when` (two axes) all of this holds only where those axes are of one size.
    """

    fill: float | str
    sizes: Mapping[str, int] = {}
    fold: str | None = None
    why: str = ""
    when: tuple[str, str] | None = None
    harmless: str = ""

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether the dialect lacks the parameter at these axis sizes."""
        return self.when is None or (self.when[0] in sizes and sizes.get(self.when[0]) == sizes.get(self.when[1]))


class Key(NamedTuple):
    """How a configuration key translates: `words` maps a value to the canonical one, `shift` is added when reading; the number in the file
    is `times` the canonical size.
    A size may have words too (true: 4); numbers that are none of them are themselves.

    A word that is a list in the file is a tuple here. With `more`, one key says several canonical values: each word's
    meaning is a tuple of them, or, without words, the one value holds for all.
    `plus` is another key of the same file whose number is added when reading (rows of special tokens after the vocabulary);
    a written file has the sum in the key itself. A size that is null and not `required` is unknown, not wrong, and so is a
    value that is one of `unknown` (Meta's vocab_size -1).
    """

    canonical: str
    words: Mapping[Any, object] | None = None
    shift: int = 0
    required: bool = True  # written even where the value is unknown -> asked for
    plus: str = ""
    more: tuple[str, ...] = ()
    unknown: tuple[object, ...] = ()
    times: int = 1


class Kit(NamedTuple):
    """What else goes into a written folder: the library's class for its heads, the number of labels, and how text is split ("": no
    vocabulary)."""

    model: str = ""
    labels: int | None = None
    text: Mapping[str, object] | None = None


class Vocabulary(NamedTuple):
    """The vocabulary that a library loads: what it is (`files` are keys of `Files.sidecars`), the tokens without which it does not load,
    and what its tokenizer does otherwise than transformers', as far as no setting says it."""

    files: tuple[str, ...]
    tokens: tuple[str, ...] = ()
    otherwise: str = ""


class Reader(NamedTuple):
    """How settings are found where a configuration file is not simply its keys.

    `extras` makes the raw keys of what a weights file holds besides its tensors; `unfold` makes them of a file that holds the settings of
    several models (either gives None where it is no such file); `texts` are other files that the configuration may lie in (never
    written), each with what makes this form's keys of their text.
    """

    extras: Callable[[Mapping[str, object]], dict[str, object] | None] | None = None
    unfold: Callable[[Mapping[str, object]], dict[str, object] | None] | None = None
    texts: Mapping[str, Callable[[str], dict[str, object]]] = {}


class Writer(NamedTuple):
    """How settings are put where a written configuration is not simply a JSON file of its keys.

    `extras` makes of the raw keys what goes into the weights file itself; `fold` makes the file's own shape of them, what `unfold` undoes;
    `text` is how the file is put (None: JSON); `beside` are further JSON files, made of the raw keys (None: not written).
    """

    extras: Callable[[dict[str, object]], dict[str, object]] | None = None
    fold: Callable[[dict[str, object]], dict[str, object]] | None = None
    text: Callable[[Mapping[str, object]], str] | None = None
    beside: Mapping[str, Callable[[Mapping[str, object], Kit], dict[str, object] | None]] = {}


class Whole(NamedTuple):
    """What a form is like that has no room beyond its keys, so that what it cannot say and outputs depend on is refused.

    `may`: canonical values that may go unsaid, since nothing is computed with them -> those that they may be (`...`: any). `conflicts`
    gives, of all canonical values, those that its keys say otherwise or not at all: (canonical, why); `remarks` what a reader should know
    of the others.
    """

    may: Mapping[str, object] = {}
    conflicts: Callable[[Mapping[str, object]], Iterable[tuple[str, str]]] = lambda values: ()
    remarks: Callable[[Mapping[str, object]], Iterable[tuple[str, str]]] = lambda values: ()


class ConfigForm(NamedTuple):
    """A dialect's configuration file.

    A key may lie in an object ("rope_parameters.rope_theta") and have alternatives ("rope_parameters.rope_theta | rope_theta"): all are
    read, the first that is there counts, and what is written is spelled as the source was, else as the first. `marks` are keys with a
    fixed value that say which form this is, written always; `implied` canonical values that the form takes for granted and cannot say;
    `defaults` canonical values where a key is absent (in both, "=layers" is the value of another, "=4 hidden" a multiple of it, "=hidden
    / heads" a quotient without a rest, "=inputs - 1" a difference, "=count layer_types" the length of a list, "=any experts" whether
    there are some); `follows` canonical values that the original code computes from others where a configuration does not say them;
    `also` further keys that a written file gets where nothing else sets them, or functions of the canonical values (`...`: none); `usual`
    keys without a canonical meaning, and the value under which they change nothing of what is computed (`...`: any); `unread` keys that
    configurations have and the library does not read, and the canonical value that it takes; `overruled` sizes in which configurations of
    this form are not trusted, and why: where the tensors differ that is a warning. `needs` are canonical values without which the form's
    own code computes another function: no model with others is written so.
    """

    filename: str  # what a conversion writes; "" where it goes into the weights file
    keys: Mapping[str, str | Key]  # key -> canonical key
    marks: Mapping[str, object] = {}
    implied: Mapping[str, object] = {}
    defaults: Mapping[str, object] = {}
    follows: Mapping[str, Callable[[Mapping[str, object]], object]] = {}
    also: Mapping[str, object] = {}
    usual: Mapping[str, object] = {}
    unread: Mapping[str, str] = {}
    needs: Mapping[str, object] = {}
    labels: bool = False  # names classes and labels as transformers does (architectures, id2label, dtype)
    overruled: Mapping[str, str] = {}
    reader: Reader = Reader()
    writer: Writer = Writer()
    whole: Whole | None = None

    def spec(self, canonical: str) -> str | Key:
        """How this form says a canonical value; the canonical name where it does not."""
        said = ((spec, (spec,) if isinstance(spec, str) else (spec.canonical, *spec.more)) for spec in self.keys.values())
        return next((spec for spec, meant in said if canonical in meant), canonical)


class Class(NamedTuple):
    """A class of the library that a dialect belongs to, with the groups it holds.

    `without`: parameters of those groups that it does not have; `labels`: rows of its classifier, where they are not what the
    configuration lists (a choice has one score); `kinds`: a head -> the kind that it is of in this class (see `Traits.heads`).
    """

    name: str
    groups: frozenset[str]
    without: frozenset[str] = frozenset()
    labels: int | None = None
    kinds: Mapping[str, str] = {}


class Objects(NamedTuple):
    """Where TensorFlow's objects keep what a naming has, so that a written object graph is restored by name.

    `paths`: stored name template, or its beginning -> the attribute path of the object (none: the names are paths themselves);
    `words` what the last part is called there. `aliases`: further paths of an object -> its path, or -> "=path": another object
    with the same values; both take the prefix after `~`. `roots`: attributes that programs hang the model at; `root` the one
    it is written under. `tell`: the last two parts, as a pattern, of a path that says that a checkpoint is of this naming and no
    other with the same names.
    """

    paths: Mapping[str, str] = {}
    words: Mapping[str, str] = {}
    aliases: Mapping[str, str] = {}
    roots: tuple[str, ...] = ()
    root: str = ""
    tell: str = ""


class Repeat(NamedTuple):
    """A further stored name of a parameter, or (parameters..., layout) of a tensor that joins several: it must be equal to it.

    It is written only where the `group` is. `computes`: the library computes with this one, the row's own being idle there; `apart`: its
    loader misses this name where the parameter tied beside it is not tied.
    """

    what: str | tuple[str, ...]
    group: str = ""
    computes: bool = False
    apart: bool = False


class Derived(NamedTuple):
    """A stored tensor that is computed: `how` names one of the architecture's derivations, and after it the canonical values that it
    depends on besides its shape. `made`: a written checkpoint has it, made anew, since the library's loader misses it; `when`: only where
    this canonical value is true."""

    how: str
    layout: str
    made: bool = False
    when: str = ""


class Besides(NamedTuple):
    """What a naming stores besides its rows, each by its name: `repeats` further names of parameters; `derived` what is computed; `strays`
    what carries no weight, and what it is; `layers` what makes the whole layer that holds it one beside the model's, and what that is
    (a layer for multi-token prediction, numbered on after the last)."""

    repeats: Mapping[str, str | Repeat] = {}
    derived: Mapping[str, Derived] = {}
    strays: Mapping[str, str] = {}
    layers: Mapping[str, str] = {}


class Files(NamedTuple):
    """What the files of a naming are like. `metadata`: what a written container carries. `sidecars`: what a file beside the weights is ->
    what it is called here (a vocabulary that other dialects keep under another name)."""

    wrapper: str = ""  # the key under which the tensors lie
    metadata: Mapping[str, str] = {}
    sidecars: Mapping[str, str] = {}
    ties: bool = True  # whether tied parameters are written where the container can say that they are one tensor
    spelling: Spelling | None = None  # how names are stored that are no templates; rows hold its plain names
    objects: Objects | None = None  # where TensorFlow's objects keep it: written with an object graph


class Library(NamedTuple):
    """What the library of a naming knows of its models. `stands`: a head -> the group without which it is another one that the library does
    not have. `models`: what the library names its models of this naming in files that keep the name, without the number it counts them by.
    """

    needs: frozenset[str] = frozenset()  # groups without which it loads nothing: newly initialised where the source lacks them
    stands: Mapping[str, str] = {}
    every: frozenset[str] = frozenset()  # kinds ("keyed@layer") whose tensors it asks for in all layers, used there or not
    models: tuple[str, ...] = ()
    said: Mapping[str, Mapping[str, object]] = {}
    like: str = ""  # transformers' class for what this naming is of, where the groups that are there do not tell it from another
    exact: bool = False  # it builds its model from the configuration alone: weights of another form than that can say are refused
    vocabulary: Vocabulary | None = None  # the vocabulary that it loads with a model, where it has its own form for it


class Dialect(NamedTuple):
    """One naming. `rows`: stored name template -> module, parameter, or (parameters..., layout). A name that begins
    with `~` takes the prefix. ` | ` parts alternatives: the first is written, all are read. A remark after ` # ` tells two rows of one name
    apart, which are of different kinds of layers.

    `lacks`: parameters it has no place for. `limits`: axes that have one size in this naming, and why: others are refused.
    """

    name: str
    title: str
    style: Style
    rows: Mapping[str, str | tuple[str, ...]]
    config: ConfigForm
    prefixes: tuple[str, ...] = ("",)  # the first is written; "" too where no head is stored beside the core
    prefixed: bool = False  # whether the first prefix is written always, and the others only read
    container: str = "safetensors"
    filename: str | None = None  # None: the container's own default
    classes: tuple[Class, ...] = ()
    lacks: Mapping[str, Lack] = {}
    limits: Mapping[str, tuple[int, str]] = {}
    part: str = ""  # which model of several that one checkpoint of this naming holds (ELECTRA's generator); the first listed is meant first
    alias: str = ""  # the name that --to knows it by besides its own: dialects of several parts, or of several containers, share one
    adjust: Mapping[str, Adjust] = {}  # canonical parameter -> how its value follows from the stored one, where they differ
    unties: frozenset[str] = frozenset()  # tied parameters that it stores all the same: each gets a copy
    unties_where: str = ""  # the switch that must be on for that ("gated": T5 1.1 alone)
    computes: str = ""  # what its library computes otherwise than all others do, in words: the same weights are another function there
    besides: Besides = Besides()
    files: Files = Files()
    library: Library = Library()
    split: Split | None = None  # how tensor-parallel ranks share its tensors
    packed: Mapping[str, str] = {}  # rows of stacked experts that its library also stores in MXFP4 -> their layout as packed
    packing: str = "mxfp4-experts"  # as what those are packed
    twin: str = ""  # the naming whose very names it has: it is only written, since what is read is of that one
    short: str = ""  # the axis whose last row, zeros, its container leaves out and reads as if it were there ("vocab": Marian's padding)
    pads: str = ""  # the axis that is padded to a multiple ("vocab"): its true size is the configuration's

    @property
    def mark(self) -> str:
        """A character that is in the name of every row, "/" or ".", so that where no stored name has it nothing of the dialect is there;
        "" if none is."""
        return next((mark for mark in "/." if all(mark in key for key in self.rows)), "")
