"""Regions lie where they are named, an exchange looks like a face, the carried is counted."""

import json
import types

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils.answers import explanation
from utils.answers.explanation import (
    DONORS,
    REGIONS,
    Regions,
    donor_faces,
    exchange,
    region_masks,
)
from utils.data import eigenfaces
from utils.faces import alignment
from utils.scoring import metrics
from utils.training import ensemble

SIZE = 150
LANDMARKS = np.array([(47.7, 47.1), (100.2, 46.8), (74.1, 77.0), (52.6, 107.8), (96.1, 107.5)])


@pytest.fixture(scope="module")
def masks():
    return dict(zip(REGIONS, region_masks(LANDMARKS, SIZE), strict=True))


def centre(mask):
    """Where a mask lies on average: (x, y)."""
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    return np.array([(columns * mask).sum(), (rows * mask).sum()]) / mask.sum()


# --- regions ------------------------------------------------------------------------------------


def test_masks_are_between_zero_and_one_and_do_not_overlap_but_for_soft_borders(masks):
    stack = np.stack(list(masks.values()))
    assert stack.dtype == np.float32 and stack.shape == (6, SIZE, SIZE)
    assert stack.min() == 0 and (stack.max((1, 2)) == 1).all()
    assert stack.sum(0).max() <= 1.02
    assert ((stack > 0.1) & (stack < 0.9)).any((1, 2)).all()  # soft borders
    assert (stack > 0.9).sum((1, 2)).min() > 0.02 * SIZE**2


def test_regions_lie_around_their_landmarks(masks):
    left, right, nose, *mouth = LANDMARKS
    eyes, corners, unit = (left + right) / 2, np.mean(mouth, 0), 52.5
    assert_allclose(centre(masks["eyes"]), eyes, atol=1.5)
    assert_allclose(centre(masks["mouth"]), corners, atol=3)
    for point, name in (
        (left, "eyes"),
        (right, "eyes"),
        (nose, "nose"),
        (corners, "mouth"),
        (mouth[0], "mouth"),
        (mouth[1], "mouth"),
    ):
        x, y = point.astype(int)
        assert masks[name][y, x] > 0.95
    assert masks["eyes"][47, 74] < 0.5  # the bridge of the nose between the eyes is no eye
    assert (
        abs(centre(masks["nose"])[0] - nose[0]) < 1.5
        and eyes[1] < centre(masks["nose"])[1] < corners[1]
    )
    brows, forehead, jaw = (centre(masks[name]) for name in ("brows", "forehead", "jaw"))
    assert eyes[1] - 0.6 * unit < brows[1] < eyes[1] - 0.2 * unit and abs(brows[0] - eyes[0]) < 1.5
    assert forehead[1] < brows[1] - 10 and abs(forehead[0] - eyes[0]) < 1.5
    assert jaw[1] > corners[1] + 0.42 * unit and abs(jaw[0] - corners[0]) < 1.5


def test_regions_together_cover_most_of_the_face_and_leave_the_corners_alone(masks):
    covered = sum(masks.values())
    assert 0.35 < covered.mean() < 0.75
    assert max(covered[0, 0], covered[0, -1], covered[70, 0], covered[70, -1]) < 0.05


def test_regions_move_with_the_landmarks(masks):
    moved = region_masks(LANDMARKS + (7, 4), SIZE)
    for name, mask in zip(REGIONS, moved, strict=True):
        assert_allclose(mask[10:-10, 10:-10], masks[name][6:-14, 3:-17], atol=0.02)


def test_regions_grow_with_the_face(masks):
    twice = region_masks(2 * LANDMARKS, 2 * SIZE)
    for name, mask in zip(REGIONS, twice, strict=True):
        assert_allclose(mask.sum(), 4 * masks[name].sum(), rtol=0.03)
        assert_allclose(centre(mask), 2 * centre(masks[name]), atol=1)


def test_mask_of_a_face_that_is_not_in_the_crop_is_empty():
    assert region_masks(LANDMARKS - (1000, 0), SIZE).max() == 0


