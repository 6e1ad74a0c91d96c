"""Splits, folds and fixed lists of pairs: drawn anew, read back, and the committed ones."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal

from utils.data import pairs, protocols
from utils.errors import DatasetError, ProtocolError

KIN = [("F0001/MID1", "F0001/MID2")]


@pytest.fixture(scope="module")
def held_out(families):
    """Names of the families for the final test."""
    return protocols.split_families(families)[1]


@pytest.fixture(scope="module")
def protocol(families, held_out):
    return protocols.make_protocol(families, held_out, pairs_each=150)


@pytest.fixture(scope="module")
def identity(families, held_out):
    return protocols.make_identity_protocol(families, held_out, pairs_each=50)


def as_batch(table, dataset):
    """The pairs of a protocol as rows of the photos; the label is 1 for kin (or relatives)."""
    label = table["is_related"] if "is_related" in table else table["kind"] == "relatives"
    return pairs.PairBatch(*protocols.photo_rows(table, dataset), label.to_numpy(np.float32))


def repeated(table):
    """Whether a pair comes twice, in one order or the other."""
    return pd.Series(map(frozenset, table[["photo_a", "photo_b"]].to_numpy())).duplicated().any()


# --- splits and folds ---------------------------------------------------------------------------


def test_split_looks_at_the_family_name_alone(hand_made):
    people = {
        "F0001/MID09": ["P09_F09"],
        "F0002/MID1": ["F0905"],
        "F0109/MID9": ["P1"],
        "F1090/MID1": ["P1"],
        "F0900/MID1": ["P1"],
    }
    dataset = hand_made(people, root="F09/data")
    assert protocols.split_families(dataset) == (["F0001", "F0002", "F0109", "F1090"], ["F0900"])


@pytest.mark.parametrize(
    "prefix, message", [("F07", "24 families for training and 0"), ("F", "0 families for")]
)
def test_split_that_leaves_a_side_empty_is_named(families, prefix, message):
    with pytest.raises(DatasetError, match=f"{message}.*choose another prefix"):
        protocols.split_families(families, prefix)


@pytest.fixture(scope="module")
def of_sizes(hand_made):
    """A function that makes families with so many kin pairs each."""

    def build(sizes):
        people, kin = {}, []
        for number, size in enumerate(sizes):
            names = [f"F{number:04d}/MID{member}" for member in range(size + 1)]
            people |= dict.fromkeys(names, ["P1"])
            kin += [(names[0], name) for name in names[1:]]
        return hand_made(people, kin)

    return build


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 12), min_size=5, max_size=40), count=st.integers(1, 5))
def test_folds_are_complete_disjoint_and_balanced(of_sizes, sizes, count):
    dataset = of_sizes(sizes)
    folds = protocols.make_folds(dataset, dataset.families, count)
    assert folds["family"].tolist() == dataset.families
    kin = np.bincount(folds["fold"], weights=sizes, minlength=count)
    assert len(kin) == count and kin.max() - kin.min() <= max(sizes)


def test_folds_are_dealt_from_the_largest_family_to_the_emptiest_fold(of_sizes):
    sizes = [2, 6, 2, 3, 2, 3]
    dataset = of_sizes(sizes)
    folds = protocols.make_folds(dataset, dataset.families, 2)
    assert np.bincount(folds["fold"], sizes).tolist() == [10, 8]
    assert_frame_equal(folds, protocols.make_folds(dataset, dataset.families[::-1], 2))


def test_more_folds_than_families_and_a_fold_that_is_not_there_are_named(families):
    with pytest.raises(DatasetError, match="2 families cannot make 5 folds"):
        protocols.make_folds(families, families.families[:2])
    folds = protocols.make_folds(families, families.families, 3)
    with pytest.raises(DatasetError, match="There is no fold 3; choose one of 0 to 2"):
        protocols.fold_protocol(families, folds, 3, 10)


def test_fold_protocol_is_of_the_families_of_the_fold(families):
    folds = protocols.make_folds(families, families.families, 3)
    table = protocols.fold_protocol(families, folds, 1, 10)
    names = set(np.concatenate(protocols.pair_families(table)))
    assert len(table) == 20 and names <= set(folds.loc[folds["fold"] == 1, "family"])


# --- kin and strangers --------------------------------------------------------------------------


def test_protocol_is_distinct_and_balanced_and_from_its_families(protocol, held_out):
    assert list(protocol) == protocols.PROTOCOL_COLUMNS and len(protocol) == 300
    assert not repeated(protocol) and protocol["is_related"].sum() == 150
    assert set(np.concatenate(protocols.pair_families(protocol))) == set(held_out)


def test_protocol_pairs_kin_and_strangers_and_flags_the_pairs_of_one_photograph(
    families, protocol, assert_honest, one_photograph
):
    batch = as_batch(protocol, families)
    assert_honest(families, batch)
    assert_array_equal(protocol["same_photo"] == 1, one_photograph(families, batch))
    assert 0 < protocol["same_photo"].sum() < 150


def test_protocol_of_a_photo_id_in_two_families_flags_no_strangers(hand_made):
    dataset = hand_made({"F0001/MID1": ["P1"], "F0001/MID2": ["P1"], "F0002/MID1": ["P1"]}, KIN)
    table = protocols.make_protocol(dataset, ["F0001", "F0002"], pairs_each=1)
    assert table[["is_related", "same_photo"]].to_numpy().tolist() == [[1, 1], [0, 0]]


def test_protocol_is_smaller_but_balanced_when_there_are_too_few_pairs(hand_made):
    people = {"F0001/MID1": ["P1"], "F0001/MID2": ["P2", "P3"], "F0002/MID1": ["P4"]}
    table = protocols.make_protocol(hand_made(people, KIN), ["F0001", "F0002"], pairs_each=20)
    assert table["is_related"].tolist() == [1, 1, 0, 0]


def test_protocols_are_the_same_for_the_same_seed_only(families, held_out):
    for make in (protocols.make_protocol, protocols.make_identity_protocol):
        one, again, other = (make(families, held_out, 10, seed) for seed in (1, 1, 2))
        assert_frame_equal(one, again)
        assert not one.equals(other)


def test_photo_rows_and_families_belong_to_the_named_photos(families, protocol):
    rows, names = protocols.photo_rows(protocol, families), protocols.pair_families(protocol)
    for side, column in enumerate(("photo_a", "photo_b")):
        photos = families.photos.iloc[rows[side]]
        assert rows[side].dtype == np.int64
        assert photos["path"].tolist() == protocol[column].tolist()
        assert photos["family"].tolist() == names[side].tolist()


# --- every family, scored by who never saw it ---------------------------------------------------


@pytest.fixture(scope="module")
def out_of_fold(families):
    return protocols.make_out_of_fold(families, protocols.folds_for(families))


def kin_people(table):
    """How often each pair of people comes among the kin of a table."""
    kin = table[table["is_related"] == 1]
    people = [kin[column].str.rpartition("/")[0] for column in ("photo_a", "photo_b")]
    return Counter(map(frozenset, zip(*people, strict=True)))


def test_list_of_every_family_has_each_kin_pair_once_or_twice(families, out_of_fold):
    listed = {frozenset(pair) for pair in families.kin[["p1", "p2"]].itertuples(index=False)}
    counts = kin_people(out_of_fold)
    named = {frozenset(person.removeprefix("train/") for person in pair) for pair in counts}
    assert named == listed and set(counts.values()) == {1, 2}
    with_kin = set(families.kin["family"])
    assert with_kin == set(families.families), "a family without kin shows nothing here"
    kin = out_of_fold[out_of_fold["is_related"] == 1]
    assert set(np.concatenate(protocols.pair_families(kin))) == with_kin
    # a pair comes once where both draws gave the same two photos
    photos = families.photos.groupby("person").size()
    for pair, count in counts.items():
        possible = photos[[person.removeprefix("train/") for person in pair]].prod()
        assert count <= possible


def test_list_of_every_family_is_distinct_balanced_and_honest(
    families, out_of_fold, assert_honest, one_photograph
):
    assert list(out_of_fold) == [*protocols.PROTOCOL_COLUMNS, "fold"]
    assert out_of_fold.index.tolist() == list(range(len(out_of_fold)))
    assert not repeated(out_of_fold)
    for fold, rows in out_of_fold.groupby("fold"):
        # strangers that were drawn twice are fewer, never more
        kin = rows["is_related"].sum()
        assert 0.8 * kin <= len(rows) - kin <= kin, fold
    batch = as_batch(out_of_fold, families)
    assert_honest(families, batch)
    assert_array_equal(out_of_fold["same_photo"] == 1, one_photograph(families, batch))


def test_both_families_of_a_pair_are_of_its_fold_and_the_held_out_ones_are_f09(
    families, out_of_fold
):
    folds = protocols.folds_for(families)
    fold_of = dict(zip(folds["family"], folds["fold"].astype(str), strict=True))
    assert list(out_of_fold["fold"].unique()) == ["0", "1", "2", "3", "4", protocols.HELD_OUT]
    for names in protocols.pair_families(out_of_fold):
        expected = [fold_of.get(name, protocols.HELD_OUT) for name in names]
        assert out_of_fold["fold"].tolist() == expected
        held_out = (out_of_fold["fold"] == protocols.HELD_OUT).to_numpy()
        assert all(name.startswith("F09") for name in names[held_out])
        assert not any(name.startswith("F09") for name in names[~held_out])


def test_list_of_every_family_is_the_same_for_the_same_seed_only(families, out_of_fold):
    assert_frame_equal(
        protocols.make_out_of_fold(families, protocols.folds_for(families)), out_of_fold
    )
    assert_frame_equal(protocols.out_of_fold_for(families), out_of_fold)
    assert not protocols.make_out_of_fold(families, protocols.folds_for(families), seed=1).equals(
        out_of_fold
    )
    once = protocols.make_out_of_fold(families, protocols.folds_for(families), times=1)
    assert set(kin_people(once).values()) == {1} and set(kin_people(once)) == set(
        kin_people(out_of_fold)
    )


# --- pairs to verify identity on ----------------------------------------------------------------


def test_identity_protocol_has_as_many_pairs_of_each_kind_as_asked_for_and_none_twice(
    identity, held_out
):
    assert list(identity) == protocols.IDENTITY_COLUMNS
    assert identity["kind"].tolist() == ["same"] * 50 + ["relatives"] * 50 + ["strangers"] * 50
    assert identity.index.tolist() == list(range(150))
    assert not repeated(identity)
    assert set(np.concatenate(protocols.pair_families(identity))) == set(held_out)


def test_identity_protocol_pairs_what_each_kind_says_and_no_two_faces_of_one_photograph(
    families, identity, sides, assert_honest, one_photograph
):
    people = sides(families, as_batch(identity, families), "person")
    assert_array_equal(people[:, 0] == people[:, 1], identity["kind"] == "same")
    batch = as_batch(identity[identity["kind"] != "same"], families)
    assert_honest(families, batch)
    assert not one_photograph(families, as_batch(identity, families)).any()


def test_identity_protocol_has_every_pair_of_a_kind_of_which_there_are_too_few(families, held_out):
    table = protocols.make_identity_protocol(families, held_out, pairs_each=200)
    possible = 0
    for _, ids in families.of_families(held_out).photos.groupby("person")["photo_id"]:
        possible += sum(a != b for a, b in itertools.combinations(ids, 2))
    counts = table["kind"].value_counts().to_dict()
    assert counts == {"same": possible, "relatives": 200, "strangers": 200} and possible < 200


def test_people_are_drawn_uniformly_for_pairs_of_one_person(hand_made):
    photo_ids = [f"P{number}" for number in range(120)]
    people = {
        "F0001/MID1": photo_ids[:90],
        "F0001/MID2": ["Q1"],
        "F0002/MID1": ["R1"],
        "F0001/MID3": photo_ids[90:],
    }
    dataset = hand_made(people, KIN)
    table = protocols.make_identity_protocol(dataset, ["F0001", "F0002"], pairs_each=200)
    counts = table.loc[table["kind"] == "same", "photo_a"].str.split("/").str[2].value_counts()
    # 4,005 of the 4,440 pairs are of MID1
    assert counts.sum() == 200 and counts["MID1"] < 130


def test_two_faces_of_one_photograph_are_no_pair_of_one_person(hand_made):
    dataset = hand_made(
        {"F0001/MID1": ["P1", "P1", "P2"], "F0001/MID2": ["P3"], "F0002/MID1": ["P4"]}, KIN
    )
    table = protocols.make_identity_protocol(dataset, ["F0001", "F0002"], 9)
    same = table[table["kind"] == "same"]
    files = [path.rpartition("/")[2] for path in (*same["photo_a"], *same["photo_b"])]
    assert sorted(files) == ["P1_face1.jpg", "P1_face2.jpg", "P2_face3.jpg", "P2_face3.jpg"]


def test_identity_needs_somebody_with_two_photographs(hand_made):
    dataset = hand_made(
        {"F0001/MID1": ["P1", "P1"], "F0001/MID2": ["P2"], "F0002/MID1": ["P3"]}, KIN
    )
    with pytest.raises(DatasetError, match="^No person has photos from two photographs; ident"):
        protocols.make_identity_protocol(dataset, ["F0001", "F0002"], 5)


# --- files --------------------------------------------------------------------------------------


def test_protocols_survive_the_round_trip(families, protocol, identity, tmp_path):
    path = tmp_path / "new" / "protocol.csv"
    for table, read in (
        (protocol, protocols.read_protocol),
        (identity, protocols.read_identity_protocol),
    ):
        protocols.write_csv(table, path)
        assert_frame_equal(read(path, families), table)
        assert b"\r" not in path.read_bytes()


@pytest.mark.parametrize(
    "read", [protocols.read_protocol, protocols.read_identity_protocol], ids=["kin", "identity"]
)
def test_protocol_that_is_missing_or_not_a_table_is_named(families, tmp_path, read):
    with pytest.raises(ProtocolError, match=r"The protocol .*gone\.csv does not exist; check the"):
        read(tmp_path / "gone.csv", families)
    for content in (b"", b'"', b"\xff\xd8\xff\xe0"):
        (tmp_path / "wrong.csv").write_bytes(content)
        with pytest.raises(ProtocolError, match=r"wrong\.csv is not a CSV file that can be read"):
            read(tmp_path / "wrong.csv", families)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";").replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: text.replace(",", "\t").encode("utf-16"),
        lambda text: text.replace("photo_a", "PHOTO_A", 1).encode(),
    ],
    ids=["Excel", "Excel's Unicode text", "upper case"],
)
def test_protocol_in_another_dialect_is_the_same(families, protocol, tmp_path, change):
    for content, name in ((protocol, "plain"), (protocol[protocol.columns[::-1]], "turned")):
        path = tmp_path / f"{name}.csv"
        path.write_bytes(change(content.to_csv(index=False)))
        assert_frame_equal(protocols.read_protocol(path, families), protocol)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda table: table.drop(columns="same_photo"),
            "has the columns photo_a, photo_b, is_related; expected",
        ),
        (
            lambda table: table.rename(columns={"photo_a": "a"}),
            "has the columns a, photo_b.*; expected photo_a",
        ),
        (lambda table: table.assign(is_related=2), "has labels or flags other than 0 and 1"),
        (lambda table: table.assign(same_photo="yes"), "has labels or flags other than 0 and 1"),
        (lambda table: table.assign(is_related=np.nan), "has labels or flags other than 0 and 1"),
        (
            lambda table: table.assign(photo_b="train/F0999/a.jpg"),
            "names 1 photos that .* lacks, train/F0999/a.jpg",
        ),
        (lambda table: table.assign(photo_a=[None, "x"] * 150), "names 2 photos that .* lacks"),
        (
            lambda table: table.assign(photo_a=7),
            "names 1 photos that .* lacks, 7 among them; it was made for other",
        ),
        (lambda table: table[:0], "needs pairs of kin and pairs of strangers"),
        (
            lambda table: table[table["is_related"] == 1],
            "needs pairs of kin and pairs of strangers",
        ),
    ],
)
def test_wrong_protocol_is_named(families, protocol, tmp_path, spoil, message):
    spoil(protocol).to_csv(tmp_path / "wrong.csv", index=False)
    with pytest.raises(ProtocolError, match=rf"wrong\.csv {message}"):
        protocols.read_protocol(tmp_path / "wrong.csv", families)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda table: table.drop(columns="kind"),
            "has the columns photo_a, photo_b; expected photo_a, .*kind",
        ),
        (
            lambda table: table.assign(photo_a="train/F0999/a.jpg"),
            "names 1 photos that .* lacks, train/F0999/a.jpg",
        ),
        (
            lambda table: table[table["kind"] != "same"],
            "needs pairs of each kind: same, relatives, strangers, and no",
        ),
        (
            lambda table: pd.concat([table, table[:1].assign(kind="twins")]),
            "needs pairs of each kind.*no others",
        ),
        (lambda table: table.assign(kind=[None, *table["kind"][1:]]), "needs pairs of each kind"),
        (lambda table: table[:0], "needs pairs of each kind"),
    ],
)
def test_wrong_identity_protocol_is_named(families, identity, tmp_path, spoil, message):
    spoil(identity).to_csv(tmp_path / "wrong.csv", index=False)
    with pytest.raises(ProtocolError, match=rf"wrong\.csv {message}"):
        protocols.read_identity_protocol(tmp_path / "wrong.csv", families)


# --- the committed files ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed():
    return pd.read_csv(protocols.F09_PAIRS)


@pytest.fixture(scope="module")
def committed_identity():
    return pd.read_csv(protocols.F09_IDENTITY)


def parts_of(table):
    """Family, person and photograph of both sides of each pair, object ``(pairs, 2)`` each."""
    family, person, photograph = [], [], []
    for column in ("photo_a", "photo_b"):
        parts = table[column].str.extract(r"train/(F\d{4})/(MID\d+)/(P\d+)_")
        family.append(parts[0])
        person.append(parts[0] + parts[1])
        photograph.append(parts[0] + parts[2])
    return (np.column_stack(part) for part in (family, person, photograph))


def test_committed_protocol_is_six_thousand_distinct_pairs_of_held_out_families(committed):
    assert list(committed) == protocols.PROTOCOL_COLUMNS
    assert len(committed) == 6000 and committed["is_related"].sum() == 3000
    assert not repeated(committed)
    families, people, photographs = parts_of(committed)
    assert len(np.unique(families)) == 50
    assert all(name.startswith("F09") for name in np.unique(families))
    assert_array_equal(families[:, 0] == families[:, 1], committed["is_related"] == 1)
    assert (people[:, 0] != people[:, 1]).all()
    assert_array_equal(photographs[:, 0] == photographs[:, 1], committed["same_photo"] == 1)


def test_committed_identity_protocol_is_fifteen_hundred_distinct_pairs_of_each_kind(
    committed, committed_identity
):
    kind = committed_identity["kind"]
    assert list(committed_identity) == protocols.IDENTITY_COLUMNS
    assert kind.value_counts().to_dict() == {"same": 1500, "relatives": 1500, "strangers": 1500}
    assert not repeated(committed_identity)
    families, people, photographs = parts_of(committed_identity)
    assert all(name.startswith("F09") for name in np.unique(families))
    assert_array_equal(people[:, 0] == people[:, 1], kind == "same")
    assert_array_equal(families[:, 0] != families[:, 1], kind == "strangers")
    assert (photographs[:, 0] != photographs[:, 1]).all()
    # relatives and strangers are pairs of the protocol of kin
    label = kind.map({"relatives": 1, "strangers": 0})
    both = committed_identity.assign(is_related=label).merge(committed, how="left", indicator=True)
    assert (both.loc[both["kind"] != "same", "_merge"] == "both").all()


def test_committed_folds_are_five_of_the_families_that_are_not_held_out():
    folds = pd.read_csv(protocols.FOLDS)
    names = folds["family"]
    assert list(folds) == ["family", "fold"] and len(folds) == 420 and names.is_unique
    assert names.str.fullmatch(r"F\d{4}").all() and not names.str.startswith("F09").any()
    counts = folds["fold"].value_counts()
    assert sorted(counts.index) == [0, 1, 2, 3, 4] and counts.between(80, 88).all()


@pytest.fixture(scope="module")
def committed_out_of_fold():
    return pd.read_csv(protocols.OUT_OF_FOLD)


def test_committed_list_of_every_family_is_of_pairs_within_folds(committed_out_of_fold):
    table, folds = committed_out_of_fold, pd.read_csv(protocols.FOLDS)
    assert list(table) == [*protocols.PROTOCOL_COLUMNS, "fold"] and not repeated(table)
    fold_of = dict(zip(folds["family"], folds["fold"].astype(str), strict=True))
    families, people, photographs = parts_of(table)
    for side in (0, 1):
        expected = [fold_of.get(name, protocols.HELD_OUT) for name in families[:, side]]
        assert table["fold"].tolist() == expected
    held_out = (table["fold"] == protocols.HELD_OUT).to_numpy()
    assert {name[:3] for name in families[held_out].ravel()} == {"F09"}
    kin = (table["is_related"] == 1).to_numpy()
    assert_array_equal(families[:, 0] == families[:, 1], kin)
    assert (people[:, 0] != people[:, 1]).all()
    assert_array_equal(photographs[:, 0] == photographs[:, 1], table["same_photo"] == 1)
    # every family that has kin with photos, each kin pair once or twice, and as many strangers
    assert len(set(families[kin & ~held_out, 0])) == 412
    assert len(set(families[kin & held_out, 0])) == 50
    assert Counter(kin_people(table).values()) == {2: 2833, 1: 529}
    assert kin.sum() == (~kin).sum() == 6195


# --- which data it is ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def like_kaggle(families, committed, committed_identity, committed_out_of_fold, tmp_path_factory):
    """A dataset of no files that holds the photos of the committed protocols."""
    paths = set()
    for table in (committed, committed_identity, committed_out_of_fold):
        paths |= {*table["photo_a"], *table["photo_b"]}
    rows = pd.DataFrame({"path": sorted(paths)})
    rows["family"] = rows["path"].str.split("/").str[1]
    photos = rows.assign(person=rows["family"], photo_id="P1")[list(families.photos)]
    return dataclasses.replace(families, root=tmp_path_factory.mktemp("kaggle"), photos=photos)


def test_committed_files_are_used_for_the_data_they_were_drawn_from(
    like_kaggle, committed, committed_identity, committed_out_of_fold
):
    assert protocols.data_name(like_kaggle) == "kaggle"
    as_text = committed_out_of_fold.assign(fold=committed_out_of_fold["fold"].astype(str))
    assert_frame_equal(protocols.out_of_fold_for(like_kaggle), as_text)
    assert_frame_equal(protocols.protocol_for(like_kaggle), committed)
    assert_frame_equal(protocols.identity_protocol_for(like_kaggle), committed_identity)
    assert_frame_equal(protocols.folds_for(like_kaggle), pd.read_csv(protocols.FOLDS))


def test_data_that_lacks_a_photo_of_the_protocol_is_not_kaggles(
    like_kaggle, committed, monkeypatch, tmp_path
):
    other = like_kaggle.without_photos([committed["photo_a"].iloc[0]])
    assert protocols.data_name(other) == "own"
    monkeypatch.setattr(protocols, "F09_PAIRS", tmp_path / "gone.csv")
    assert protocols.data_name(like_kaggle) == "own"


def test_synthetic_families_get_protocols_and_folds_of_their_own(families, held_out):
    assert protocols.data_name(families) == "synthetic"
    for table in (protocols.protocol_for(families), protocols.identity_protocol_for(families)):
        assert set(np.concatenate(protocols.pair_families(table))) == set(held_out)
    folds = protocols.folds_for(families)
    assert folds["family"].tolist() == protocols.split_families(families)[0]
    assert set(folds["fold"]) == set(range(5))
