"""Synthetic families: real kinship, planted defects where the manifest says, the same bytes for a seed."""

import functools
import itertools
import json
import re
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from utils import images, settings
from utils.data import audit, datasets, eigenfaces, synthetic
from utils.errors import DatasetError, ImageError
from utils.faces import detection
from utils.faces.embeddings import embed_photos
from utils.scoring import metrics
from utils.scoring.metrics import cosine

few = functools.partial(synthetic.generate, families=20, children=(1, 2), photos=(1, 1), progress=False)


def content(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def defects(families_root):
    return synthetic.manifest(families_root)["defects"]


@pytest.fixture(scope="module")
def everything(families_root):
    """The 24 families with their truncated photo."""
    return datasets.load(families_root)


@pytest.fixture(scope="module", params=[1, 3])
def single_photos(request, tmp_path_factory):
    """Twenty small families with one photo a person: the least that can be asked for."""
    return few(tmp_path_factory.mktemp("few") / "families", seed=request.param)


# --- kinship ------------------------------------------------------------------------------------

families_of_any_shape = given(children=st.integers(1, 6), grandparent=st.booleans(), seed=st.integers(0, 10**6))
modestly = hypothesis_settings(max_examples=40, deadline=None)


def make(children, grandparent, seed, **recipe):
    return synthetic.make_family("F0001", 12, children, grandparent, np.random.default_rng(seed),
                                 synthetic.Recipe(**recipe))


@modestly
@families_of_any_shape
def test_everyone_has_a_member_number_and_coefficients(children, grandparent, seed):
    people = make(children, grandparent, seed)
    assert sorted(p.name for p in people) == sorted(f"F0001/MID{n}" for n in range(1, 3 + children + grandparent))
    assert all(p.coefficients.shape == (12,) for p in people)


@modestly
@families_of_any_shape
def test_kin_are_parents_children_siblings_and_grandparents_only(children, grandparent, seed):
    people = make(children, grandparent, seed)
    kin = {frozenset(pair) for pair in synthetic.kin_pairs(people)}
    young = [p.name for p in people if len(p.parents) == 2]
    father, mother = people[-children].parents
    expected = [*itertools.combinations(young, 2), *itertools.product((father, mother), young)]
    if grandparent:
        elder = people[0].name
        expected += [(elder, father), *((elder, child) for child in young)]
    assert kin == {frozenset(pair) for pair in expected}
    assert len(kin) == len(expected) == len(synthetic.kin_pairs(people))


@modestly
@families_of_any_shape
def test_spouses_are_never_kin(children, grandparent, seed):
    people = make(children, grandparent, seed)
    pairs = synthetic.kin_pairs(people)
    father, mother = people[-1].parents
    assert (father, mother) not in pairs and (mother, father) not in pairs
    if grandparent:
        assert {people[0].name, mother} not in [set(pair) for pair in pairs]


@modestly
@families_of_any_shape
def test_child_takes_every_coefficient_from_one_parent(children, grandparent, seed):
    people = make(children, grandparent, seed, inherited=1, child=0)
    of = {p.name: p.coefficients for p in people}
    for child in (p for p in people if len(p.parents) == 2):
        a, b = (of[parent] for parent in child.parents)
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
    light = [shot.coefficients - recipe.kept * person for shot, person in zip(shots, people, strict=True)]
    assert_allclose(light, [light[0]] * 3, atol=1e-12)
    assert (np.abs(light[0][:6]) > 1e-3).all()
    assert_allclose(light[0][6:], 0, atol=1e-12)
    assert all(shot.cast is shots[0].cast for shot in shots)


# --- the folder ---------------------------------------------------------------------------------


def test_same_arguments_give_the_same_bytes(families_root, tmp_path):
    again = synthetic.generate(tmp_path / "again", families=24, photos=(1, 3), seed=7, progress=False)
    assert content(again) == content(families_root)


def test_another_seed_gives_other_families(single_photos, tmp_path):
    one, other = content(single_photos), content(few(tmp_path / "other", seed=99))
    assert one[datasets.RELATIONSHIPS] != other[datasets.RELATIONSHIPS]
    assert not {one[name] for name in one if name.endswith(".jpg")} & set(other.values())


def test_layout_is_that_of_the_competition(families_root, everything):
    names = {path.name for path in families_root.iterdir()}
    assert names == {"train", "test", "train_relationships.csv", "sample_submission.csv", "truth", "manifest.json"}
    on_disk = [name for name in content(families_root) if name.startswith("train/")]
    assert sorted(everything.photos["path"]) == sorted(on_disk)
    assert len(everything.test_photos) == len(list((families_root / "test").iterdir()))


def test_photos_are_crops_of_the_competitions_size(families):
    crops = images.read_many(families.paths(families.photos["path"][:30]), 224)
    assert {images.read(path).shape for path in families.paths(families.photos["path"][:30])} == {(224, 224, 3)}
    assert (crops.reshape(30, -1).std(axis=1) > 15).all()


def test_folder_can_be_read_by_everybody(families_root):
    assert families_root.stat().st_mode & 0o755 == 0o755


def test_people_have_as_many_photos_as_were_asked_for(everything, defects):
    planted = [pair[1] for kind in ("duplicate_across_families", "near_duplicate") for pair in defects[kind]]
    counts = everything.without_photos(planted).photos["person"].value_counts()
    assert counts.min() >= 1 and counts.max() == 3


def test_at_least_ten_families_are_held_out_under_the_name_f09(single_photos, everything):
    for dataset, total in ((datasets.load(single_photos), 20), (everything, 24)):
        train, test = datasets.split_families(dataset)
        assert len(test) >= 10 and len(train) == total - len(test)
        assert set(dataset.of_families(test).kin["family"]) == set(test)


def test_relationships_are_within_families_and_listed_once(everything):
    rows = everything.relationships
    assert (datasets.family_of(rows["p1"]) == datasets.family_of(rows["p2"])).all()
    assert not pd.Series([frozenset(pair) for pair in rows.itertuples(index=False)]).duplicated().any()


def test_spouses_make_some_pairs_of_a_family_no_kin(everything):
    per_family = Counter(pair[0].split("/")[0] for pair in datasets.unlisted_pairs(everything))
    assert len(per_family) > 15


def test_photograph_belongs_to_one_family_and_shows_a_person_once(everything):
    families_of = defaultdict(set)
    for photo_id, family in everything.photos[["photo_id", "family"]].itertuples(index=False):
        families_of[photo_id].add(family)
    assert all(len(names) == 1 for names in families_of.values())
    assert not everything.photos.duplicated(["photo_id", "person"]).any()
    assert everything.photos["photo_id"].duplicated().any()  # some show relatives together


def test_manifest_repeats_the_arguments(families_root):
    made = json.loads((families_root / "manifest.json").read_text())
    assert (made["families"], made["children"], made["photos"], made["seed"]) == (24, [1, 4], [1, 3], 7)
    assert made["recipe"]["adult"] == 0.8


# --- planted defects ----------------------------------------------------------------------------


def test_people_without_photos_are_listed_and_have_none(everything, families_root, defects):
    listed = set(everything.relationships.to_numpy().ravel())
    assert sorted(listed - everything.people) == defects["people_without_photos"]
    assert len(defects["people_without_photos"]) == 4
    assert not any((families_root / "train" / name).exists() for name in defects["people_without_photos"])


def test_truncated_photo_is_the_only_one_that_cannot_be_read(families_root, defects):
    broken = []
    for path in [*families_root.glob("train/*/*/*"), *families_root.glob("test/*")]:
        try:
            images.read(path)
        except ImageError:
            broken.append(path.relative_to(families_root).as_posix())
    assert broken == defects["truncated"]


def test_duplicates_across_families_are_the_only_identical_training_photos(families_root, defects):
    (one, other), = defects["duplicate_across_families"]
    same = defaultdict(list)
    for path in families_root.glob("train/*/*/*"):
        same[path.read_bytes()].append(path.relative_to(families_root).as_posix())
    assert [sorted(names) for names in same.values() if len(names) > 1] == [sorted([one, other])]
    assert one.split("/")[1] != other.split("/")[1]


def test_near_duplicate_is_the_same_picture_of_the_same_person_in_other_bytes(families_root, defects):
    (one, other), = defects["near_duplicate"]
    pictures = [images.read(families_root / name) for name in (one, other)]
    assert one.rpartition("/")[0] == other.rpartition("/")[0]
    assert (families_root / one).read_bytes() != (families_root / other).read_bytes()
    assert np.abs((pictures[0] * 1.08).clip(0, 255) - pictures[1]).mean() < 4


def test_greyscale_photos_are_the_only_ones_without_colour(families, defects):
    grey = [name for name in families.photos["path"] if audit.is_grey(images.read(families.root / name), spread=0)]
    assert grey == sorted(defects["greyscale"]) and len(grey) == 4


def test_unlisted_kin_are_relatives_with_photos_that_the_csv_lacks(everything, defects):
    listed = {frozenset(pair) for pair in everything.relationships.itertuples(index=False)}
    assert len(defects["kin_not_listed"]) == 3
    for a, b in defects["kin_not_listed"]:
        assert frozenset((a, b)) not in listed and {a, b} <= everything.people
        assert a.split("/")[0] == b.split("/")[0]


def test_copies_in_the_test_photos_are_training_photos_and_in_no_scored_pair(families_root, everything, defects):
    train = {path.read_bytes() for path in families_root.glob("train/*/*/*")}
    same = [name for name in everything.test_photos if (families_root / "test" / name).read_bytes() in train]
    assert same == defects["test_copies_of_training_photos"] and len(same) == 2
    assert not any(name in "-".join(everything.sample["img_pair"]) for name in same)


def test_smallest_families_get_every_defect_outside_the_held_out_families(single_photos):
    defects, dataset = synthetic.manifest(single_photos)["defects"], datasets.load(single_photos)
    assert all(defects[kind] for kind in defects)
    named = json.dumps(defects)
    assert "F09" not in named
    assert all({a, b} <= dataset.people for a, b in defects["kin_not_listed"])
    assert list(datasets.unreadable_photos(dataset)) == defects["truncated"]
    for name in dataset.test_photos:
        assert images.read(single_photos / "test" / name).shape == (224, 224, 3)


# --- test pairs ---------------------------------------------------------------------------------


def truth(root):
    return pd.read_csv(root / synthetic.TRUTH)


def test_test_pairs_are_balanced_and_none_comes_twice(families_root):
    table = truth(families_root)
    assert table["is_related"].sum() * 2 == len(table) > 100
    assert table["img_pair"].is_unique


def test_answers_stand_in_the_order_of_the_sample_which_gives_none_away(families_root, everything):
    assert_array_equal(truth(families_root)["img_pair"], everything.sample["img_pair"])
    assert (everything.sample["is_related"] == 0).all()
    runs = (truth(families_root)["is_related"].diff().fillna(0) != 0).mean()
    assert 0.35 < runs < 0.65


def test_photos_of_test_pairs_exist_and_no_pair_is_a_photo_with_itself(families_root, everything):
    pairs = truth(families_root)["img_pair"].str.split("-", expand=True)
    assert pairs.shape[1] == 2 and set(pairs.to_numpy().ravel()) <= set(everything.test_photos)
    assert (pairs[0] != pairs[1]).all()


def test_answers_tell_relatives_from_strangers(families_root, backbone):
    table = truth(families_root)
    a, b = (embed_photos(backbone, [families_root / "test" / name for name in names], progress=False)
            for names in table["img_pair"].str.split("-", expand=True).T.to_numpy())
    assert metrics.roc_auc(table["is_related"], cosine(a, b)) > 0.7


# --- what is refused ----------------------------------------------------------------------------


def test_existing_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DatasetError, match=re.escape(f"{tmp_path} exists already; delete it or name another")):
        few(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("wrong", "message"), [
    ({"families": 19}, "19 families cannot be made; ask for 20 to 900"),
    ({"families": 901}, "901 families cannot be made; ask for 20 to 900"),
    ({"children": (0, 2)}, "0 to 2 children make no sense; the least is 1, the most 99"),
    ({"children": (3, 2)}, "3 to 2 children make no sense"),
    ({"photos": (0, 1)}, "0 to 1 photos make no sense"),
    ({"photos": (1, 100)}, "1 to 100 photos make no sense")])
