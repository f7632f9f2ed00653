"""keras_hub's backbones: the rows of its transformer layers, and the configuration of its presets.

Source: keras_hub 0.32 models/*/*_backbone.py, layers/modeling/transformer_encoder.py and transformer_decoder.py,
utils/preset_utils.py; Keras 3 saving/saving_lib.py (names: see `library_names.objects`); models/*/*_text_classifier.py, *_masked_lm.py,
layers/modeling/masked_lm_head.py (heads). A preset is a folder of config.json, metadata.json and model.weights.h5; with a vocabulary
of tokenizer.json and assets/tokenizer; with a head of task.json, task.weights.h5 (none where the head is the word table) and
preprocessor.json. Activations and epsilons are the classes' own, no preset can say them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ckptkit.schema import OBJECTS, Class, ConfigForm, Dialect, Files, Key, Kit, Lack, Library, Reader, Vocabulary, Writer
from ckptkit.schema.library_names import Layer, Spelling, headed, objects, snake_case

VERSION = "0.32.0"

TOKENS = Layer("token_embedding", "reversible_embedding")
POSITIONS = Layer("position_embedding", "position_embedding")
SEGMENTS = Layer("segment_embedding", "embedding")
JOINT = Layer("embeddings", "token_and_position_embedding")  # both tables in one layer
NORM = Layer("embeddings_layer_norm", "layer_normalization")
ENCODER = Layer("transformer_layer_{}", "transformer_encoder")
DECODER = Layer("transformer_layer_{}", "transformer_decoder")
POOLER = Layer("pooled_dense", "dense")

EMBEDDINGS: dict[str, str | tuple[str, ...]] = {
    "token_embedding": "embeddings.word",
    "position_embedding": "embeddings.position",
    "segment_embedding": "embeddings.segment",
    "embeddings_layer_norm": "embeddings.norm",
}
JOINT_EMBEDDINGS: dict[str, str | tuple[str, ...]] = {
    "embeddings/token_embedding": "embeddings.word",
    "embeddings/position_embedding": "embeddings.position",
    "embeddings_layer_norm": "embeddings.norm",
}
POOLED: dict[str, str | tuple[str, ...]] = {"pooled_dense": "pooler"}

SIZES: dict[str, str | Key] = {
    "vocabulary_size": "vocab",
    "num_layers": "layers",
    "num_heads": "heads",
    "hidden_dim": "hidden",
    "intermediate_dim": "intermediate",
    "dropout": Key("dropout", more=("attention_dropout",)),
    "max_sequence_length": "positions",
}
WITH_SEGMENTS: dict[str, str | Key] = {**SIZES, "num_segments": "segments"}
DEFAULTS: dict[str, object] = {"dropout": 0.1, "attention_dropout": 0.1}


def layer_rows(layer: str, ours: str) -> dict[str, str | tuple[str, ...]]:
    """The rows of a TransformerEncoder or TransformerDecoder: `layer` its plain name, `ours` the canonical prefix."""
    rows: dict[str, str | tuple[str, ...]] = {}
    for part in ("query", "key", "value"):
        rows[f"{layer}/_self_attention_layer/{part}_dense/0"] = (f"{ours}attention.{part}.weight", "hidden heads head_dim")
        rows[f"{layer}/_self_attention_layer/{part}_dense/1"] = (f"{ours}attention.{part}.bias", "heads head_dim")
    rows[f"{layer}/_self_attention_layer/output_dense/0"] = (f"{ours}attention.output.weight", "heads head_dim hidden")
    rows[f"{layer}/_self_attention_layer/output_dense/1"] = f"{ours}attention.output.bias"
    rows[f"{layer}/_self_attention_layer_norm"] = ours + "attention.norm"
    rows[f"{layer}/_feedforward_intermediate_dense"] = ours + "ffn.intermediate"
    rows[f"{layer}/_feedforward_output_dense"] = ours + "ffn.output"
    rows[f"{layer}/_feedforward_layer_norm"] = ours + "ffn.norm"
    return rows


LAYERS = layer_rows("transformer_layer_{layer}", "encoder.layers.{layer}.")
HEAD = (Layer("pooled_dense", "dense", optional=True), Layer("logits", "dense"), Layer("mlm_head", "masked_lm_head"))
MLM: dict[str, str | tuple[str, ...]] = {
    "task/mlm_head/_intermediate_dense": "mlm.transform",
    "task/mlm_head/_intermediate_layer_norm": "mlm.norm",
    "task/mlm_head/0": "mlm.decoder.bias",
}
CLASSIFIER: dict[str, str | tuple[str, ...]] = {"task/logits": "classifier"}
DEEP_CLASSIFIER: dict[str, str | tuple[str, ...]] = {"task/pooled_dense": "classification.dense", "task/logits": "classification.output"}
MASKED_LM_HEAD = {"mlm_norm_eps": 1e-5, "mlm_activation": "gelu"}  # MaskedLMHead's, whatever the backbone has

# the vocabularies of its tokenizers, by what `Files.sidecars` calls the files
WORD_PIECES = Vocabulary(("word pieces",), ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"))
BYTE_PAIRS = ("bpe vocabulary", "bpe merges")
PIECES = ("sentence pieces",)
FILES = {
    "word pieces": "assets/tokenizer/vocabulary.txt",
    "bpe vocabulary": "assets/tokenizer/vocabulary.json",
    "bpe merges": "assets/tokenizer/merges.txt",
    "sentence pieces": "assets/tokenizer/vocabulary.spm",
    "transformers' tokenizer": "assets/transformers/tokenizer.json",  # whose name is that of keras_hub's settings here
}
# of a tokenizer, a dtype is that of the token ids; of everything else that of the arithmetic
INTEGERS = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "int32"}, "registered_name": None}
POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}
CLASS = "class_name"  # of a backbone, among its settings where several classes have the same weights
TASKS = {"TextClassifier": "text_classifier", "MaskedLM": "masked_lm", "CausalLM": "causal_lm", "Seq2SeqLM": "seq_2_seq_lm"}
LONGEST = {"TextClassifier": 512, "MaskedLM": 512, "CausalLM": 1024, "Seq2SeqLM": 1024}  # what their preprocessors cut text to, at most
# the keys that say that length, and what a preprocessor is told besides
LENGTHS = {"Seq2SeqLM": ("encoder_sequence_length", "decoder_sequence_length")}
TOLD: dict[str, dict[str, object]] = {"CausalLM": {"add_start_token": True, "add_end_token": True}, "Seq2SeqLM": {}}


def backbone(
    names: tuple[str, ...], package: str, layers: Spelling | tuple[Layer, ...], rows: Mapping[str, str | tuple[str, ...]], *,
    keys: Mapping[str, str | Key] = WITH_SEGMENTS,
    implied: Mapping[str, object], defaults: Mapping[str, object] = DEFAULTS, lacks: Mapping[str, Lack] = {},
    needs: tuple[str, ...] = ("pooler",),
    tasks: tuple[str, ...] = ("MaskedLM", "TextClassifier"), also: Mapping[str, object] = {}, classifies: tuple[str, ...] = (),
    words: Vocabulary | None = None,
) -> Dialect:  # fmt: skip
    """The dialect of one backbone: `names` its class and others of the same weights, `package` the module that it lies in.

    `classifies`: the groups of its text classifier's head, if it has one, the rows of which are among `rows`. `words`: its
    tokenizer's vocabulary.
    """
    below = layers if isinstance(layers, Spelling) else objects(*layers)
    stem, masked, kin = names[0].removesuffix("Backbone"), "task/mlm_head/0" in rows, keys.get(CLASS)
    classes = [Class(names[0], frozenset(needs))]
    classes += [Class(f"{stem}MaskedLM", frozenset({*needs, "mlm"}))] if masked else []
    classes += [Class(f"{stem}TextClassifier", frozenset({*needs, *classifies}))] if classifies else []
    own = [Class(f"{stem}{t}", frozenset(needs)) for t in tasks if t in TOLD]  # its head is the word table: every checkpoint has it
    return Dialect(
        name="keras_hub",
        title="keras_hub",
        style=OBJECTS,
        container="hdf5",
        filename="model.weights.h5",
        files=Files(
            spelling=headed(
                tuple(map(snake_case, names)),
                below,
                objects(*(h for h in HEAD if h.name in {k.split("/")[1] for k in rows if k.startswith("task/")})),
            ),
            ties=False,
            sidecars=FILES,
        ),
        library=Library(
            exact=True,
            vocabulary=words,
            models=tuple(map(snake_case, names)),
            said={snake_case(n): {kin.canonical: kin.words[n]} for n in names} if isinstance(kin, Key) and kin.words else {},
            needs=frozenset(needs),
            stands={"classifier": "pooler" if classifies == ("classifier",) else "classification"} if "classifier" in classifies else {},
        ),
        rows=rows,
        lacks=lacks,
        classes=tuple(own or (classes if masked or classifies else ())),
        config=ConfigForm(
            filename="config.json",
            keys=keys,
            implied={**MASKED_LM_HEAD, **implied} if masked else implied,
            defaults=defaults,
            also={"name": package.rpartition(".")[2], "trainable": True, "dtype": POLICY, **also},
            reader=Reader(unfold=unfold(names)),
            writer=Writer(
                fold=fold(names, package),
                beside={
                    "metadata.json": metadata(tasks),
                    "tokenizer.json": (text := tokenizer(names[0], words)),
                    "preprocessor.json": preprocessor(stem, text),
                    "task.json": task(stem, text),
                },
            ),
        ),
    )


def unfold(names: tuple[str, ...]) -> Callable[[Mapping[str, object]], dict[str, object] | None]:
    """The settings in a preset's config.json, or of the backbone in a task's; None if it is another class'."""

    def settings(raw: Mapping[str, object]) -> dict[str, object] | None:
        config = raw.get("config")
        if not isinstance(config, dict):
            return None
        if raw.get("class_name") in names:
            plain = {k: v["config"] if isinstance(v, dict) and v.get("class_name") == "function" else v for k, v in config.items()}
            return plain | ({CLASS: raw["class_name"]} if names[1:] else {})
        inner = config.get("backbone")
        return settings(inner) if isinstance(inner, dict) else None

    return settings


