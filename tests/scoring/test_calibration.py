"""Thresholds balance where they are chosen, rates count what they say, and no file is believed blindly."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils import settings
from utils.data import datasets, pairs
from utils.errors import CalibrationError
from utils.faces import backbones
from utils.faces.embeddings import embed_photos
from utils.scoring import calibration, metrics
from utils.scoring.metrics import Interval, cosine

EACH = 60


@pytest.fixture(scope="module")
def made(families, backbone):
    """A calibration on the synthetic families, with few pairs and few resamples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "identity_protocol_for", lambda dataset: pairs.make_identity_protocol(
            dataset, datasets.split_families(dataset)[1], EACH))
        return calibration.calibrate(families, backbone, EACH, resamples=50, progress=False)


@pytest.fixture(scope="module")
def tables(families, backbone):
    """The pairs of the training and of the held-out families, each with a distance by hand."""
    found = {}
    for name, part in zip(("training", "test"), datasets.split_families(families), strict=True):
        table = pairs.make_identity_protocol(families, part, EACH)
        a, b = (embed_photos(backbone, families.paths(table[column]), False, aligned=True)
                for column in ("photo_a", "photo_b"))
        found[name] = table.assign(distance=1 - cosine(a, b))
    return found


@pytest.fixture
def stored(made, tmp_path):
    """The calibration as a file, and its content."""
    calibration.save(made, tmp_path / "dlib-resnet.json")
    return tmp_path / "dlib-resnet.json", json.loads(json.dumps(made.to_dict()))


@pytest.fixture(scope="module")
def committed(backbone):
    return calibration.load(backbone)


def of(table, kind):
    """Distances of the pairs of a kind."""
    return table.loc[table["kind"] == kind, "distance"].to_numpy()


# --- made ---------------------------------------------------------------------------------------


def test_calibration_says_what_it_was_made_of(made, backbone, tables):
    assert (made.backbone, made.fingerprint, made.data) == ("dlib-resnet", backbone.fingerprint, "synthetic")
    assert made.training_pairs == {kind: EACH for kind in pairs.KINDS}
    assert made.test_pairs == tables["test"]["kind"].value_counts().to_dict()
    assert made.without_face == 0


@pytest.mark.parametrize("policy", calibration.OTHERS)
def test_threshold_accepts_as_many_others_as_it_rejects_of_one_person(made, tables, policy):
    threshold, training = made.thresholds[policy], tables["training"]
    rejected, accepted = (of(training, "same") > threshold).mean(), (of(training, policy) <= threshold).mean()
    assert abs(rejected - accepted) <= 1.5 / EACH
    assert threshold == round(threshold, 4)


def test_thresholds_are_those_of_the_policies(made, tables):
    assert set(made.thresholds) == set(calibration.POLICIES) and calibration.DEFAULT in made.thresholds
    assert made.thresholds["article"] == 0.5 == calibration.ARTICLE
    assert made.thresholds["strict"] == pytest.approx(np.quantile(of(tables["training"], "strangers"), 0.001),
                                                      abs=1e-4)
    assert 0 < made.thresholds["relatives"] < made.thresholds["strangers"] < 0.5


def test_thresholds_by_hand():
    same, relatives, strangers = [1, 2, 3, 6], [2.5, 5, 7, 8], [4, 9, 10, 11]
    table = pd.DataFrame({"kind": np.repeat(pairs.KINDS, 4),
                          "distance": np.array(same + relatives + strangers) / 10})
    chosen = calibration.choose_thresholds(table)
    for policy in calibration.OTHERS:
        part = table[table["kind"] == policy]["distance"]
        assert (part <= chosen[policy]).sum() == 1 == (np.array(same) / 10 > chosen[policy]).sum()
    assert chosen["strict"] == round(0.4 + 0.003 * 0.5, 4) and chosen["article"] == 0.5


@pytest.mark.parametrize("policy", calibration.POLICIES)
def test_rates_of_a_policy_are_those_counted_by_hand(made, tables, policy):
    rates, threshold = made.rates(policy), made.thresholds[policy]
    assert rates.threshold == threshold
    counted = [(of(tables["test"], "same") > threshold).mean(),
               *((of(tables["test"], kind) <= threshold).mean() for kind in calibration.OTHERS)]
    found = [rates.false_reject, rates.strangers_accepted, rates.relatives_accepted]
    assert_allclose([rate.value for rate in found], counted, atol=6e-5)  # kept to four decimals
    for rate in found:
        assert 0 <= rate.low <= rate.value <= rate.high <= 1


def test_article_accepts_everybody(made):
    rates = made.rates("article")
    assert (rates.false_reject.value, rates.strangers_accepted.value, rates.relatives_accepted.value) == (0, 1, 1)


