"""Every shipped architecture states how it runs, in the vocabulary; a word that is none of it is an error that names it."""

from __future__ import annotations

import pytest

from ckptkit.arch import architectures
from ckptkit.graph.examine import examine
from ckptkit.runtime.spec import from_json, spec_of, to_json
from ckptkit.schema import Architecture
from ckptkit.schema.layout import LayoutError
from ckptkit.schema.traits import traits_of


@pytest.mark.parametrize("name", sorted(architectures()))
def test_the_traits_of_an_architecture_are_of_the_vocabulary(name: str) -> None:
    assert traits_of(architectures()[name]) and architectures()[name].traits


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