def fold(names: tuple[str, ...], package: str) -> Callable[[dict[str, object]], dict[str, object]]:
    """Settings as Keras serialises an object, and in them a function of keras_hub's own."""

    def serialised(raw: dict[str, object]) -> dict[str, object]:
        raw.pop("architectures", None)
        name = str(raw.pop(CLASS, "") or names[0])  # "": it has no class of its own
        where = package if name == names[0] else "{0}.{0}_backbone".format(snake_case(name.removesuffix("Backbone")))
        raw = {
            k: {"module": "builtins", "class_name": "function", "config": v, "registered_name": "function"}
            if isinstance(v, str) and v.startswith("keras_hub>")
            else v
            for k, v in raw.items()
        }
        return {"module": f"keras_hub.src.models.{where}", "class_name": name, "config": raw, "registered_name": f"keras_hub>{name}"}

    return serialised


Made = Callable[[Mapping[str, object], Kit], "dict[str, object] | None"]


def metadata(tasks: tuple[str, ...]) -> Made:
    """A preset's metadata.json, without the date: the same source gives the same files."""

    def said(raw: Mapping[str, object], kit: Kit) -> dict[str, object]:
        return {"keras_hub_version": VERSION, "tasks": list(tasks)}

    return said


def _object(module: str, cls: str, config: Mapping[str, object]) -> dict[str, object]:
    return {"module": f"keras_hub.src.models.{module}", "class_name": cls, "config": dict(config), "registered_name": f"keras_hub>{cls}"}