def test_rates_at_any_distance_rise_with_it_and_are_close_to_those_counted(made, tables):
    distances = np.linspace(0, 2, 401)
    rates = [made.rates(float(distance)) for distance in distances]
    accepted = {"same": [1 - rate.false_reject.value for rate in rates],
                "strangers": [rate.strangers_accepted.value for rate in rates],
                "relatives": [rate.relatives_accepted.value for rate in rates]}
    for kind, shares in accepted.items():
        assert (np.diff(shares) >= 0).all() and shares[0] == 0 and shares[-1] == 1
        counted = [(of(tables["test"], kind) <= distance).mean() for distance in distances]
        assert_allclose(shares, counted, atol=0.12)


def test_rate_between_two_measured_distances_lies_between_theirs(made):
    low, high = made.distances[20:22]
    rates = [made.rates(float(distance)).relatives_accepted for distance in (low, (low + high) / 2, high)]
    assert rates[1].value == pytest.approx((rates[0].value + rates[2].value) / 2)


def test_intervals_of_false_rejects_are_the_right_way_round(made):
    rates = [made.rates(float(distance)).false_reject for distance in made.distances]
    between = [rate for rate in rates if 0.1 < rate.value < 0.9]
    assert len(between) > 5 and all(0 <= rate.low < rate.value < rate.high <= 1 for rate in between)


def test_equal_error_and_area_are_those_of_the_test_pairs(made, tables):
    for other in calibration.OTHERS:
        part = tables["test"][tables["test"]["kind"].isin(["same", other])]
        labels = part["kind"] == "same"
        for found, by_hand in ((made.auc, metrics.roc_auc), (made.equal_error, metrics.equal_error_rate)):
            assert found[other].value == pytest.approx(by_hand(labels, -part["distance"]), abs=6e-5)
            assert 0 <= found[other].low <= found[other].value <= found[other].high <= 1
    assert made.auc["strangers"].value > made.auc["relatives"].value > 0.8


@pytest.mark.parametrize("against", calibration.OTHERS)
def test_probability_falls_with_the_distance_and_stays_a_probability(made, against):
    found = made.probability(np.linspace(0, 2, 500), against)
    assert (np.diff(found) <= 0).all() and found[0] > 0.999 and found[-1] < 0.01
    assert ((found > 0) & (found < 1)).all()
    assert made.probability(0.07, against) == pytest.approx(float(made.probability(np.array([0.07]), against)[0]))


def test_probability_against_strangers_is_the_default_and_above_that_against_relatives(committed):
    distances = np.linspace(0.01, 0.12, 50)
    assert_array_equal(committed.probability(distances), committed.probability(distances, "strangers"))
    assert (committed.probability(distances) > committed.probability(distances, "relatives")).all()


@pytest.mark.parametrize("against", calibration.OTHERS)
def test_probability_is_about_the_share_that_is_one_person(made, tables, against):
    part = tables["test"][tables["test"]["kind"].isin(["same", against])]
    claimed, labels = made.probability(part["distance"].to_numpy(), against), part["kind"] == "same"
    error = metrics.calibration_error(labels, claimed)
    assert made.calibration_error[against] == round(error, 4) < 0.2
    assert metrics.brier(labels, claimed) < 0.15


def test_distances_are_those_by_hand_and_pairs_without_a_face_are_left_out():
    vectors = pd.DataFrame([[1, 0], [0, 2], [3, 3], [np.nan, np.nan]], index=list("abcd"), dtype=np.float32)
    table = pd.DataFrame({"photo_a": list("aaad"), "photo_b": list("bdcc"), "kind": pairs.KINDS + ("same",)})
    found = calibration.with_distances(table, vectors)
    assert found["photo_b"].tolist() == ["b", "c"] and found.index.tolist() == [0, 1]
    assert_allclose(found["distance"], [1, 1 - np.sqrt(0.5)], atol=1e-6)


def test_photos_without_a_face_are_counted_and_their_pairs_left_out(families, backbone, monkeypatch):
    def embed(backbone, paths, progress, aligned):
        rows = embed_photos(backbone, paths, progress, aligned)
        rows[::9] = np.nan
        blank.extend(rows[::9])
        return rows

    blank = []
    monkeypatch.setattr(calibration, "embed_photos", embed)
    monkeypatch.setattr(pairs, "identity_protocol_for", lambda dataset: pairs.make_identity_protocol(
        dataset, datasets.split_families(dataset)[1], EACH))
    found = calibration.calibrate(families, backbone, EACH, resamples=5, progress=False)
    assert found.without_face == len(blank) > 10
    assert all(EACH / 2 < count < EACH for count in found.training_pairs.values())
    assert all(np.isfinite(table).all() for table in found.accepted.values())


# --- for people ---------------------------------------------------------------------------------


