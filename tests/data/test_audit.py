"""The audit finds what was planted, and nothing else."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from utils import files, images, settings
from utils.data import audit, datasets, synthetic

REAL = os.environ.get("KIN_DATA")


@pytest.fixture(scope="module")
def planted(families_root):
    """Name to places of the defects in the synthetic families."""
    return synthetic.manifest(families_root)["defects"]


@pytest.fixture(scope="module")
def everything(families_root):
    """The synthetic families with all their defects."""
    return datasets.load(families_root)


@pytest.fixture(scope="module")
def progress():
    """What the audit tells while it scans."""
    return []


@pytest.fixture(scope="module")
def report(everything, progress):
    """The audit of the synthetic families with all their defects."""
    return audit.audit(everything, advance=progress.append)


@pytest.fixture
def tiny(tmp_path):
    """A function that writes photos of noise, relationships and test pairs, and loads them."""

    def build(people, relationships, test=(), pairs=()):
        rng = np.random.default_rng(0)
        # photos that no two are alike
        names = [f"test/{photo}" for photo in test]
        for person, photo_ids in people.items():
            names += [f"train/{person}/{photo_id}_face1.jpg" for photo_id in photo_ids]
        for name in names:
            noise = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
            files.write_bytes(tmp_path / name, images.to_jpeg(noise))
        rows = pd.DataFrame(relationships, columns=["p1", "p2"])
        rows.to_csv(tmp_path / datasets.RELATIONSHIPS, index=False)
        sample = pd.DataFrame({"img_pair": list(pairs), "is_related": 0})
        sample.to_csv(tmp_path / datasets.SAMPLE, index=False)
        return datasets.load(tmp_path)

    return build


TWO_FAMILIES = {
    "F0001/MID1": ["P1", "P2"],
    "F0001/MID2": ["P2"],
    "F0001/MID3": ["P3"],
    "F0900/MID1": ["P2"],
    "F0900/MID2": ["P5"],
}
KIN = [("F0001/MID1", "F0001/MID2"), ("F0900/MID2", "F0900/MID1")]


# --- the planted defects ------------------------------------------------------------------------


def test_people_without_photos_are_exactly_the_planted_ones(report, planted):
    assert report.people_without_photos == planted["people_without_photos"]


def test_unreadable_photos_are_exactly_the_planted_ones(report, planted):
    assert list(report.unreadable) == planted["truncated"]
    assert "truncated or damaged" in report.unreadable[planted["truncated"][0]]


def test_duplicates_are_exactly_the_planted_ones(report, planted):
    groups = report.exact_duplicates.groupby("where")["photos"].agg(list)
    [[one, other]] = planted["duplicate_across_families"]
    assert list(map(sorted, groups["train"])) == [sorted([one, other])]
    copies = [
        path for photos in groups["train and test"] for path in photos if path[:5] == "test/"
    ]
    names = planted["test_copies_of_training_photos"]
    assert sorted(copies) == [f"test/{name}" for name in names]
    [[one, other]] = planted["near_duplicate"]
    assert list(map(sorted, report.near_duplicates["photos"])) == [sorted([one, other])]


def test_photos_without_colour_are_exactly_the_planted_ones(report, planted):
    assert sorted(report.photos.loc[report.photos["grey"], "path"]) == sorted(planted["greyscale"])


def test_kin_that_nobody_listed_are_among_the_unlisted_pairs(everything, report, planted):
    unlisted = datasets.unlisted_pairs(everything)
    assert {tuple(sorted(pair)) for pair in planted["kin_not_listed"]} < set(unlisted)
    assert report.sections["families"]["pairs_unlisted_as_kin"] == len(unlisted)


def test_numbers_of_the_planted_defects_stand_in_the_sections(report):
    facts = report.sections
    assert facts["relationships"]["people_listed_without_photos"] == 4
    assert facts["photos"]["unreadable"] == 1
    assert facts["photos"]["without_colour"] == 4
    assert facts["duplicates"] == {
        "exact_groups": 3,
        "exact_within_one_person": 0,
        "exact_across_people": 1,
        "exact_across_families": 1,
        "exact_train_and_test": 2,
        "near_pairs": 1,
        "near_within_one_person": 1,
        "near_across_people": 0,
        "near_across_families": 0,
        "near_train_and_test": 0,
    }
    assert facts["test"]["photos_identical_to_training"] == 2
    assert facts["test"]["of_those_in_a_scored_pair"] == 0


def test_split_of_the_synthetic_families_leaks_nothing(report):
    facts = report.sections["split"]
    assert (facts["families_held_out"], facts["families_for_training"]) == (10, 14)
    leaks = ("families", "people", "identical_photos")
    assert [facts[f"{name}_on_both_sides"] for name in leaks] == [0, 0, 0]


def test_every_photo_is_scanned_once(everything, report, progress):
    count = len(everything.photos) + len(everything.test_photos)
    assert progress == [1] * count
    assert len(report.photos) + len(report.unreadable) == count
    assert report.photos["path"].is_unique


def test_findings_are_strict_json(report):
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert json.loads(text)["relationships"]["families"] == 24


def test_table_has_a_row_for_each_number(report):
    table = report.table()
    assert list(table.columns) == ["section", "finding", "count"]
    assert table.query("finding == 'people listed without photos'")["count"].item() == 4
    values = [value for facts in report.sections.values() for value in facts.values()]
    assert table["count"].tolist() == [value for value in values if not isinstance(value, dict)]


# --- leaks --------------------------------------------------------------------------------------


def test_held_out_photo_copied_into_a_training_family_is_a_leak(tiny, tmp_path):
    tiny(TWO_FAMILIES, KIN)
    copy = tmp_path / "train/F0001/MID1/P55555_face1.jpg"
    shutil.copy(tmp_path / "train/F0900/MID1/P2_face1.jpg", copy)
    facts = audit.audit(datasets.load(tmp_path)).sections
    assert facts["split"]["identical_photos_on_both_sides"] == 1
    assert facts["duplicates"]["exact_across_families"] == 1


def test_relationship_across_families_and_a_repeated_one_are_counted(tiny):
    rows = [*KIN, ("F0900/MID1", "F0001/MID1"), KIN[0][::-1]]
    facts = audit.audit(tiny(TWO_FAMILIES, rows)).sections["relationships"]
    assert (facts["rows_across_families"], facts["rows_repeated"]) == (1, 1)


def test_folder_in_the_place_of_a_photo_is_unreadable(tiny, tmp_path):
    tiny(TWO_FAMILIES, KIN)
    (tmp_path / "train/F0001/MID1/P55555_face1.jpg").mkdir()
    report = audit.audit(datasets.load(tmp_path))
    assert list(report.unreadable) == ["train/F0001/MID1/P55555_face1.jpg"]


def test_another_prefix_holds_other_families_out(tiny):
    facts = audit.audit(tiny(TWO_FAMILIES, KIN), prefix="F00").sections["split"]
    assert (facts["prefix"], facts["families_held_out"], facts["photos_held_out"]) == ("F00", 1, 4)


# --- counting -----------------------------------------------------------------------------------


def test_tiny_case_is_counted_right(tiny):
    rows = [*KIN, ("F0001/MID1", "F0001/MID9")]
    dataset = tiny(TWO_FAMILIES, rows, ["face0.jpg", "face1.jpg"], ["face0.jpg-face7.jpg"])
    facts = audit.audit(dataset).sections
    assert facts["relationships"] == {
        "rows": 3,
        "families": 2,
        "people_listed": 5,
        "people_listed_without_photos": 1,
        "rows_dropped": 1,
        "rows_usable": 2,
        "rows_repeated": 0,
        "rows_across_families": 0,
    }
    assert facts["photos"] == {
        "training_photos": 6,
        "unreadable": 0,
        "people_with_photos": 5,
        "people_with_one_photo": 4,
        "photos_a_person_median": 1.0,
        "photos_a_person_most": 2,
        "distinct_sizes": 1,
        "without_colour": 0,
        "sizes": {"40×32": 6},
        "modes": {"RGB": 6},
    }
    assert facts["families"] == {
        "families_with_photos": 2,
        "people_a_family_median": 2.5,
        "people_a_family_most": 3,
        "pairs_within_families": 4,
        "pairs_unlisted_as_kin": 2,
    }
    assert facts["split"] == {
        "prefix": "F09",
        "families_held_out": 1,
        "families_for_training": 1,
        "rows_held_out": 1,
        "rows_held_out_usable": 1,
        "photos_held_out": 2,
        "families_on_both_sides": 0,
        "people_on_both_sides": 0,
        "identical_photos_on_both_sides": 0,
    }
    assert facts["test"] == {
        "photos": 2,
        "pairs": 1,
        "photos_used": 2,
        "photos_used_but_missing": 1,
        "photos_identical_to_training": 0,
        "of_those_in_a_scored_pair": 0,
    }


def test_same_photo_share_is_that_of_all_photo_pairs(tiny):
    dataset = tiny(TWO_FAMILIES, [*KIN, ("F0001/MID2", "F0001/MID3")])
    assert audit.same_photo_share(dataset).tolist() == [0.5, 0.0, 0.0]


def test_same_photo_facts_by_hand(tiny):
    facts = audit.audit(tiny(TWO_FAMILIES, KIN)).sections["same_source_photo"]
    assert facts == {
        "kin_rows_sharing_a_photo": 1,
        "percent_of_kin_rows": 50.0,
        "percent_of_positive_photo_pairs": 25.0,
        "photo_ids_in_several_families": 1,
    }


def test_training_copy_in_a_scored_pair_is_counted(tiny, tmp_path):
    tiny(TWO_FAMILIES, KIN, ["face0.jpg", "face1.jpg"], ["face0.jpg-face1.jpg"])
    shutil.copy(tmp_path / "train/F0001/MID1/P1_face1.jpg", tmp_path / "test/face1.jpg")
    facts = audit.audit(datasets.load(tmp_path)).sections["test"]
    assert (facts["photos_identical_to_training"], facts["of_those_in_a_scored_pair"]) == (1, 1)


# --- colour and hashes --------------------------------------------------------------------------


def test_grey_levels_stored_as_rgb_are_grey():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 64, 3))
    assert audit.is_grey(np.ascontiguousarray(ramp))


@pytest.mark.parametrize("spread, expected", [(8, True), (9, False)])
def test_grey_is_up_to_the_spread(spread, expected):
    image = np.full((32, 32, 3), 100, np.uint8)
    image[..., 0] += spread
    assert audit.is_grey(image) is expected


def test_one_coloured_corner_is_colour():
    image = np.full((160, 160, 3), 100, np.uint8)
    image[:20, :20] = (200, 20, 20)
    assert not audit.is_grey(image)


def test_fine_colour_noise_averages_out():
    noise = np.random.default_rng(0).integers(-8, 9, (224, 224, 3))
    assert audit.is_grey((128 + noise).astype(np.uint8))


def test_difference_hash_by_hand():
    ramp = np.ascontiguousarray(
        np.broadcast_to(np.arange(17, dtype=np.uint8)[None, :, None] * 10, (16, 17, 3))
    )
    full = np.uint64(2**64 - 1)
    assert audit.difference_hash(ramp).tolist() == [0, 0, 0, 0]
    assert audit.difference_hash(ramp[:, ::-1].copy()).tolist() == [full] * 4


def test_difference_hash_stands_a_smaller_brighter_copy(families):
    image = images.read(families.root / families.photos["path"].iloc[0])
    copy = images.resize((image * 0.9 + 10).astype(np.uint8), 150)
    distance = np.bitwise_count(audit.difference_hash(image) ^ audit.difference_hash(copy)).sum()
    assert distance <= audit.NEAR_BITS


def scanned_of(hashes):
    """A scan of photos that have only these hashes, each file unlike the others."""
    names = [str(number) for number in range(len(hashes))]
    return pd.DataFrame(
        {
            "path": names,
            "person": "F0001/MID1",
            "family": "F0001",
            "sha256": names,
            "dhash": list(hashes),
        }
    )


@hypothesis_settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), copies=st.integers(0, 8))
def test_near_duplicates_are_all_pairs_within_the_bits_also_across_blocks(seed, copies):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (600, 4), dtype=np.uint64)
    for source, target in rng.choice(600, (copies, 2), replace=False):
        hashes[target] = hashes[source] ^ np.uint64(2) ** rng.integers(0, 14, 4, dtype=np.uint64)
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(-1)
    near = audit.near_duplicates(scanned_of(hashes))
    expected = {(f"{i}", f"{j}"): bits[i, j] for i, j in np.argwhere(bits <= 12) if i < j}
    assert dict(zip(near["photos"], near["bits"], strict=True)) == expected
    assert len(near) == len(expected)


def test_near_duplicates_leave_byte_identical_files_out():
    scanned = scanned_of(np.zeros((3, 4), np.uint64)).assign(sha256=["same", "same", "other"])
    assert len(audit.near_duplicates(scanned)) == 1


def test_no_photos_give_no_duplicates():
    empty = scanned_of(np.zeros((0, 4), np.uint64))
    assert audit.near_duplicates(empty).empty and audit.exact_duplicates(empty).empty


# --- the list of test pairs ---------------------------------------------------------------------


def test_pairs_with_a_photo_that_stands_first_nowhere_else():
    pairs = pd.Series(["a-b", "c-d", "a-c", "c-a", "d-a"], index=[9, 7, 5, 3, 1])
    # b never stands first; d stands first in the last pair alone, so it is first elsewhere for c-d
    assert audit.first_nowhere_else(pairs).tolist() == [True, False, False, False, True]


def test_list_of_the_synthetic_families_gives_kin_away(everything, report, families_root):
    alone = audit.first_nowhere_else(everything.sample["img_pair"])
    related = pd.read_csv(families_root / synthetic.TRUTH)["is_related"]
    assert related[alone].all() and 0.2 < related[~alone].mean() < 0.5
    facts = report.sections["test_list"]
    assert facts["pairs_with_a_photo_first_nowhere_else"] == alone.sum() > len(alone) / 4
    in_pairs = facts["photos_first"] + facts["photos_second"] - facts["photos_first_and_second"]
    assert in_pairs == report.sections["test"]["photos_used"]


def test_position_says_nothing_where_pairs_are_drawn_freely():
    rng = np.random.default_rng(0)
    photos, related = rng.integers(3000, size=(2000, 2)), rng.integers(2, size=2000)
    pairs = pd.Series([f"face{a}-face{b}" for a, b in photos])
    alone = audit.first_nowhere_else(pairs)
    assert 400 < alone.sum() < 1600
    assert abs(related[alone].mean() - related[~alone].mean()) < 0.1


@pytest.mark.parametrize(
    ("pairs", "counts"), [([], [0, 0, 0, 0]), (["a-b"], [1, 1, 0, 1]), (["nothing"], [1, 1, 0, 1])]
)
def test_list_of_hardly_any_pairs_is_counted(tiny, pairs, counts):
    dataset = tiny(TWO_FAMILIES, KIN, pairs=pairs)
    assert list(audit.audit(dataset).sections["test_list"].values()) == counts


# --- the real data ------------------------------------------------------------------------------


def test_committed_audit_of_the_real_data_holds_what_was_counted_by_hand():
    facts = files.read_json(settings.RESULTS / "kaggle_audit.json")
    relationships, photos = facts["relationships"], facts["photos"]
    assert (relationships["rows"], relationships["rows_dropped"]) == (3598, 236)
    assert (relationships["people_listed"], len(facts["people_without_photos"])) == (2412, 96)
    assert (photos["training_photos"], photos["people_with_one_photo"]) == (12379, 409)
    assert (facts["split"]["families_held_out"], facts["split"]["rows_held_out_usable"]) == (
        50,
        296,
    )
    assert facts["same_source_photo"]["kin_rows_sharing_a_photo"] == 2537
    assert facts["families"]["pairs_unlisted_as_kin"] == 2875
    assert list(facts["test_list"].values()) == [3459, 4095, 1425, 3585]


@pytest.mark.skipif(not REAL, reason="needs the real data: set KIN_DATA to the Kaggle archive")
def test_audit_of_the_real_data_is_the_committed_one():
    expected = files.read_json(settings.RESULTS / "kaggle_audit.json")
    assert audit.audit(datasets.load(REAL)).to_dict() == expected
