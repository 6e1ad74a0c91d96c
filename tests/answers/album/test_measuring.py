"""Grouping and kinship are measured on families that are known: by hand on small ones."""

import numpy as np
import pandas as pd
import pytest

from utils.answers.album import measuring
from utils.answers.album.measuring import KnownAlbum
from utils.answers.album.people import Sameness

SAMENESS = Sameness(identity=10.0, kin=10.0, shift=-15.0, threshold=0.0)  # cosine 0.75


def album_of(angles, people, photos, kin=()):
    """Faces at some angles in a plane, in degrees: equal for both encoders."""
    turned = np.deg2rad(angles)
    rows = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    return KnownAlbum(rows, rows, np.array(photos), np.array(people), list(kin))


def test_groups_are_counted_by_pairs_of_faces():
    # A has two faces near each other and one far away, next to B's
    album = album_of([0, 5, 90, 92], ["A", "A", "A", "B"], [0, 1, 2, 3], [("A", "B")])
    worth = measuring.grouping_worth([album], SAMENESS)
    assert (worth["precision"], worth["recall"]) == (0.5, 0.3333)
    assert worth["f1"] == pytest.approx(0.4, abs=1e-4)
    assert worth["kin_merged"] == 0 and worth["kin_with_a_face_in_common"] == 1
    assert worth["photos_with_a_person_twice"] == 0
    # the two groups look nothing alike
    assert (worth["questions"], worth["questions_answered_yes"]) == (0, 0.0)


def test_groups_that_were_nearly_joined_are_a_question():
    worth = measuring.grouping_worth([album_of([0, 45], ["A", "A"], [0, 1])], SAMENESS)
    assert (worth["questions"], worth["questions_answered_yes"]) == (1, 1.0)


def test_relatives_of_whom_most_faces_are_in_one_group_are_merged():
    album = album_of([0, 2, 4, 6], ["A", "A", "B", "B"], [0, 1, 2, 3], [("A", "B")])
    worth = measuring.grouping_worth([album], SAMENESS)
    assert worth["kin_merged"] == worth["kin_with_a_face_in_common"] == 1


def test_faces_of_one_photo_are_no_pair():
    album = album_of([0, 1, 2], ["A", "B", "A"], [0, 0, 1])
    a, b = album.pairs
    assert sorted(zip(a.tolist(), b.tolist(), strict=True)) == [(0, 2), (1, 2)]


def test_sameness_is_fitted_so_that_few_relatives_are_merged():
    rng = np.random.default_rng(0)
    albums = []
    for _ in range(3):
        people = np.repeat(np.arange(12), 5)
        angles = 30 * people + rng.normal(0, 4, 60)
        names = [f"P{number}" for number in people]
        kin = [(f"P{number}", f"P{number + 1}") for number in range(0, 12, 2)]
        albums.append(album_of(angles, names, range(60), kin))
    sameness, tried = measuring.fit_sameness(albums)
    assert sameness.slope > 10 and str(sameness.threshold) in tried
    assert tried[str(sameness.threshold)]["f1"] > 0.95
    assert tried[str(sameness.threshold)]["kin_merged"] <= measuring.MOST_MERGED


def table_of(pairs, seed=0):
    """Pairs of people with similarities that say more with more photos."""
    rng = np.random.default_rng(seed)
    lines = []
    for row in range(pairs):
        related, photos = int(rng.random() < 0.4), int(rng.integers(1, 9))
        for most in measuring.PHOTOS:
            used = min(most, photos)
            similarity = -0.06 + 0.12 * related + rng.normal(0, 0.1) / used**0.5
            lines.append(
                (row, most, used, used, related, f"F{row % 40}", f"F{row % 37}", similarity)
            )
    names = ["row", "most", "photos_a", "photos_b", "related", "family_a", "family_b"]
    return pd.DataFrame(lines, columns=[*names, "similarity"]).assign(fold="0")


def test_as_many_kin_as_strangers_are_left_for_each_number_of_photos():
    table = measuring.balanced(table_of(400))
    whole = table[table["most"] == measuring.PHOTOS[-1]]
    groups = np.searchsorted(measuring.GROUPS, whole["photos_a"], side="right")
    counts = pd.crosstab(groups, whole["related"])
    assert (counts[0] == counts[1]).all() and len(counts) == 5  # of 1 to 8 photos


def test_odds_are_calibrated_for_few_photos_and_for_many():
    table = measuring.balanced(table_of(4000))
    odds = measuring.fit_odds(table)
    assert odds.weights[2] > 0  # with more photos the same similarity says more
    tested = measuring.balanced(table_of(4000, seed=1))
    columns = tested["similarity"], tested["photos_a"], tested["photos_b"]
    scored = tested.assign(probability=odds.probability(*columns), band=0, fold="held out")
    worth = measuring._by_photos(scored)
    for families in ("all families", "held out"):
        for name in ("1 at most", "all photos"):
            assert worth[families][name]["calibration_error"] < 0.06, name
    assert worth["gain"]["value"] > 0.05


def test_photos_that_show_both_people_are_left_out():
    ids = np.array(["p1", "p2", "p1", "p3"])
    a, b = measuring._apart(np.array([0, 1]), np.array([2, 3]), ids)
    assert a.tolist() == [1] and b.tolist() == [3]
    assert measuring._apart(np.array([0]), np.array([2, 3]), ids) is None