# --- exchange -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people(backbone):
    """Two faces of nobody, aligned."""
    model = eigenfaces.load()
    coefficients = np.random.default_rng(25).standard_normal((2, len(model.components)))
    return np.stack(
        [
            alignment.align(face, model.landmarks, backbone.template, SIZE)
            for face in model.render(coefficients)
        ]
    )


def test_exchange_without_a_mask_or_with_the_face_itself_changes_nothing(people, masks):
    a, b = people
    assert_array_equal(exchange(a, b, np.zeros((SIZE, SIZE), np.float32)), a)
    for mask in masks.values():
        same = exchange(a, a, mask)
        assert same.dtype == np.uint8
        assert np.abs(same.astype(int) - a).max() <= 1


@pytest.mark.parametrize("region", REGIONS)
def test_exchange_changes_the_region_alone_and_keeps_its_colour_and_contrast(
    people, masks, region
):
    (a, b), inside = people.astype(float), masks[region] == 1
    soft = exchange(*people, masks[region])
    assert_array_equal(soft[masks[region] == 0], a[masks[region] == 0])
    changed = exchange(*people, inside.astype(np.float32)).astype(float)
    assert_array_equal(changed[~inside], a[~inside])
    assert np.abs(changed - a)[inside].mean() > 4
    assert np.abs(b - a)[inside].mean(0).max() > 10
    assert_allclose(changed[inside].mean(0), a[inside].mean(0), atol=2.5)
    assert_allclose(changed[inside].std(0), a[inside].std(0), rtol=0.1)
    for channel in range(3):  # inside it looks like the donor
        assert np.corrcoef(changed[inside][:, channel], b[inside][:, channel])[0, 1] > 0.95


def test_exchange_by_hand():
    face, donor = np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 3), 200, np.uint8)
    face[0], donor[0] = (90, 80, 70), (190, 230, 201)
    face[1], donor[1] = (110, 120, 130), (210, 170, 199)
    mask = np.float32([[1, 1], [1, 1]])
    # red: mean 100, deviation 10, as the donor's; green: 20 for the donor's 30
    # blue: 30 for the donor's 1, but at most twice that
    assert_array_equal(exchange(face, donor, mask), [[(90, 120, 102)] * 2, [(110, 80, 98)] * 2])
    half = exchange(face, donor, np.float32([[0.5, 0], [0.5, 0]]))
    assert_array_equal(half, [[(90, 100, 86), (90, 80, 70)], [(110, 100, 114), (110, 120, 130)]])


def test_exchange_stays_in_the_range_of_pixels(people):
    rng = np.random.default_rng(0)
    face = rng.choice(np.uint8([0, 255]), (SIZE, SIZE, 3))
    donor = rng.choice(np.uint8([0, 1, 255]), (SIZE, SIZE, 3))
    changed = exchange(face, donor, np.ones((SIZE, SIZE), np.float32)).astype(int)
    assert np.abs(changed - np.where(donor > 100, 255, 0)).max() < 60  # not wrapped around


def test_donors_are_the_same_faces_of_nobody_each_time(backbone):
    donors = donor_faces(SIZE)
    assert donors.shape == (DONORS, SIZE, SIZE, 3) and donors.dtype == np.uint8
    before = donors.copy()
    donor_faces.cache_clear()
    assert_array_equal(donor_faces(SIZE), before)
    assert_array_equal(donor_faces(SIZE, 2)[0].shape, (SIZE, SIZE, 3))
    assert len(np.unique(donors.reshape(DONORS, -1), axis=0)) == DONORS
    model = eigenfaces.load()
    (mean,) = model.render(np.zeros((1, len(model.components))))
    aligned = alignment.align(mean, model.landmarks, backbone.template, SIZE)
    assert np.corrcoef(donors.mean(0).ravel(), aligned.ravel())[0, 1] > 0.85


# --- what a region carries ----------------------------------------------------------------------


