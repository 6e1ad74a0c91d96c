"""The figures that say how good and how private the synthetic families are."""

import dataclasses
import shutil

import numpy as np
import pytest

from utils import images
from utils.data import datasets
from utils.errors import DatasetError
from utils.scoring import quality


@pytest.fixture(scope="module")
def part(families):
    return families.of_families(["F0003", "F0004", "F0005", "F0900"])


@pytest.fixture(scope="module")
def measured(part, backbone):
    return quality.measure(part, backbone, seed=3)


def without_second_photos(dataset):
    """The same people with one photo each."""
    return dataset.without_photos(dataset.photos.loc[dataset.photos["person"].duplicated(), "path"].tolist())


def test_synthetic_faces_are_found_and_told_apart(measured):
    assert measured["faces_found_percent"] > 90
    assert 0.9 < measured["same_person_auc"] <= 1 and 0.6 < measured["kin_auc"] < measured["same_person_auc"]
    assert measured["cosine_strangers"] < measured["cosine_kin"] < measured["cosine_same_person"] <= 1


def test_measuring_twice_gives_the_same_figures(part, backbone, measured):
    assert quality.measure(part, backbone, seed=3) == measured


def test_noise_is_no_face(tmp_path, part):
    root = shutil.copytree(part.root, tmp_path / "noise")
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for name in part.photos["path"]:
        (root / name).write_bytes(images.to_jpeg(pixels))
    noise = datasets.load(root).of_families(part.families)
    assert quality.faces_found(noise, np.random.default_rng(0), count=10) == 0


def test_copies_of_real_people_are_seen_as_such(families, part, backbone):
    facts = quality.privacy(part, families, backbone)
    assert (facts["synthetic_people"], facts["real_people"]) == (len(part.people), len(families.people))
    assert facts["synthetic_under_distance_percent"] == 100
    assert abs(facts["nearest_real_to_synthetic"]["95%"]) < 0.001 < facts["nearest_stranger_to_real"]["0%"]


def test_people_of_other_families_are_no_copies(families, part, backbone):
    others = families.of_families(set(families.families) - set(part.families))
    facts = quality.privacy(part, others, backbone)
    assert facts["synthetic_under_distance_percent"] < 20
    assert facts["nearest_real_to_synthetic"]["0%"] > 0.02
    quantiles = list(facts["nearest_stranger_to_real"].values())
    assert quantiles == sorted(quantiles)


def test_faces_of_one_photograph_are_not_compared(part, backbone):
    group_picture = dataclasses.replace(part, photos=part.photos.assign(photo_id="P00001"))
    with pytest.raises(DatasetError, match="too few photos to compare"):
        quality.measure(group_picture, backbone)


def test_data_with_one_photo_a_person_is_named(part, backbone):
    with pytest.raises(DatasetError, match="too few photos to compare: no two from different photographs"):
        quality.measure(without_second_photos(part), backbone)