def _own(raw: Mapping[str, object]) -> tuple[str, str]:
    """("Bert", "bert.bert_backbone") of a folded configuration: whose classes the preset's are, and the module of its backbone."""
    return str(raw["class_name"]).removesuffix("Backbone"), str(raw["module"]).removeprefix("keras_hub.src.models.")


def tokenizer(name: str, words: Vocabulary | None) -> Made:
    """tokenizer.json: keras_hub's tokenizer with the settings that the source says; None without a vocabulary, and for another class
    than `name`, whose `words` are."""
    files: dict[str, dict[str, object]] = {
        "word pieces": {"vocabulary": None},
        "sentence pieces": {"proto": None},
    }  # read from assets/ after
    unset = files.get(words.files[0], {}) if words is not None else {}

    def said(raw: Mapping[str, object], kit: Kit) -> dict[str, object] | None:
        stem, package = _own(raw)
        if kit.text is None or raw["class_name"] != name:
            return None
        module = package.replace("backbone", "tokenizer")
        return _object(
            module,
            f"{stem}Tokenizer",
            {"name": module.partition(".")[2], "trainable": True, "dtype": INTEGERS, "config_file": "tokenizer.json", **unset, **kit.text},
        )

    return said


def _kind(stem: str, kit: Kit) -> str:
    return kit.model.removeprefix(stem) if kit.model.removeprefix(stem) in TASKS else ""


def preprocessor(stem: str, words: Made) -> Made:
    """preprocessor.json: what a task does to text; None where the model has no head or no vocabulary."""

    def said(raw: Mapping[str, object], kit: Kit) -> dict[str, object] | None:
        inner, kind, (own, package) = words(raw, kit), _kind(stem, kit), _own(raw)
        if inner is None or not kind:
            return None
        settings = raw.get("config")
        positions = settings.get("max_sequence_length") if isinstance(settings, dict) else None
        length = min(LONGEST[kind], positions) if isinstance(positions, int) else LONGEST[kind]
        name = f"{package.rpartition('.')[2].replace('backbone', TASKS[kind])}_preprocessor"
        told = dict.fromkeys(LENGTHS.get(kind, ("sequence_length",)), length) | TOLD.get(kind, {"truncate": "round_robin"})
        config = {"name": name, "trainable": True, "dtype": POLICY, "tokenizer": inner, "config_file": "preprocessor.json", **told}
        return _object(f"{package.partition('.')[0]}.{name}", f"{own}{kind}Preprocessor", config)

    return said


def task(stem: str, words: Made) -> Made:
    """task.json: the backbone with its head; None where the model has none."""
    text = preprocessor(stem, words)

    def said(raw: Mapping[str, object], kit: Kit) -> dict[str, object] | None:
        kind, (own, package) = _kind(stem, kit), _own(raw)
        if not kind:
            return None
        name = package.rpartition(".")[2].replace("backbone", TASKS[kind])
        config: dict[str, object] = {"backbone": dict(raw), "preprocessor": text(raw, kit), "name": name}
        if kind == "TextClassifier":
            config |= {"num_classes": kit.labels, "activation": "linear"}
        return _object(f"{package.partition('.')[0]}.{name}", own + kind, config)

    return said
