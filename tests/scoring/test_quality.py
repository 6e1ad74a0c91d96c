"""The numbers that say how good and how private the synthetic families are."""

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


def test_synthetic_faces_are_found_and_told_apart(measured):
    assert measured["faces_found_percent"] > 90
    assert 0.6 < measured["kin_auc"] < measured["same_person_auc"] <= 1
    assert measured["same_person_auc"] > 0.9
    cosines = [measured[f"cosine_{kind}"] for kind in ("strangers", "kin", "same_person")]
    assert cosines == sorted(cosines) and cosines[-1] <= 1


def test_measuring_twice_gives_the_same_numbers(part, backbone, measured):
    assert quality.measure(part, backbone, seed=3) == measured


def test_noise_is_not_a_face(tmp_path, part):
    root = shutil.copytree(part.root, tmp_path / "noise")
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for name in part.photos["path"]:
        (root / name).write_bytes(images.to_jpeg(pixels))
    noise = datasets.load(root).of_families(part.families)
    assert quality.faces_found(noise, np.random.default_rng(0), count=5) == 0


def test_copies_of_real_people_are_seen_as_such(families, part, backbone):
    facts = quality.privacy(part, families, backbone)
    assert facts["synthetic_people"] == len(part.people)
    assert facts["real_people"] == len(families.people)
    assert facts["synthetic_under_distance_percent"] == 100
    assert abs(facts["nearest_real_to_synthetic"]["95%"]) < 0.001
    assert facts["nearest_stranger_to_real"]["0%"] > 0.001


def test_people_of_other_families_are_not_copies(families, part, backbone):
    others = families.of_families(set(families.families) - set(part.families))
    facts = quality.privacy(part, others, backbone)
    assert facts["synthetic_under_distance_percent"] < 20
    assert facts["nearest_real_to_synthetic"]["0%"] > 0.02
    quantiles = list(facts["nearest_stranger_to_real"].values())
    assert quantiles == sorted(quantiles)


def test_data_without_two_photographs_of_a_person_is_named(part, backbone):
    group_picture = dataclasses.replace(part, photos=part.photos.assign(photo_id="P00001"))
    second = part.photos.loc[part.photos["person"].duplicated(), "path"]
    message = "too few photos to compare: no two from different photographs"
    for dataset in (group_picture, part.without_photos(second.tolist())):
        with pytest.raises(DatasetError, match=message):
            quality.measure(dataset, backbone)
