"""How libraries number and call what a model is made of: names written by hand, as the libraries' own files have them."""

from __future__ import annotations

from ckptkit.schema.library_names import Layer, layers, objects, snake_case, starting, tensorflow


def test_keras_numbers_layers_within_their_class_and_the_first_has_no_number() -> None:
    names = [
        "layers/dense/vars/0",
        "layers/dense_1/vars/1",
        "layers/dense_10/vars/0",
        "layers/dense_01/vars/0",
        "layers/other/vars/0",
        "dense/vars/0",
    ]
    spelling = objects(*(Layer(f"d{i}", "dense") for i in range(11)))
    plain = spelling.plain(names, {})
    assert plain == {"layers/dense/vars/0": "d0/0", "layers/dense_1/vars/1": "d1/1", "layers/dense_10/vars/0": "d10/0"}
    every = [f"d{i}/0" for i in range(11)]
    assert spelling.stored(every, "") == {f"d{i}/0": f"layers/dense{f'_{i}' * bool(i)}/vars/0" for i in range(11)}


def test_an_optional_layer_shifts_the_numbers_of_those_behind_it() -> None:
    spelling = objects(Layer("project", "dense", optional=True), Layer("pooled", "dense"))
    assert spelling.plain(["layers/dense/vars/0"], {}) == {"layers/dense/vars/0": "pooled/0"}
    assert spelling.plain(["layers/dense/vars/0", "layers/dense_1/vars/0"], {})["layers/dense/vars/0"] == "project/0"
    assert spelling.stored(["pooled/0"], "") == {"pooled/0": "layers/dense/vars/0"}


def test_two_stacks_of_one_class_are_told_apart_by_what_only_one_has() -> None:
    spelling = objects(Layer("encoder_{}", "block"), Layer("decoder_{}", "block", mark="cross"))
    names = ["layers/block/self/vars/0", "layers/block_1/self/vars/0", "layers/block_2/self/vars/0", "layers/block_2/cross/vars/0"]
    plain = spelling.plain(names, {})
    assert list(plain.values()) == ["encoder_0/self/0", "encoder_1/self/0", "decoder_0/self/0", "decoder_0/cross/0"]
    assert {plain[n]: n for n in names} == spelling.stored(list(plain.values()), "")


def test_groups_of_layers_are_told_apart_by_the_configuration() -> None:
    spelling = objects(Layer("group_{}_inner_{}", "block", inner="each"))
    names = [f"layers/block{f'_{i}' * bool(i)}/vars/0" for i in range(4)]
    assert list(spelling.plain(names, {"each": 2}).values()) == [f"group_{i // 2}_inner_{i % 2}/0" for i in range(4)]
    assert list(spelling.plain(names, {}).values()) == [f"group_{i}_inner_0/0" for i in range(4)]


def test_dense_layers_are_counted_within_their_layer_whatever_their_numbers() -> None:
    names = [f"F/F/dense_{i}/kernel:0" for i in (9, 10, 41)] + ["N/N/gamma:0", "A/A/dense/kernel:0"]
    plain = layers.plain(names, {})
    assert list(plain.values()) == ["N/gamma", "F/1of3/kernel", "F/2of3/kernel", "F/last/kernel", "A/last/kernel"]
    assert layers.stored(["F/1of2/kernel", "F/1of2/bias", "F/last/kernel"], "")["F/last/kernel"] == "F/F/dense_2/kernel:0"
    shared = starting({"T-0-0-": "T-"}, layers)
    assert shared.plain(["T-F/T-F/dense_1/bias:0"], {}) == {"T-F/T-F/dense_1/bias:0": "T-0-0-F/last/bias"}
    assert shared.stored(["T-0-0-N/gamma"], "") == {"T-0-0-N/gamma": "T-N/T-N/gamma:0"}


def test_transformers_weights_are_known_whatever_the_model_is_called() -> None:
    plain = tensorflow.plain(["bert/mine_3/bert/pooler/dense/kernel:0", "cls/mine_3/bert/embeddings/gamma:0"], {})
    assert list(plain.values()) == ["bert/pooler/dense/kernel", "again/cls/bert/embeddings/gamma"]
    assert tensorflow.stored(list(plain.values()), "BertModel") == {
        "bert/pooler/dense/kernel": "bert/tf_bert_model/bert/pooler/dense/kernel:0",
        "again/cls/bert/embeddings/gamma": "cls/tf_bert_model/bert/embeddings/gamma:0",
    }
    assert snake_case("TFGPT2LMHeadModel") == "tfgpt2lm_head_model" and snake_case("TFOpenAIGPTModel") == "tf_open_aigpt_model"
