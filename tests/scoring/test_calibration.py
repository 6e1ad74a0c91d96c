"""Thresholds balance where they are chosen, rates count what they say, files are checked."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils import settings
from utils.data import protocols
from utils.errors import CalibrationError
from utils.faces import backbones
from utils.faces.embeddings import embed_photos
from utils.scoring import calibration, metrics
from utils.scoring.calibration import OTHERS
from utils.scoring.metrics import Interval

EACH = 60


@pytest.fixture(scope="module")
def example(families, backbone):
    """A calibration on the synthetic families, with few pairs and few resamples."""
    return calibration.calibrate(families, backbone, EACH, resamples=50, progress=False)


@pytest.fixture(scope="module")
def tables(families, backbone):
    """The pairs of the training and of the held-out families, each with a distance by hand."""
    training_families, _ = protocols.split_families(families)
    training = protocols.make_identity_protocol(families, training_families, EACH)
    parts = {"training": training, "test": protocols.identity_protocol_for(families)}
    for name, table in parts.items():
        a, b = (
            embed_photos(backbone, families.paths(table[column]), False, aligned=True)
            for column in ("photo_a", "photo_b")
        )
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        parts[name] = table.assign(distance=1 - cosine)
    return parts


@pytest.fixture
def stored(example, tmp_path):
    """The calibration as a file, and its content."""
    path = tmp_path / "dlib-resnet.json"
    calibration.save(example, path)
    return path, json.loads(path.read_text())


@pytest.fixture(scope="module")
def committed(backbone):
    return calibration.load(backbone)


def of(table, kind):
    """Distances of the pairs of a kind."""
    return table.loc[table["kind"] == kind, "distance"].to_numpy()


def values(rates):
    return [
        rates.false_reject.value,
        rates.strangers_accepted.value,
        rates.relatives_accepted.value,
    ]


# --- making one ---------------------------------------------------------------------------------


def test_calibration_says_what_it_was_made_of(example, backbone, tables):
    assert (example.backbone, example.fingerprint) == ("dlib-resnet", backbone.fingerprint)
    assert example.data == "synthetic" and example.without_face == 0
    assert example.training_pairs == dict.fromkeys(protocols.PAIR_KINDS, EACH)
    assert example.test_pairs == tables["test"]["kind"].value_counts().to_dict()


@pytest.mark.parametrize("policy", OTHERS)
def test_threshold_accepts_as_many_others_as_it_rejects_of_one_person(example, tables, policy):
    threshold, training = example.thresholds[policy], tables["training"]
    rejected = (of(training, "same") > threshold).mean()
    accepted = (of(training, policy) <= threshold).mean()
    assert abs(rejected - accepted) <= 1.5 / EACH
    assert threshold == round(threshold, 4)


def test_thresholds_by_hand():
    same, relatives, strangers = [1, 2, 3, 6], [2.5, 5, 7, 8], [4, 9, 10, 11]
    kinds = np.repeat(protocols.PAIR_KINDS, 4)
    table = pd.DataFrame({"kind": kinds, "distance": np.array(same + relatives + strangers) / 10})
    thresholds = calibration.choose_thresholds(table)
    assert list(thresholds) == list(calibration.POLICIES) and calibration.DEFAULT in thresholds
    for policy in OTHERS:
        assert (of(table, policy) <= thresholds[policy]).sum() == 1
        assert (of(table, "same") > thresholds[policy]).sum() == 1
    assert thresholds["strict"] == round(0.4 + 0.003 * 0.5, 4)
    assert thresholds["article"] == 0.5 == calibration.ARTICLE


@pytest.mark.parametrize("policy", calibration.POLICIES)
def test_rates_of_a_policy_are_those_counted_by_hand(example, tables, policy):
    rates, threshold, test = example.rates(policy), example.thresholds[policy], tables["test"]
    assert rates.threshold == threshold
    counted = [(of(test, "same") > threshold).mean()]
    counted += [(of(test, kind) <= threshold).mean() for kind in OTHERS]
    assert_allclose(values(rates), counted, atol=6e-5)  # kept to four decimals
    for rate in (rates.false_reject, rates.strangers_accepted, rates.relatives_accepted):
        assert 0 <= rate.low <= rate.value <= rate.high <= 1


def test_article_accepts_everybody(example):
    assert values(example.rates("article")) == [0, 1, 1]


def test_rates_at_any_distance_rise_with_it_and_are_close_to_those_counted(example, tables):
    distances = np.linspace(0, 2, 201)
    rejected, *accepted = np.transpose([values(example.rates(float(d))) for d in distances])
    for kind, shares in zip(("same", *OTHERS), (1 - rejected, *accepted), strict=True):
        assert (np.diff(shares) >= 0).all() and shares[0] == 0 and shares[-1] == 1
        counted = (of(tables["test"], kind)[:, None] <= distances).mean(0)
        assert_allclose(shares, counted, atol=0.12)


def test_rate_between_two_measured_distances_lies_between_theirs(example):
    low, high = example.distances[20:22]
    shares = np.array([values(example.rates(float(d))) for d in (low, (low + high) / 2, high)])
    assert_allclose(shares[1], (shares[0] + shares[2]) / 2)


def test_intervals_of_false_rejects_are_the_right_way_round(example):
    rates = [example.rates(float(distance)).false_reject for distance in example.distances]
    between = [rate for rate in rates if 0.1 < rate.value < 0.9]
    assert len(between) > 5
    assert all(0 <= rate.low < rate.value < rate.high <= 1 for rate in between)


def test_equal_error_and_area_are_those_of_the_test_pairs(example, tables):
    for kind in OTHERS:
        same, others = of(tables["test"], "same"), of(tables["test"], kind)
        nearer = (same[:, None] < others).mean() + (same[:, None] == others).mean() / 2
        assert example.auc[kind].value == pytest.approx(nearer, abs=6e-5)
        # where the errors balance, their rate lies between both at every distance
        distances = np.unique(np.concatenate([same, others]))
        rejected = (same[:, None] > distances).mean(0)
        accepted = (others[:, None] <= distances).mean(0)
        least, most = np.minimum(rejected, accepted).max(), np.maximum(rejected, accepted).min()
        assert least - 6e-5 <= example.equal_error[kind].value <= most + 6e-5
        for interval in (example.auc[kind], example.equal_error[kind]):
            assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert example.auc["strangers"].value > example.auc["relatives"].value > 0.8


@pytest.mark.parametrize("against", OTHERS)
def test_probability_falls_with_the_distance_and_stays_a_probability(example, against):
    probabilities = example.probability(np.linspace(0, 2, 500), against)
    assert (np.diff(probabilities) <= 0).all()
    assert 1 > probabilities[0] > 0.999 and 0 < probabilities[-1] < 0.01
    one = example.probability(0.07, against)
    assert one == pytest.approx(float(example.probability(np.array([0.07]), against)[0]))


def test_probability_by_hand(committed):
    a, b = committed.slopes["relatives"]
    expected = 1 / (1 + 0.07**-b * np.exp(-a))
    assert committed.probability(0.07, "relatives") == pytest.approx(expected)
    assert committed.probability(0.07) == committed.probability(0.07, "strangers") > expected


@pytest.mark.parametrize("against", OTHERS)
def test_probability_is_about_the_share_that_is_one_person(example, tables, against):
    # as many of one person as of two
    kinds = tables["test"]["kind"]
    fewest = kinds[kinds.isin(["same", against])].value_counts().min()
    distances = np.concatenate([of(tables["test"], kind)[:fewest] for kind in ("same", against)])
    claimed, labels = example.probability(distances, against), np.repeat([1, 0], fewest)
    error = metrics.calibration_error(labels, claimed)
    assert example.calibration_error[against] == pytest.approx(error, abs=6e-5) and error < 0.2
    assert metrics.brier(labels, claimed) < 0.15


def test_distances_are_those_by_hand_and_pairs_without_a_face_are_left_out():
    embeddings = pd.DataFrame([[1, 0], [0, 2], [3, 3], [np.nan, np.nan]], index=list("abcd"))
    pairs = pd.DataFrame({"photo_a": list("aaad"), "photo_b": list("bdcc")})
    table = calibration.with_distances(pairs, embeddings)
    assert table["photo_b"].tolist() == ["b", "c"] and table.index.tolist() == [0, 1]
    assert_allclose(table["distance"], [1, 1 - np.sqrt(0.5)], atol=1e-6)


def test_photos_without_a_face_are_counted_and_their_pairs_left_out(
    families, backbone, monkeypatch
):
    blank = []

    def embed(backbone, paths, progress, aligned):
        embeddings = embed_photos(backbone, paths, progress, aligned)
        embeddings[::9] = np.nan
        blank.extend(paths[::9])
        return embeddings

    monkeypatch.setattr(calibration, "embed_photos", embed)
    result = calibration.calibrate(families, backbone, EACH, resamples=5, progress=False)
    assert result.without_face == len(blank) > 10
    assert all(EACH / 2 < count < EACH for count in result.training_pairs.values())
    assert all(np.isfinite(table).all() for table in result.accepted.values())


# --- for people ---------------------------------------------------------------------------------


def test_table_has_a_row_a_policy_with_the_rates_in_percent(committed):
    table = committed.table()
    assert table.index.tolist() == ["relatives", "strangers", "strict", "article"]
    assert table.loc["relatives"].to_dict() == {
        "threshold": "0.0857",
        "same person rejected": "7.6 % [5.0, 10.5]",
        "strangers accepted": "2.6 % [1.2, 4.3]",
        "relatives accepted": "14.9 % [11.5, 18.6]",
    }
    assert table.loc["article", "strangers accepted"] == "100.0 % [100.0, 100.0]"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0764, "7.6 %"),
        (0.001, "0.1 %"),
        (0.00099, "less than 0.1 %"),
        (0.0, "less than 0.1 %"),
        (0.999, "99.9 %"),
        (0.9991, "more than 99.9 %"),
        (1.0, "more than 99.9 %"),
    ],
)
def test_share_for_people_is_never_a_certain_one(share, words):
    assert calibration.percent(share) == words


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (0.0, "under 1 %"),
        (0.004, "under 1 %"),
        (0.006, "1 %"),
        (0.5, "50 %"),
        (0.999, "over 99 %"),
    ],
)
def test_a_probability_is_said_without_decimals_and_never_as_certain(probability, words):
    assert calibration.rounded(probability) == words


def test_rates_are_exported_in_plain_rounded_numbers():
    intervals = [Interval(np.float64(value), 0.0, 1.0) for value in (0.11111, 0.2, 0.3)]
    assert json.loads(json.dumps(calibration.Rates(0.123456, *intervals).to_dict())) == {
        "threshold": 0.1235,
        "false_reject": {"value": 0.1111, "low": 0, "high": 1},
        "strangers_accepted": {"value": 0.2, "low": 0, "high": 1},
        "relatives_accepted": {"value": 0.3, "low": 0, "high": 1},
    }


# --- thresholds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "distance"),
    [("relatives", 0.1), (0.25, 0.25), ("0.25", 0.25), (0, 0), ("2", 2), (np.float32(1), 1)],
)
def test_policy_stands_for_its_distance_and_a_number_for_itself(policy, distance):
    threshold = calibration.threshold_of(policy, {"relatives": 0.1, "article": 0.5})
    assert threshold == distance and type(threshold) is float


@pytest.mark.parametrize("policy", ["cautious", "", "0,5", None, "Relatives"])
def test_policy_that_there_is_not_is_named_with_those_there_are(committed, policy):
    with pytest.raises(CalibrationError) as caught:
        committed.threshold(policy)
    assert str(caught.value) == (
        f"There is no threshold {policy!r}; choose one of relatives, strangers, strict, "
        "article, or a cosine distance between 0 and 2."
    )


@pytest.mark.parametrize(
    ("policy", "number"), [(-0.1, "-0.1"), ("2.01", "2.01"), (float("nan"), "nan"), ("inf", "inf")]
)
def test_number_that_is_not_a_cosine_distance_is_refused(committed, policy, number):
    for ask in (committed.threshold, committed.rates):
        with pytest.raises(CalibrationError) as caught:
            ask(policy)
        assert str(caught.value) == f"{number} is not a cosine distance; it lies between 0 and 2."


# --- files --------------------------------------------------------------------------------------


def test_calibration_survives_the_round_trip(example, stored, backbone):
    path, content = stored
    loaded = calibration.load(backbone, path)
    assert loaded.to_dict() == example.to_dict() == content
    assert loaded.slopes == example.slopes and loaded.auc == example.auc
    assert_array_equal(loaded.distances, example.distances)
    for policy in calibration.POLICIES:
        assert loaded.rates(policy) == example.rates(policy)


def test_committed_file_is_saved_as_it_was_loaded(committed, tmp_path):
    calibration.save(committed, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (
        calibration.path_of("dlib-resnet").read_bytes()
    )


def test_calibration_is_looked_for_by_the_name_of_the_backbone(stored, backbone, monkeypatch):
    path, content = stored
    monkeypatch.setattr(settings, "CALIBRATIONS", path.parent)
    assert calibration.path_of("dlib-resnet") == path
    assert calibration.load(backbone).to_dict() == content


def test_backbone_without_a_calibration_says_how_to_make_one():
    with pytest.raises(CalibrationError) as caught:
        calibration.load(backbones.get("facenet512"))
    assert str(caught.value) == (
        "facenet512 has no calibration (facenet512.json), so its distances have no known error "
        "rates; make one with: kincourse calibrate --backbone facenet512 --data ARCHIVE --out "
        "facenet512.json, or name a distance as the threshold."
    )


def test_calibration_of_other_weights_is_refused(stored, backbone):
    path, content = stored
    path.write_text(json.dumps({**content, "fingerprint": "dlib-resnet-centred256-000000000000"}))
    with pytest.raises(CalibrationError) as caught:
        calibration.load(backbone, path)
    assert str(caught.value) == (
        f"{path} was made for dlib-resnet-centred256-000000000000, not {backbone.fingerprint}; "
        "make it anew with: kincourse calibrate --backbone dlib-resnet --data ARCHIVE "
        "--out dlib-resnet.json"
    )


def assert_damaged(path, backbone):
    sentence = f"{path} is not a calibration; make it anew with: kincourse calibrate --backbone"
    with pytest.raises(CalibrationError, match=re.escape(sentence)):
        calibration.load(backbone, path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"text"', "\x00\xff", "[" * 100_000])
def test_file_that_holds_something_else_is_named(backbone, tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_bytes(text.encode("latin-1"))
    assert_damaged(path, backbone)


@pytest.mark.parametrize(
    "name",
    ["backbone", "fingerprint", "thresholds", "distances", "accepted", "equal_error", "slopes"],
)
def test_file_that_lacks_something_is_named(stored, backbone, name):
    path, content = stored
    del content[name]
    path.write_text(json.dumps(content))
    assert_damaged(path, backbone)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("extra", 1),
        ("distances", ["near", "far"]),
        ("distances", [0, 2]),
        ("accepted", {"same": [[0, 0, 0]]}),
        ("auc", []),
        ("auc", {"strangers": {"value": 1}, "relatives": {"value": 1}}),
        ("equal_error", None),
        ("slopes", {"strangers": [1, 2]}),
        ("slopes", {"strangers": [1, 2, 3], "relatives": [1, 2, 3]}),
        ("slopes", {"strangers": "near", "relatives": "near"}),
        ("thresholds", {}),
        ("thresholds", 5),
        ("thresholds", {"relatives": 1, "strangers": 1, "strict": "low", "article": 1}),
        ("thresholds", {"relatives": 1, "strangers": 1, "strict": 10**400, "article": 1}),
    ],
)
def test_file_with_a_wrong_value_is_named(stored, backbone, name, value):
    path, content = stored
    path.write_text(json.dumps({**content, name: value}))
    assert_damaged(path, backbone)


def test_file_with_distances_that_do_not_rise_is_named(stored, backbone):
    path, content = stored
    path.write_text(json.dumps({**content, "distances": content["distances"][::-1]}))
    assert_damaged(path, backbone)


def test_folder_in_the_place_of_a_calibration_is_none(backbone, tmp_path):
    with pytest.raises(CalibrationError, match="dlib-resnet has no calibration"):
        calibration.load(backbone, tmp_path)


# --- the committed one --------------------------------------------------------------------------


def test_committed_calibration_is_of_the_default_backbone_and_of_the_real_data(
    committed, backbone
):
    assert committed.fingerprint == backbone.fingerprint and committed.data == "kaggle"
    assert committed.test_pairs == {"same": 1491, "relatives": 1486, "strangers": 1490}
    assert committed.without_face == 42
    assert set(committed.thresholds) == set(calibration.POLICIES)


def test_committed_rates_are_those_reported(committed):
    rates = committed.rates()
    assert rates.threshold == committed.thresholds["relatives"] == 0.0857
    assert_allclose(values(rates), [0.0758, 0.0262, 0.1487], atol=6e-5)
    assert values(committed.rates("article")) == [0, 1, 1]


def test_committed_curves_rise_within_their_intervals(committed):
    assert committed.distances[[0, -1]].tolist() == [0, 2]
    for kind in protocols.PAIR_KINDS:
        share, low, high = committed.accepted[kind].T
        assert (np.diff(share) >= 0).all() and (share[0], share[-1]) == (0, 1)
        assert ((low >= 0) & (low <= share) & (share <= high) & (high <= 1)).all()
    same, relatives, strangers = (committed.accepted[kind][:, 0] for kind in protocols.PAIR_KINDS)
    assert (same >= relatives).all() and (relatives >= strangers).all()


def test_committed_equal_errors_are_where_its_curves_cross(committed):
    rejected = 1 - committed.accepted["same"][:, 0]
    for kind in OTHERS:
        accepted = committed.accepted[kind][:, 0]
        crossing = np.interp(0, accepted - rejected, accepted)
        assert_allclose(crossing, committed.equal_error[kind].value, atol=0.003)


def test_committed_probabilities_are_of_use(committed):
    assert committed.probability(0.03) > 0.99 and committed.probability(0.15) < 0.1
    assert committed.probability(0.03, "relatives") > 0.95
    assert max(committed.calibration_error.values()) < 0.05
