"""Weights that are not here: every way to need them says how to get them."""

import pytest

from utils import backbones
from utils.errors import WeightsError

NAMES = [name for name in backbones.REGISTRY if name != backbones.DEFAULT]


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_say_how_to_get_them(name):
    backbone = backbones.get(name)
    said = (f"The weights of {name} are not here; run: python -m utils weights {name} (or fetch "
            f"{backbone.weights.url} by hand, put it into a folder, and name that in KIN_WEIGHTS).")
    for attempt in (backbone.weights_path, lambda: backbone.weights_id, lambda: backbone.fingerprint,
                    lambda: backbone.load_pretrained(None)):
        with pytest.raises(WeightsError) as caught:
            attempt()
        assert str(caught.value) == said