def test_numbers_that_make_no_sense_are_refused(tmp_path, wrong, message):
    with pytest.raises(DatasetError, match=message):
        few(tmp_path / "new", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_failed_generation_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="scale < 0"):
        few(tmp_path / "new", recipe=synthetic.Recipe(photo=-1))
    assert list(tmp_path.iterdir()) == []


# --- the data that the course runs on -----------------------------------------------------------


@pytest.fixture
def made_at_first_use(monkeypatch, tmp_path):
    """An empty data folder, where few families are made instead of many."""
    monkeypatch.setattr(settings, "DATA", tmp_path)
    monkeypatch.setattr(synthetic, "generate", few)
    return tmp_path / "families"


def test_named_source_comes_before_the_environment_and_that_before_the_families(
        monkeypatch, families_root, single_photos, made_at_first_use):
    monkeypatch.setenv("KIN_DATA", str(families_root))
    assert synthetic.open_data(str(single_photos)).root == single_photos
    assert synthetic.open_data().root == families_root
    assert not made_at_first_use.exists()


def test_families_are_made_once_at_the_first_use(made_at_first_use):
    first = synthetic.open_data()
    written = made_at_first_use.stat().st_mtime_ns
    assert first.root == synthetic.open_data().root == made_at_first_use
    assert made_at_first_use.stat().st_mtime_ns == written


