"""Every shipped architecture states how it runs, in the vocabulary; a word that is none of it is an error that names it."""

from __future__ import annotations

import pytest

from ckptkit.arch import architectures
from ckptkit.errors import UndecidedError
from ckptkit.graph.examine import examine
from ckptkit.runtime.spec import from_json, make_spec, spec_of, to_json
from ckptkit.schema import Architecture
from ckptkit.schema.layout import LayoutError, Sizes
from ckptkit.schema.traits import traits_of

STATED = sorted(a.name for a in architectures().values() if a.traits)


@pytest.mark.parametrize("name", STATED)
def test_the_traits_of_an_architecture_are_of_the_vocabulary(name: str) -> None:
    assert traits_of(architectures()[name])


@pytest.mark.parametrize("name", sorted(architectures().keys() - STATED))
def test_an_architecture_that_states_no_traits_is_not_built(name: str) -> None:
    with pytest.raises(UndecidedError, match="not known here how"):
        make_spec(architectures()[name], Sizes(), {}, {}, ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norms": "after"}, "there is no 'norms'"),
        ({"norm": "between"}, "norm is 'between', not one of after, before"),
        ({"encoder": "encoder.blocks.{layer}"}, "no module lies under"),
        ({"heads": {}}, "has no kind"),
    ],
)
def test_a_wrong_trait_is_named(change: dict[str, object], said: str) -> None:
    bert = architectures()["bert"]
    wrong = Architecture(name="wrong", title="Wrong", modules=bert.modules, dialects=(), traits={**bert.traits, **change})
    with pytest.raises(LayoutError, match=said):
        traits_of(wrong)


def test_a_spec_survives_json() -> None:
    import json

    import oracles

    with examine(oracles.golden("t5_orig_v11")) as subject:
        spec = spec_of(subject)
    again = from_json(json.loads(json.dumps(to_json(spec))))
    assert again._replace(values={}) == spec._replace(values={})