def toy(embed):
    """What stands in for an encoder whose embeddings can be computed by hand."""
    return types.SimpleNamespace(
        embed=lambda faces, batch_size, mirrored: embed(np.asarray(faces, float)),
        similarity=metrics.cosine,
        log_odds=lambda cosines: -1 + 5 * cosines,
        backbone=types.SimpleNamespace(name="dlib-resnet"),
    )


def coarse(faces):
    """Mean colours of a grid of fields, and a constant."""
    fields = faces.reshape(len(faces), 10, 15, 10, 15, 3).mean((2, 4)).reshape(len(faces), -1)
    return np.column_stack([fields - 128, np.full(len(faces), 90.0)])


@pytest.fixture
def donors(monkeypatch):
    """Three donors, to be quicker."""
    few = donor_faces(SIZE)[:3]
    monkeypatch.setattr(explanation, "donor_faces", lambda size: few)
    return few


SHIFTED = np.stack([LANDMARKS, LANDMARKS + (3, -2)])


def test_carried_is_the_mean_fall_of_the_log_odds_over_donors_and_both_faces(people):
    regions = explanation.explain(toy(coarse), people, SHIFTED)
    donors, both = donor_faces(SIZE), coarse(people.astype(float))

    def odds(a, b):
        return -1 + 5 * (a @ b) / np.linalg.norm(a) / np.linalg.norm(b)

    for number, name in enumerate(REGIONS):
        falls = np.zeros((2, DONORS))
        for side in (0, 1):
            mask = region_masks(SHIFTED[side], SIZE)[number]
            for place, donor in enumerate(donors):
                changed = coarse(exchange(people[side], donor, mask)[None].astype(float))[0]
                falls[side, place] = odds(*both) - odds(changed, both[1 - side])
        falls = falls.mean(0)
        assert_allclose(regions.carried[name], falls.mean(), atol=1e-9)
        assert_allclose(regions.spread[name], falls.std(ddof=1) / DONORS**0.5, atol=1e-9)
        assert_array_equal(
            regions.masks[:, number], [region_masks(points, SIZE)[number] for points in SHIFTED]
        )
    assert np.ptp(list(regions.carried.values())) > 0.02


def test_order_of_the_faces_does_not_matter(people, donors):
    regions = explanation.explain(toy(coarse), people, SHIFTED)
    swapped = explanation.explain(toy(coarse), people[::-1], SHIFTED[::-1])
    for name in REGIONS:
        assert_allclose(swapped.carried[name], regions.carried[name], atol=1e-9)
        assert_allclose(swapped.spread[name], regions.spread[name], atol=1e-9)
    assert_array_equal(swapped.masks, regions.masks[::-1])


def test_identical_photos_are_alike_by_every_region_that_is_seen(people, donors):
    regions = explanation.explain(toy(coarse), people[[0, 0]], np.stack([LANDMARKS] * 2))
    assert min(regions.carried.values()) >= 0 and max(regions.carried.values()) > 0.01


@pytest.mark.parametrize(
    "region, place",
    [
        ("eyes", (47, 48)),
        ("nose", (72, 74)),
        ("mouth", (108, 74)),
        ("jaw", (140, 74)),
        ("forehead", (8, 74)),
        ("brows", (26, 48)),
    ],
)
def test_encoder_that_looks_at_one_place_makes_its_region_carry_everything(
    people, donors, region, place
):
    def look(faces):
        return np.column_stack([faces[:, place[0], place[1]], np.full(len(faces), 100.0)])

    regions = explanation.explain(toy(look), people, np.stack([LANDMARKS] * 2))
    assert regions.carried[region] != 0 and regions.spread[region] > 0
    for elsewhere in set(REGIONS) - {region}:
        assert abs(regions.carried[elsewhere]) < 1e-12 and regions.spread[elsewhere] < 1e-12


