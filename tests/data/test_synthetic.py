"""Synthetic families: real kinship, planted defects, the same bytes for the same seed.

That the planted defects are where the manifest says, and nowhere else, is what the audit finds.
"""

import functools
import itertools
import json
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from utils import files, images
from utils.data import datasets, eigenfaces, protocols, synthetic
from utils.errors import DatasetError, NoRoomError
from utils.faces import detection
from utils.faces.embeddings import embed_photos
from utils.scoring import metrics

few = functools.partial(
    synthetic.generate, families=20, children=(1, 2), photos=(1, 1), progress=False
)


@pytest.fixture(scope="module")
def content():
    """A function that gives name to bytes of every file below a folder."""

    def read(root):
        paths = [path for path in root.rglob("*") if path.is_file()]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}

    return read


@pytest.fixture(scope="module")
def defects(families_root):
    return synthetic.manifest(families_root)["defects"]


@pytest.fixture(scope="module")
def everything(families_root):
    """The 24 families with their truncated photo."""
    return datasets.load(families_root)


@pytest.fixture(scope="module")
def single_photos(tmp_path_factory):
    """Twenty small families with one photo a person: the least that can be asked for."""
    return few(tmp_path_factory.mktemp("few") / "families", seed=1)


# --- kinship ------------------------------------------------------------------------------------

families_of_any_shape = given(
    children=st.integers(1, 6), grandparent=st.booleans(), seed=st.integers(0, 10**6)
)
modestly = hypothesis_settings(max_examples=25, deadline=None)


def make(children, grandparent, seed, **recipe):
    return synthetic.make_family(
        "F0001", 12, children, grandparent, np.random.default_rng(seed), synthetic.Recipe(**recipe)
    )


@modestly
@families_of_any_shape
def test_kin_are_parents_children_siblings_and_grandparents_and_nobody_else(
    children, grandparent, seed
):
    people = make(children, grandparent, seed)
    names = [person.name for person in people]
    numbers = range(1, 3 + children + grandparent)
    assert sorted(names) == sorted(f"F0001/MID{number}" for number in numbers)
    assert {person.coefficients.shape for person in people} == {(12,)}
    young = names[-children:]
    father, mother = people[-1].parents
    expected = [*itertools.combinations(young, 2), *itertools.product((father, mother), young)]
    if grandparent:
        expected += [(names[0], father), *((names[0], child) for child in young)]
    pairs = synthetic.kin_pairs(people)
    assert set(map(frozenset, pairs)) == set(map(frozenset, expected))
    assert len(pairs) == len(expected)


@modestly
@families_of_any_shape
def test_child_takes_every_coefficient_from_one_parent(children, grandparent, seed):
    people = make(children, grandparent, seed, inherited=1, child=0)
    coefficients = {person.name: person.coefficients for person in people}
    for child in people[-children:]:
        a, b = (coefficients[parent] for parent in child.parents)
        assert ((child.coefficients == a) | (child.coefficients == b)).all()


def test_children_of_the_same_parents_differ():
    first, second = make(2, False, 0, inherited=1, child=0)[-2:]
    assert (first.coefficients != second.coefficients).any()


def test_child_is_as_far_from_the_chosen_parent_as_the_recipe_says():
    recipe = synthetic.Recipe(adult=1e-9, child=0.25)
    child = synthetic.make_family("F0001", 20_000, 1, False, np.random.default_rng(0), recipe)[-1]
    assert_allclose(child.coefficients.std(), 0.25, rtol=0.02)


def test_everyone_in_a_photograph_stands_in_the_same_light():
    recipe = synthetic.Recipe(photo=0)
    people = list(np.random.default_rng(0).normal(size=(3, 20)))
    shots = synthetic.take_photograph(people, np.random.default_rng(1), recipe)
    faces = np.array([shot.coefficients for shot in shots])
    light = faces - recipe.kept * np.array(people)
    assert_allclose(light, [light[0]] * 3, atol=1e-12)
    assert (np.abs(light[0][:6]) > 1e-3).all()
    assert_allclose(light[0][6:], 0, atol=1e-12)
    assert_array_equal(shots[1].cast, shots[0].cast)


