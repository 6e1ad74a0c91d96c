"""The audit finds what was planted, and nothing else."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import images
from utils.data import audit, datasets, synthetic

REAL = os.environ.get("KIN_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="needs the real data: set KIN_DATA to the Kaggle archive")


@pytest.fixture(scope="module")
def planted(families_root):
    """Name to places of the defects in the synthetic families."""
    return synthetic.manifest(families_root)["defects"]


@pytest.fixture(scope="module")
def found(families_root):
    """The audit of the synthetic families with all their defects."""
    return audit.audit(datasets.load(families_root))


@pytest.fixture
def spoilt(tmp_path, families_root):
    """A copy of the synthetic families that a test may spoil."""
    return shutil.copytree(families_root, tmp_path / "spoilt")


@pytest.fixture
def tiny(tmp_path):
    """A function that writes photos of noise, relationships and test pairs, and loads them."""
    def build(people, relationships, test=(), pairs=()):
        rng = np.random.default_rng(0)
        names = [f"train/{person}/{photo}_face1.jpg" for person, photos in people.items() for photo in photos]
        for name in [*names, *(f"test/{photo}" for photo in test)]:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(images.to_jpeg(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)))
        for name, columns, rows in (("train_relationships", ["p1", "p2"], relationships),
                                    ("sample_submission", ["img_pair", "is_related"], [(p, 0) for p in pairs])):
            pd.DataFrame(rows, columns=columns).to_csv(tmp_path / f"{name}.csv", index=False)
        return datasets.load(tmp_path)
    return build


TWO_FAMILIES = {"F0001/MID1": ["P1", "P2"], "F0001/MID2": ["P2"], "F0001/MID3": ["P3"],
                "F0900/MID1": ["P2"], "F0900/MID2": ["P5"]}
KIN = [("F0001/MID1", "F0001/MID2"), ("F0900/MID2", "F0900/MID1")]


# --- the planted defects ------------------------------------------------------------------------


def test_people_without_photos_are_exactly_the_planted_ones(found, planted):
    assert found.people_without_photos == planted["people_without_photos"]


def test_unreadable_photos_are_exactly_the_planted_ones(found, planted):
    assert list(found.unreadable) == planted["truncated"]
    assert "truncated or damaged" in found.unreadable[planted["truncated"][0]]


def test_byte_identical_training_photos_are_exactly_the_planted_ones(found, planted):
    groups = found.exact_duplicates.query("where == 'train'")["photos"]
    assert sorted(map(sorted, groups)) == sorted(map(sorted, planted["duplicate_across_families"]))


def test_test_copies_of_training_photos_are_exactly_the_planted_ones(found, planted):
    groups = found.exact_duplicates.query("where == 'train and test'")["photos"]
    assert sorted(photo for group in groups for photo in group if photo.startswith("test/")) == [
        f"test/{name}" for name in planted["test_copies_of_training_photos"]]


def test_near_duplicates_are_exactly_the_planted_ones(found, planted):
    assert sorted(map(sorted, found.near_duplicates["photos"])) == sorted(map(sorted, planted["near_duplicate"]))


def test_photos_without_colour_are_exactly_the_planted_ones(found, planted):
    assert sorted(found.photos.loc[found.photos["grey"], "path"]) == sorted(planted["greyscale"])


def test_kin_that_nobody_listed_are_among_the_unlisted_pairs(families_root, found, planted):
    unlisted = datasets.unlisted_pairs(datasets.load(families_root))
    assert {tuple(sorted(pair)) for pair in planted["kin_not_listed"]} < set(unlisted)
    assert found.sections["families"]["pairs_unlisted_as_kin"] == len(unlisted)


def test_numbers_of_the_planted_defects_stand_in_the_sections(found, planted):
    facts = found.sections
    assert facts["relationships"]["people_listed_without_photos"] == len(planted["people_without_photos"])
    assert facts["photos"]["unreadable"] == len(planted["truncated"])
    assert facts["photos"]["without_colour"] == len(planted["greyscale"])
    assert facts["duplicates"] == {
        "exact_groups": 3, "exact_within_one_person": 0, "exact_across_people": 1, "exact_across_families": 1,
        "exact_train_and_test": 2, "near_pairs": 1, "near_within_one_person": 1, "near_across_people": 0,
        "near_across_families": 0, "near_train_and_test": 0}
    assert facts["test"]["photos_identical_to_training"] == 2
    assert facts["test"]["of_those_in_a_scored_pair"] == 0


def test_split_of_the_synthetic_families_leaks_nothing(found):
    facts = found.sections["split"]
    assert (facts["families_held_out"], facts["families_for_training"]) == (10, 14)
    assert [facts[name] for name in ("families_on_both_sides", "people_on_both_sides",
                                     "identical_photos_on_both_sides")] == [0, 0, 0]


def test_every_photo_is_scanned_once(families_root, found):
    dataset, seen = datasets.load(families_root), []
    audit.scan(dataset, seen.append)
    assert sum(seen) == len(dataset.photos) + len(dataset.test_photos) == len(found.photos) + len(found.unreadable)


def test_findings_are_strict_json(found):
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["relationships"]["families"] == 24


def test_table_has_a_row_for_each_number(found):
    table = found.table()
    assert list(table.columns) == ["section", "finding", "count"]
    assert table.query("finding == 'people listed without photos'")["count"].item() == 4
    values = [value for facts in found.sections.values() for value in facts.values()]
    assert table["count"].tolist() == [value for value in values if not isinstance(value, dict)]


# --- leaks --------------------------------------------------------------------------------------


def test_held_out_photo_copied_into_a_training_family_is_a_leak(spoilt):
    source = next((spoilt / "train/F0900").rglob("*.jpg"))
    shutil.copy(source, spoilt / "train/F0003/MID1/P55555_face1.jpg")
    facts = audit.audit(datasets.load(spoilt)).sections
    assert facts["split"]["identical_photos_on_both_sides"] == 1
    assert facts["duplicates"]["exact_across_families"] == 2


def test_relationship_across_families_and_a_repeated_one_are_counted(spoilt):
    path = spoilt / "train_relationships.csv"
    first = path.read_text().splitlines()[1]
    with path.open("a") as file:
        file.write(f"F0900/MID1,F0001/MID1\n{','.join(reversed(first.split(',')))}\n")
    facts = audit.audit(datasets.load(spoilt)).sections["relationships"]
    assert (facts["rows_across_families"], facts["rows_repeated"]) == (1, 1)


def test_folder_in_the_place_of_a_photo_is_unreadable(spoilt):
    (spoilt / "train/F0003/MID1/P55555_face1.jpg").mkdir()
    assert "train/F0003/MID1/P55555_face1.jpg" in audit.audit(datasets.load(spoilt)).unreadable


def test_another_prefix_holds_other_families_out(tiny):
    facts = audit.audit(tiny(TWO_FAMILIES, KIN), prefix="F00").sections["split"]
    assert (facts["prefix"], facts["families_held_out"], facts["photos_held_out"]) == ("F00", 1, 4)


# --- counting -----------------------------------------------------------------------------------


def test_tiny_case_is_counted_right(tiny):
    rows = [*KIN, ("F0001/MID1", "F0001/MID9")]
    facts = audit.audit(tiny(TWO_FAMILIES, rows, ["face0.jpg", "face1.jpg"], ["face0.jpg-face7.jpg"])).sections
    assert facts["relationships"] == {
        "rows": 3, "families": 2, "people_listed": 5, "people_listed_without_photos": 1, "rows_dropped": 1,
        "rows_usable": 2, "rows_repeated": 0, "rows_across_families": 0}
    assert facts["photos"] == {
        "training_photos": 6, "unreadable": 0, "people_with_photos": 5, "people_with_one_photo": 4,
        "photos_a_person_median": 1.0, "photos_a_person_most": 2, "distinct_sizes": 1, "without_colour": 0,
        "sizes": {"40×32": 6}, "modes": {"RGB": 6}}
    assert facts["families"] == {
        "families_with_photos": 2, "people_a_family_median": 2.5, "people_a_family_most": 3,
        "pairs_within_families": 4, "pairs_unlisted_as_kin": 2}
    assert facts["split"] == {
        "prefix": "F09", "families_held_out": 1, "families_for_training": 1, "rows_held_out": 1,
        "rows_held_out_usable": 1, "photos_held_out": 2, "families_on_both_sides": 0, "people_on_both_sides": 0,
        "identical_photos_on_both_sides": 0}
    assert facts["test"] == {
        "photos": 2, "pairs": 1, "photos_used": 2, "photos_used_but_missing": 1, "photos_identical_to_training": 0,
        "of_those_in_a_scored_pair": 0}


def test_same_photo_share_is_that_of_all_photo_pairs(tiny):
    dataset = tiny(TWO_FAMILIES, [*KIN, ("F0001/MID2", "F0001/MID3")])
    assert audit.same_photo_share(dataset).tolist() == [0.5, 0.0, 0.0]


def test_same_photo_facts_by_hand(tiny):
    facts = audit.audit(tiny(TWO_FAMILIES, KIN)).sections["same_source_photo"]
    assert facts == {"kin_rows_sharing_a_photo": 1, "percent_of_kin_rows": 50.0,
                     "percent_of_positive_photo_pairs": 25.0, "photo_ids_in_several_families": 1}


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
    ramp = np.ascontiguousarray(np.broadcast_to(np.arange(17, dtype=np.uint8)[None, :, None] * 10, (16, 17, 3)))
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
    names = [f"train/F0001/MID1/P{number}_face1.jpg" for number in range(len(hashes))]
    return pd.DataFrame({"path": names, "person": "F0001/MID1", "family": "F0001", "sha256": names,
                         "dhash": list(hashes)})


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), copies=st.integers(0, 8))
def test_near_duplicates_are_all_pairs_within_the_bits_also_across_blocks(seed, copies):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (600, 4), dtype=np.uint64)
    for source, target in rng.choice(600, (copies, 2), replace=False):
        hashes[target] = hashes[source] ^ np.uint64(2) ** rng.integers(0, 14, 4, dtype=np.uint64)
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(-1)
    expected = {(i, j): bits[i, j] for i, j in np.argwhere(bits <= 12) if i < j}
    near = audit.near_duplicates(scanned_of(hashes))
    numbers = [tuple(int(path.split("/P")[1].split("_")[0]) for path in photos) for photos in near["photos"]]
    assert dict(zip(numbers, near["bits"], strict=True)) == expected and len(near) == len(expected)


def test_near_duplicates_leave_byte_identical_files_out():
    scanned = scanned_of(np.zeros((3, 4), np.uint64)).assign(sha256=["same", "same", "other"])
    assert len(audit.near_duplicates(scanned)) == 1


def test_no_photos_give_no_duplicates():
    empty = scanned_of(np.zeros((0, 4), np.uint64))
    assert audit.near_duplicates(empty).empty and audit.exact_duplicates(empty).empty


# --- the real data ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    """The audit of the competition's data, whose figures were measured by hand."""
    return audit.audit(datasets.load(Path(REAL)))


