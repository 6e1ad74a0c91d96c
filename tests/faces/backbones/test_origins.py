"""What users are told of the weights of each encoder is right."""

import pytest

from utils.faces import backbones
from utils.faces.backbones.origins import ORIGINS
from utils.faces.weights import ArchivedWeights, PublishedWeights

PUBLISHED = [name for name in ORIGINS if name.startswith(("facenet512", "vggface"))]


def test_every_encoder_has_an_origin():
    assert list(ORIGINS) == list(backbones.REGISTRY)
    for origin in ORIGINS.values():
        assert origin.source and origin.licence and origin.size > 1e7


def test_size_of_the_default_is_that_of_its_file():
    name = backbones.DEFAULT
    assert ORIGINS[name].size == backbones.get(name).weights_path().stat().st_size


@pytest.mark.parametrize("name", ["edgeface", "facenet", "mobilefacenet", "sface"])
def test_origin_is_the_package_that_the_file_is_taken_out_of(name):
    weights = backbones.get(name).weights
    assert isinstance(weights, ArchivedWeights)
    assert ORIGINS[name].source == f"{weights.project} {weights.version}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_origin_and_size_of_published_weights_are_those_of_their_network(network, name):
    weights, origin = backbones.get(name).weights, ORIGINS[name]
    assert isinstance(weights, PublishedWeights)
    assert f"/{origin.source.removeprefix('releases of ')}/releases/" in weights.url
    assert origin.size == 4 * network(name).count_params()