def test_turned_shot_turns_the_face():
    model = eigenfaces.load()
    slopes = []
    for angle in (0, 0.2):
        shot = synthetic.Shot(np.zeros(len(model.components)), np.ones(3), angle, 0.9, np.zeros(2))
        [face] = detection.detect_in_crops(synthetic.develop([shot], model))
        across, down = face.landmarks[1] - face.landmarks[0]  # from eye to eye
        slopes.append(np.arctan2(down, across))
    assert_allclose(abs(slopes[1] - slopes[0]), 0.2, atol=0.06)


# --- the folder ---------------------------------------------------------------------------------


def test_list_of_test_pairs_changes_nothing_else(single_photos, content, monkeypatch, tmp_path):
    monkeypatch.setattr(synthetic, "PAIRS_STREAM", 2)
    one, other = content(single_photos), content(few(tmp_path / "other", seed=1))
    assert {name for name in one if one[name] != other[name]} == {datasets.SAMPLE, synthetic.TRUTH}


def test_same_arguments_give_the_same_bytes_and_another_seed_other_families(
    single_photos, content, tmp_path
):
    one, again = content(single_photos), content(few(tmp_path / "again", seed=1))
    assert again == one
    other = content(few(tmp_path / "other", seed=99))
    assert one[datasets.RELATIONSHIPS] != other[datasets.RELATIONSHIPS]
    assert not {one[name] for name in one if name.endswith(".jpg")} & set(other.values())


def test_layout_is_that_of_the_competition(families_root, everything, content):
    names = {path.name for path in families_root.iterdir()}
    assert names == {
        "train",
        "test",
        "train_relationships.csv",
        "sample_submission.csv",
        "truth",
        "manifest.json",
    }
    on_disk = [name for name in content(families_root) if name.startswith("train/")]
    assert sorted(everything.photos["path"]) == sorted(on_disk)
    assert len(everything.test_photos) == len(list((families_root / "test").iterdir()))
    assert families_root.stat().st_mode & 0o755 == 0o755  # everybody can read it


def test_photos_are_crops_of_the_competitions_size_that_show_something(families):
    for path in families.paths(families.photos["path"][:30]):
        photo = images.read(path)
        assert photo.shape == (224, 224, 3) and photo.std() > 15


def test_people_have_as_many_photos_as_were_asked_for(everything, defects):
    [[_, copy_across]], [[_, copy]] = (
        defects["duplicate_across_families"],
        defects["near_duplicate"],
    )
    counts = everything.without_photos([copy_across, copy]).photos["person"].value_counts()
    assert counts.min() >= 1 and counts.max() == 3


def test_at_least_ten_families_are_held_out_under_the_name_f09(single_photos, everything):
    for dataset, total in ((datasets.load(single_photos), 20), (everything, 24)):
        train, test = protocols.split_families(dataset)
        assert len(test) >= 10 and len(train) == total - len(test)
        assert set(dataset.of_families(test).kin["family"]) == set(test)


def test_relationships_are_within_families_and_listed_once(everything):
    rows = everything.relationships
    assert (datasets.family_of(rows["p1"]) == datasets.family_of(rows["p2"])).all()
    pairs = {frozenset(pair) for pair in rows.itertuples(index=False)}
    assert len(pairs) == len(rows)


def test_spouses_make_some_pairs_of_a_family_no_kin(everything):
    families = {a.split("/")[0] for a, _ in datasets.unlisted_pairs(everything)}
    assert len(families) > 15


def test_photograph_belongs_to_one_family_and_shows_a_person_once(everything):
    families_of = defaultdict(set)
    for photo_id, family in everything.photos[["photo_id", "family"]].itertuples(index=False):
        families_of[photo_id].add(family)
    assert {len(names) for names in families_of.values()} == {1}
    assert not everything.photos.duplicated(["photo_id", "person"]).any()
    assert everything.photos["photo_id"].duplicated().any()  # some show relatives together