@needs_real_data
def test_real_data_relationships(real):
    facts = real.sections["relationships"]
    assert facts == facts | {"rows": 3598, "families": 470, "people_listed": 2412, "rows_dropped": 236,
                             "people_listed_without_photos": 96, "rows_usable": 3362}
    assert real.people_without_photos[:2] == ["F0039/MID3", "F0041/MID3"]


@needs_real_data
def test_real_data_photos(real):
    facts = real.sections["photos"]
    assert facts == facts | {"training_photos": 12379, "people_with_one_photo": 409, "distinct_sizes": 1,
                             "sizes": {"224×224": 12379}, "unreadable": 0}


@needs_real_data
def test_real_data_split(real):
    facts = real.sections["split"]
    assert facts == facts | {"families_held_out": 50, "rows_held_out": 302, "rows_held_out_usable": 296,
                             "families_for_training": 420, "identical_photos_on_both_sides": 0}


@needs_real_data
def test_real_data_scored_pairs(real):
    assert real.sections["test"] == {
        "photos": 6282, "pairs": 5310, "photos_used": 6129, "photos_used_but_missing": 0,
        "photos_identical_to_training": 77, "of_those_in_a_scored_pair": 0}


@needs_real_data
def test_real_data_same_source_photo(real):
    facts = real.sections["same_source_photo"]
    assert (facts["kin_rows_sharing_a_photo"], facts["percent_of_kin_rows"]) == (2537, 75.5)
    assert facts["percent_of_positive_photo_pairs"] == 11.6
    assert facts["photo_ids_in_several_families"] == 0


@needs_real_data
def test_real_data_unlisted_pairs(real):
    facts = real.sections["families"]
    assert (facts["pairs_unlisted_as_kin"], facts["pairs_within_families"]) == (2875, 6237)