def test_table_has_a_row_a_policy_with_the_rates_in_percent(made):
    table = made.table()
    assert table.index.tolist() == list(made.thresholds)
    rates = made.rates("relatives")
    assert table.loc["relatives", "threshold"] == f"{rates.threshold:.4f}"
    assert table.loc["relatives", "same person rejected"] == (
        f"{100 * rates.false_reject.value:.1f} % [{100 * rates.false_reject.low:.1f}, "
        f"{100 * rates.false_reject.high:.1f}]")
    assert table.loc["article", "strangers accepted"] == "100.0 % [100.0, 100.0]"


@pytest.mark.parametrize(("share", "words"), [
    (0.5, "50.0 %"), (0.0764, "7.6 %"), (0.001, "0.1 %"), (0.00099, "less than 0.1 %"), (0.0, "less than 0.1 %"),
    (0.999, "99.9 %"), (0.9991, "more than 99.9 %"), (1.0, "more than 99.9 %")])
def test_share_for_people_is_never_a_certain_one(share, words):
    assert calibration.percent(share) == words


def test_rates_are_exported_in_plain_rounded_numbers():
    rates = calibration.Rates(0.123456, *(Interval(np.float64(value), 0.0, 1.0) for value in (0.11111, 0.2, 0.3)))
    assert json.loads(json.dumps(rates.to_dict())) == {
        "threshold": 0.1235, "false_reject": {"value": 0.1111, "low": 0, "high": 1},
        "strangers_accepted": {"value": 0.2, "low": 0, "high": 1},
        "relatives_accepted": {"value": 0.3, "low": 0, "high": 1}}


# --- thresholds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "distance"), [
    ("relatives", 0.1), ("article", 0.5), (0.25, 0.25), ("0.25", 0.25), (0, 0), ("2", 2), (np.float32(1), 1)])
def test_policy_stands_for_its_distance_and_a_number_for_itself(policy, distance):
    found = calibration.threshold_of(policy, {"relatives": 0.1, "article": 0.5})
    assert found == distance and type(found) is float


@pytest.mark.parametrize("policy", ["cautious", "", "0,5", None, "Relatives"])
def test_policy_that_there_is_not_is_named_with_those_there_are(made, policy):
    with pytest.raises(CalibrationError) as caught:
        made.threshold(policy)
    assert str(caught.value) == (f"There is no threshold {policy!r}; choose one of relatives, strangers, strict, "
                                 "article, or a cosine distance between 0 and 2.")


@pytest.mark.parametrize(("policy", "number"), [(-0.1, "-0.1"), ("2.01", "2.01"), (float("nan"), "nan"),
                                                ("inf", "inf")])
def test_number_that_is_no_cosine_distance_is_refused(made, policy, number):
    for ask in (made.threshold, made.rates):
        with pytest.raises(CalibrationError) as caught:
            ask(policy)
        assert str(caught.value) == f"{number} is no cosine distance; it lies between 0 and 2."


# --- files --------------------------------------------------------------------------------------


def test_calibration_survives_the_round_trip(made, stored, backbone):
    path, content = stored
    found = calibration.load(backbone, path)
    assert found.to_dict() == made.to_dict() and content == json.loads(path.read_text())
    for field in dataclasses.fields(made):
        kept, again = getattr(made, field.name), getattr(found, field.name)
        if field.name == "distances":
            assert_array_equal(again, kept)
        elif field.name == "accepted":
            for kind in pairs.KINDS:
                assert_array_equal(again[kind], kept[kind])
        else:
            assert again == kept
    calibration.save(found, path.with_name("again.json"))
    assert json.loads(path.with_name("again.json").read_text()) == content


def test_loaded_calibration_gives_the_same_answers(made, stored, backbone):
    found = calibration.load(backbone, stored[0])
    for policy in calibration.POLICIES:
        assert found.threshold(policy) == made.threshold(policy)
        assert found.rates(policy) == made.rates(policy)
    distances = np.linspace(0, 2, 50)
    assert_array_equal(found.probability(distances, "relatives"), made.probability(distances, "relatives"))


def test_calibration_is_looked_for_by_the_name_of_the_backbone(stored, backbone, monkeypatch):
    monkeypatch.setattr(settings, "CALIBRATIONS", stored[0].parent)
    assert calibration.path_of("dlib-resnet") == stored[0]
    assert json.loads(json.dumps(calibration.load(backbone).to_dict())) == stored[1]


def test_backbone_without_a_calibration_says_how_to_make_one():
    with pytest.raises(CalibrationError) as caught:
        calibration.load(backbones.get("facenet"))
    assert str(caught.value) == (
        "facenet has no calibration (facenet.json), so its distances have no known error rates; make one with: "
        "python -m utils calibrate --backbone facenet --data ARCHIVE --out facenet.json, or name a distance as "
        "the threshold.")