def test_manifest_repeats_the_arguments(families_root):
    manifest = json.loads((families_root / "manifest.json").read_text())
    assert (manifest["families"], manifest["children"]) == (24, [1, 4])
    assert (manifest["photos"], manifest["seed"]) == ([1, 3], 7)
    assert manifest["recipe"]["adult"] == 0.8


def test_manifest_names_the_parents_of_everybody(families_root, everything):
    parents = json.loads((families_root / "manifest.json").read_text())["parents"]
    assert everything.people <= set(parents)
    assert {len(names) for names in parents.values()} == {0, 1, 2}
    listed = {frozenset(pair) for pair in everything.relationships.itertuples(index=False)}
    both = [names for names in parents.values() if len(names) == 2]
    assert not any(frozenset(names) in listed for names in both)  # spouses are no kin
    assert all(names == sorted(names) for names in both)


# --- planted defects ----------------------------------------------------------------------------


def test_people_without_photos_are_listed_as_kin(everything, defects):
    listed = set(everything.relationships.to_numpy().ravel())
    assert len(defects["people_without_photos"]) == 4
    assert set(defects["people_without_photos"]) <= listed - everything.people


def test_copies_are_of_another_family_and_of_the_same_person(families_root, defects):
    [[one, copy]] = defects["duplicate_across_families"]
    assert one.split("/")[1] != copy.split("/")[1]
    [[one, copy]] = defects["near_duplicate"]
    assert one.rpartition("/")[0] == copy.rpartition("/")[0]
    dark, bright = (images.read(families_root / name) for name in (one, copy))
    assert np.abs((dark * 1.08).clip(0, 255) - bright).mean() < 4


def test_unlisted_kin_are_relatives_with_photos_that_the_csv_lacks(everything, defects):
    listed = {frozenset(pair) for pair in everything.relationships.itertuples(index=False)}
    assert len(defects["kin_not_listed"]) == 3
    for a, b in defects["kin_not_listed"]:
        assert frozenset((a, b)) not in listed and {a, b} <= everything.people
        assert a.split("/")[0] == b.split("/")[0]


def test_smallest_families_get_every_defect_outside_the_held_out_families(single_photos):
    defects, dataset = synthetic.manifest(single_photos)["defects"], datasets.load(single_photos)
    assert all(defects.values()) and "F09" not in json.dumps(defects)
    assert all({a, b} <= dataset.people for a, b in defects["kin_not_listed"])
    assert list(datasets.unreadable_photos(dataset)) == defects["truncated"]
    for name in dataset.test_photos:
        assert images.read(single_photos / "test" / name).shape == (224, 224, 3)


# --- test pairs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def truth(families_root):
    return pd.read_csv(families_root / synthetic.TRUTH)


def test_test_pairs_are_balanced_and_none_comes_twice(truth):
    assert truth["is_related"].sum() * 2 == len(truth) > 80
    pairs = {frozenset(pair.split("-")) for pair in truth["img_pair"]}
    assert len(pairs) == len(truth)


@pytest.fixture(scope="module")
def smallest_truth(single_photos):
    return pd.read_csv(single_photos / synthetic.TRUTH)


@pytest.mark.parametrize("name", ["truth", "smallest_truth"])
def test_strangers_are_photos_that_stand_first_in_a_pair_of_kin(name, request):
    rows = request.getfixturevalue(name)
    pairs = rows["img_pair"].str.split("-", expand=True)
    kin = pairs[rows["is_related"] == 1]
    assert set(pairs[rows["is_related"] == 0].to_numpy().ravel()) <= set(kin[0])
    assert set(kin[0]) != set(kin.to_numpy().ravel())  # some kin stand second alone


def test_each_test_photo_but_the_copies_is_in_a_pair_of_kin(truth, everything, defects):
    kin = truth.loc[truth["is_related"] == 1, "img_pair"].str.split("-").explode()
    copies = set(defects["test_copies_of_training_photos"])
    assert set(kin) == set(everything.test_photos) - copies


def test_answers_stand_in_the_order_of_the_sample_which_gives_none_away(truth, everything):
    assert_array_equal(truth["img_pair"], everything.sample["img_pair"])
    assert (everything.sample["is_related"] == 0).all()
    runs = (truth["is_related"].diff().fillna(0) != 0).mean()
    assert 0.35 < runs < 0.65