def test_programs_that_start_at_once_make_the_families_once(made_at_first_use):
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: synthetic.open_data(), range(2))
    assert_array_equal(one.photos, other.photos)
    assert [path.name for path in made_at_first_use.parent.iterdir()] == ["families"]


def test_named_source_that_is_not_there_is_refused(monkeypatch, tmp_path, made_at_first_use):
    monkeypatch.setenv("KIN_DATA", str(tmp_path / "no.zip"))
    with pytest.raises(DatasetError, match=r"no\.zip does not exist; name the Kaggle archive"):
        synthetic.open_data()
    assert not made_at_first_use.exists()


# --- building the eigenfaces --------------------------------------------------------------------


def test_turned_shot_turns_the_face():
    model = eigenfaces.load()
    found = []
    for angle in (0, 0.2):
        shot = synthetic.Shot(np.zeros(len(model.components)), np.ones(3), angle, 0.9, np.zeros(2))
        found += detection.detect_in_crops(synthetic.develop([shot], model))
    slope = [np.arctan2(*(face.landmarks[1] - face.landmarks[0])[::-1]) for face in found]
    assert_allclose(abs(slope[1] - slope[0]), 0.2, atol=0.06)


def test_eigenfaces_are_built_from_the_families_and_account_for_every_photo(families):
    part = families.of_families(families.families[:5])
    model, facts = synthetic.build_eigenfaces(part, count=5, progress=False)
    assert facts["photos"] == len(part.photos) == facts["used"] + facts["without_face"] + facts["too_turned"]
    assert facts["used"] > 0.9 * facts["photos"] and facts["components"] == len(model.components) == 5
    assert 0.2 < facts["variance_share"] < 1
    assert_allclose(model.landmarks, synthetic.CROP_LANDMARKS * 128 / 224)