def test_calibration_of_other_weights_is_refused(stored, backbone):
    path, content = stored
    path.write_text(json.dumps({**content, "fingerprint": "dlib-resnet-centred256-000000000000"}))
    with pytest.raises(CalibrationError) as caught:
        calibration.load(backbone, path)
    assert str(caught.value) == (
        f"{path} was made for dlib-resnet-centred256-000000000000, not {backbone.fingerprint}; make it anew with: "
        "python -m utils calibrate --backbone dlib-resnet --data ARCHIVE --out dlib-resnet.json")


@pytest.mark.parametrize("spoil", [
    lambda content: "", lambda content: "{", lambda content: "[]", lambda content: "7", lambda content: "null",
    lambda content: "\x00\xff",
    *(lambda content, name=name: {key: value for key, value in content.items() if key != name}
      for name in ("backbone", "fingerprint", "thresholds", "distances", "accepted", "equal_error", "slopes")),
    lambda content: {**content, "extra": 1},
    lambda content: {**content, "distances": ["near", "far"]},
    lambda content: {**content, "accepted": {"same": content["accepted"]["same"]}},
    lambda content: {**content, "auc": {"strangers": {"value": 1}}},
    lambda content: {**content, "slopes": {"strangers": [1, 2]}},
    lambda content: {**content, "slopes": {other: [1, 2, 3] for other in calibration.OTHERS}},
    lambda content: {**content, "slopes": {other: "near" for other in calibration.OTHERS}},
    lambda content: "[" * 100_000, lambda content: {**content, "auc": []},
    lambda content: {**content, "equal_error": None}, lambda content: {**content, "thresholds": {}},
    lambda content: {**content, "thresholds": 5},
    lambda content: {**content, "thresholds": {**content["thresholds"], "strict": "low"}},
    lambda content: {**content, "accepted": {**content["accepted"], "same": content["accepted"]["same"][:5]}},
    lambda content: {**content, "distances": content["distances"][::-1]}])
def test_damaged_calibration_is_named(stored, backbone, spoil):
    path, content = stored
    spoilt = spoil(content)
    path.write_bytes((spoilt if isinstance(spoilt, str) else json.dumps(spoilt)).encode("latin-1"))
    with pytest.raises(CalibrationError, match=re.escape(f"{path} is no calibration; make it anew with: python -m "
                                                         "utils calibrate --backbone dlib-resnet")):
        calibration.load(backbone, path)


def test_folder_in_the_place_of_a_calibration_is_none(backbone, tmp_path):
    with pytest.raises(CalibrationError, match="dlib-resnet has no calibration"):
        calibration.load(backbone, tmp_path)


# --- the committed one --------------------------------------------------------------------------


def test_committed_calibration_is_of_the_default_backbone_and_of_the_real_data(committed, backbone):
    assert committed.fingerprint == backbone.fingerprint and committed.data == "kaggle"
    assert committed.test_pairs == {"same": 1491, "relatives": 1486, "strangers": 1490}
    assert committed.without_face == 42
    assert set(committed.thresholds) == set(calibration.POLICIES)


def test_committed_figures_are_those_reported(committed):
    rates = committed.rates()
    assert rates.threshold == committed.thresholds["relatives"] == 0.0857
    assert [round(rate.value, 4) for rate in (rates.false_reject, rates.strangers_accepted,
                                              rates.relatives_accepted)] == [0.0758, 0.0262, 0.1487]
    article = committed.rates("article")
    assert (article.false_reject.value, article.strangers_accepted.value, article.relatives_accepted.value) == (
        0, 1, 1)


def test_committed_curves_rise_within_their_intervals(committed):
    assert (np.diff(committed.distances) > 0).all() and committed.distances[[0, -1]].tolist() == [0, 2]
    for kind in pairs.KINDS:
        value, low, high = committed.accepted[kind].T
        assert len(value) == len(committed.distances)
        assert (np.diff(value) >= 0).all() and (value[0], value[-1]) == (0, 1)
        assert (low <= value).all() and (value <= high).all() and (0 <= low).all() and (high <= 1).all()
    same, relatives, strangers = (committed.accepted[kind][:, 0] for kind in pairs.KINDS)
    assert (same >= relatives).all() and (relatives >= strangers).all()


def test_committed_equal_errors_are_where_its_curves_cross(committed):
    for other in calibration.OTHERS:
        rejected, accepted = 1 - committed.accepted["same"][:, 0], committed.accepted[other][:, 0]
        gap = accepted - rejected
        crossing = np.interp(0, gap, accepted)
        assert_allclose(crossing, committed.equal_error[other].value, atol=0.003)


def test_committed_probabilities_are_of_use(committed):
    assert committed.probability(0.03) > 0.99 and committed.probability(0.15) < 0.1
    assert committed.probability(0.03, "relatives") > 0.95
    assert max(committed.calibration_error.values()) < 0.05