def test_photos_of_test_pairs_exist_and_no_pair_is_a_photo_with_itself(truth, everything):
    pairs = truth["img_pair"].str.split("-", expand=True)
    assert pairs.shape[1] == 2 and set(pairs.to_numpy().ravel()) <= set(everything.test_photos)
    assert (pairs[0] != pairs[1]).all()


def test_answers_tell_relatives_from_strangers(truth, families_root, backbone):
    names = truth["img_pair"].str.split("-").explode()  # a, b, a, b, …
    paths = [families_root / "test" / name for name in names]
    embeddings = embed_photos(backbone, paths, progress=False)
    similarities = metrics.cosine(embeddings[::2], embeddings[1::2])
    assert metrics.roc_auc(truth["is_related"], similarities) > 0.7


# --- what is refused ----------------------------------------------------------------------------


def test_existing_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(
        DatasetError, match=re.escape(f"{tmp_path} exists already; delete it or name another")
    ):
        few(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"families": 19}, "19 families cannot be made; ask for 20 to 900"),
        ({"families": 901}, "901 families cannot be made; ask for 20 to 900"),
        ({"children": (0, 2)}, "0 to 2 children make no sense; the least is 1, the most 99"),
        ({"children": (3, 2)}, "3 to 2 children make no sense"),
        ({"photos": (0, 1)}, "0 to 1 photos make no sense"),
        ({"photos": (1, 100)}, "1 to 100 photos make no sense"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, wrong, message):
    with pytest.raises(DatasetError, match=message):
        few(tmp_path / "new", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_failed_generation_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="scale < 0"):
        few(tmp_path / "new", recipe=synthetic.Recipe(photo=-1))
    assert list(tmp_path.iterdir()) == []


# --- the disk and other programs ----------------------------------------------------------------


def test_families_need_about_as_much_room_as_is_looked_for(families_root, monkeypatch, tmp_path):
    sizes = [path.stat().st_size for path in families_root.rglob("*.jpg")]
    written = sum(sizes)
    monkeypatch.setattr(files, "free_room", lambda folder: 1000)
    with pytest.raises(NoRoomError, match="MB are needed, 0.0 MB are free") as raised:
        synthetic.generate(tmp_path / "new", families=24, photos=(1, 3), seed=7, progress=False)
    needed = float(re.search(r"([\d.]+) MB are needed", str(raised.value))[1]) * 1e6
    assert 0.6 * written < needed < 1.2 * written
    assert list(tmp_path.iterdir()) == []


def test_full_disk_while_families_are_written_is_told_and_nothing_stays(monkeypatch, tmp_path):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NoRoomError, match=re.escape(f"There is no room in {tmp_path}: ")):
        few(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_next_generation_removes_what_a_killed_one_left(tmp_path):
    for name in (".families-ab_cdef1", ".other-ab_cdef1"):
        (tmp_path / name / "train").mkdir(parents=True)
    few(tmp_path / "families")
    assert {path.name for path in tmp_path.iterdir()} == {"families", ".other-ab_cdef1"}


def test_of_two_who_make_the_same_folder_the_second_waits_and_finds_it(tmp_path, content):
    def make_it(_):
        try:
            return few(tmp_path / "new", seed=1)
        except DatasetError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(make_it, range(2)))
    assert sorted(map(str, answers)) == sorted(
        [
            str(tmp_path / "new"),
            f"{tmp_path / 'new'} exists already; delete it or name another folder.",
        ]
    )
    assert content(tmp_path / "new") and list(tmp_path.iterdir()) == [tmp_path / "new"]


def test_generating_once_says_who_made_the_families(tmp_path, content):
    arguments = {"families": 20, "children": (1, 1), "photos": (1, 1), "progress": False}
    assert synthetic.generate_once(tmp_path / "new", **arguments) is True
    before = content(tmp_path / "new")
    assert synthetic.generate_once(tmp_path / "new", **arguments) is False
    assert content(tmp_path / "new") == before
