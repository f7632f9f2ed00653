"""What canonical modules are made of."""

from __future__ import annotations

import pytest
import tiny

from ckptkit.schema import Module, embedding, linear, norm, param, when


@pytest.mark.parametrize(
    ("module", "params"),
    [
        (linear("out", "inn"), (("weight", "out inn"), ("bias", "out"))),
        (linear("heads head_dim", "hidden"), (("weight", "(heads head_dim) hidden"), ("bias", "(heads head_dim)"))),
        (linear("hidden", "(heads head_dim)", bias=False), (("weight", "hidden (heads head_dim)"),)),
        (norm("hidden"), (("weight", "hidden"), ("bias", "hidden"))),
        (norm("hidden", bias=False), (("weight", "hidden"),)),
        (embedding("vocab hidden"), (("weight", "vocab hidden"),)),
        (param("1 hidden"), (("", "1 hidden"),)),
    ],
)
def test_a_module_has_its_parameters_out_before_in(module: Module, params: tuple[tuple[str, str], ...]) -> None:
    assert module.params == params and module.group == "core" and not module.optional and not module.tied


def test_a_tie_is_of_the_modules_own_parameter() -> None:
    assert embedding("v h", tied="tokens.weight").tied == {"weight": "tokens.weight"}
    assert param("v", tied="x").tied == {"": "x"}
    assert linear("v", "h", tied={"bias": "b"}).tied == {"bias": "b"}


def test_what_hangs_on_a_switch_may_be_absent_and_says_which_way() -> None:
    module = when("not gated", linear("a", "b", group="head"))
    assert (module.optional, module.switch, module.group, module.kind) == (True, "not gated", "head", "linear")


def test_only_an_untied_parameter_of_the_core_that_cannot_be_absent_is_required() -> None:
    params = tiny.architecture().params
    required = {n for n, p in params.items() if p.is_required_core}
    assert "layers.{layer}.query.bias" in required and "tokens.weight" in required
    assert not required & {"shift", "layers.{layer}.gate.weight", "score.weight", "unembed.weight"}