def test_region_planted_from_one_face_into_the_other_carries_more_than_before(
    shipped, people, masks, donors
):
    encoder = ensemble.load(shipped)

    def carried(pair):
        return explanation.explain(encoder, pair, np.stack([LANDMARKS] * 2)).carried

    a, b = people
    before = carried(people)
    for region in ("eyes", "nose", "mouth", "jaw"):
        planted = carried(np.stack([a, exchange(b, a, masks[region])]))
        rise = {name: planted[name] - before[name] for name in REGIONS}
        assert rise[region] > 0.1 and max(rise, key=rise.get) == region


# --- in words and numbers -----------------------------------------------------------------------


def regions_of(carried, spread=0.1):
    values = dict(zip(REGIONS, carried, strict=True))
    return Regions(values, dict.fromkeys(REGIONS, spread), np.zeros((2, 6, 4, 4), np.float32))


@pytest.mark.parametrize(
    "carried, sentence",
    [
        (
            (0.5, 0.2, 0.314, -0.25, -0.6, 0.1),
            "What speaks for kinship: eyes (+0.50), nose (+0.31); what speaks "
            "against it: jaw (-0.60), mouth (-0.25). (Log-odds that a region "
            "carries.)",
        ),
        (
            (0, 0, 0.9, 0, 0, 0.21),
            "What speaks for kinship: nose (+0.90), forehead (+0.21). (Log-odds that a region "
            "carries.)",
        ),
        (
            (0, -0.3, 0, 0, -1.5, 0.1),
            "What speaks against kinship: jaw (-1.50), brows (-0.30). (Log-odds that a "
            "region carries.)",
        ),
        (
            (0.2, -0.2, 0.1, 0, -0.1, 0.15),
            "No region stands out. (Log-odds that a region carries.)",
        ),
    ],
)
def test_sentence_names_the_regions_that_are_clear_of_twice_their_error(carried, sentence):
    assert regions_of(carried).sentence == sentence


def test_explanation_is_exported_in_plain_rounded_numbers_without_masks():
    regions = regions_of(np.float64([0.12345, -0.5, 0, 0.0004, 1, 2]), np.float64(0.07777))
    exported = regions.to_dict()
    assert json.loads(json.dumps(exported)) == exported and list(exported) == list(REGIONS)
    assert [exported[name]["carried"] for name in REGIONS] == [0.123, -0.5, 0, 0, 1, 2]
    assert all(exported[name]["spread"] == 0.078 for name in REGIONS)
    assert "masks" not in repr(regions)


@pytest.mark.parametrize(
    ("carried", "words"),
    [
        (
            (1.0, -0.5, 0.25, 0.0, -1.0, 0.1),
            "The eyes and the nose speak for kinship. The jaw and the brows speak against it.",
        ),
        ((0, 0, 0, 0.9, 0, -0.3), "The mouth speaks for kinship. The forehead speaks against it."),
        ((0, -0.9, 0, 0, 0, 0.01), "The brows speak against kinship."),
        ((0, 0, 0, 0.1, 0, 0), "No part of the faces stands out."),
    ],
)
def test_regions_that_stand_out_are_named_the_strongest_first(carried, words):
    regions = dict(zip(explanation.REGIONS, carried, strict=True))
    spread = dict.fromkeys(explanation.REGIONS, 0.06)
    masks = np.zeros((2, 6, 4, 4))
    assert explanation.Regions(regions, spread, masks).in_words == words


def test_pictures_colour_what_is_named_and_nothing_doubtful():
    # the eyes carry most, and are the least sure of it
    carried = dict(zip(explanation.REGIONS, (-2.0, 0.5, 0.1, 0.0, -0.6, 0.01), strict=True))
    spread = dict.fromkeys(explanation.REGIONS, 0.04) | {"eyes": 1.5}
    regions = explanation.Regions(carried, spread, np.ones((2, 6, 4, 4)))
    shown = regions.without_doubtful
    assert shown.in_words == regions.in_words
    assert {name for name, value in shown.carried.items() if value} == set(regions.named)
    assert "eyes" not in regions.named and shown.carried["jaw"] == -0.6
