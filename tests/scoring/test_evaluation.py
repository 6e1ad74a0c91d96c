"""Reports by hand, and submissions that are whole or not written."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

from utils.data import datasets, protocols, synthetic
from utils.errors import NoRoomError, ProtocolError, SubmissionError
from utils.scoring import evaluation, metrics

PAIRS = [
    ("train/F0001/MID1/P1_face1.jpg", "train/F0001/MID2/P1_face2.jpg", 1, 1),
    ("train/F0002/MID1/P2_face1.jpg", "train/F0002/MID2/P3_face1.jpg", 1, 0),
    ("train/F0001/MID1/P1_face1.jpg", "train/F0002/MID1/P2_face1.jpg", 0, 0),
    ("train/F0003/MID1/P4_face1.jpg", "train/F0002/MID2/P3_face1.jpg", 0, 0),
]
SCORES = np.array([0.9, 0.4, 0.6, 0.1])


@pytest.fixture
def protocol():
    return pd.DataFrame(PAIRS, columns=["photo_a", "photo_b", "is_related", "same_photo"])


@pytest.fixture
def to_submit(families):
    """A function that gives the families with other pairs to submit."""

    def build(pairs):
        return dataclasses.replace(
            families, sample=pd.DataFrame({"img_pair": pairs, "is_related": 0})
        )

    return build


# --- reports ------------------------------------------------------------------------------------


def test_report_holds_the_numbers_worked_out_by_hand(protocol):
    report = evaluation.evaluate(
        "by hand", protocol, SCORES, threshold=0.3, probabilities=True, resamples=50
    )
    assert (report.name, report.pairs, report.same_photo_pairs) == ("by hand", 4, 1)
    assert report.threshold == 0.3
    assert (report.auc.value, report.auc_cross_photo.value) == (0.75, 0.5)
    assert report.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert (report.equal_error_rate, report.accuracy) == (0.5, 0.75)
    assert (report.false_accept, report.false_reject) == (0.5, 0)
    assert report.brier == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)
    assert report.calibration_error == pytest.approx((0.1 + 0.6 + 0.6 + 0.1) / 4)


def test_scores_that_are_no_probabilities_are_not_judged_as_such(protocol):
    report = evaluation.evaluate("cosine", protocol, SCORES - 0.5, threshold=0, resamples=20)
    assert report.brier is None and report.calibration_error is None


def test_interval_is_that_over_families(protocol):
    report = evaluation.evaluate("interval", protocol, SCORES, threshold=0.3, resamples=200)
    a, b = protocol["photo_a"].str[6:11].to_numpy(), protocol["photo_b"].str[6:11].to_numpy()
    assert report.auc == metrics.auc_interval(protocol["is_related"], SCORES, a, b, 200)
    assert 0 <= report.auc.low <= report.auc.value <= report.auc.high <= 1


def test_report_is_plain_rounded_json(protocol):
    report = evaluation.evaluate(
        "json", protocol, SCORES / 3, threshold=1 / 3, probabilities=True, resamples=20
    )
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain == report.to_dict()
    assert (plain["threshold"], plain["same_photo_pairs"]) == (0.3333, 1)
    assert plain["auc"]["value"] == 0.75


def test_table_sets_reports_side_by_side(protocol):
    one = evaluation.evaluate("one", protocol, SCORES, 0.3, resamples=20)
    two = evaluation.evaluate("two", protocol, SCORES, 0.3, probabilities=True, resamples=20)
    table = evaluation.table([one, two])
    assert table.index.tolist() == ["one", "two"]
    assert table["accuracy"].tolist() == ["75.0 %"] * 2
    assert table["strangers accepted"].tolist() == ["50.0 %"] * 2
    assert table["kin rejected"].tolist() == ["0.0 %"] * 2
    assert table["calibration error"].tolist() == ["", "0.350"]
    assert table["average precision"].tolist() == ["0.833"] * 2
    assert table["AUC [95 %]"].str.startswith("0.750 [").all()
    assert table["without same-photo pairs"].str.startswith("0.500 [").all()


def test_reports_are_read_back_from_what_was_printed(protocol, tmp_path):
    report = evaluation.evaluate("kept", protocol, SCORES, 0.3, probabilities=True, resamples=20)
    (tmp_path / "kept.json").write_text(json.dumps({"reports": [report.to_dict()]}))
    [again] = evaluation.read_reports(tmp_path / "kept.json")
    assert again.to_dict() == report.to_dict()
    assert evaluation.table([again]).equals(evaluation.table([report]))


def test_hardest_pairs_are_the_likest_strangers_and_the_unlikest_kin(protocol):
    strangers, kin = evaluation.hardest(protocol, SCORES, count=1)
    assert strangers["score"].tolist() == [0.6] and strangers.index.tolist() == [2]
    assert kin["score"].tolist() == [0.4] and kin.index.tolist() == [1]
    strangers, kin = evaluation.hardest(protocol, SCORES)
    assert strangers["score"].tolist() == [0.6, 0.1] and kin["score"].tolist() == [0.4, 0.9]


def test_aucs_count_all_pairs_and_those_of_two_photographs(protocol):
    related, same_photo = protocol["is_related"].to_numpy(), protocol["same_photo"].to_numpy()
    aucs = evaluation.aucs(related, SCORES, same_photo)
    assert aucs == {"auc": 0.75, "auc_cross_photo": 0.5}
    labels, scores = [1, 1, 0, 0, 0], [0.9, 0.2, 0.1, 0.4, 0.5]
    assert evaluation.aucs(labels, scores, [0] * 5)["auc"] == 0.6667


def test_cosine_threshold_is_that_of_the_training_families(families):
    _, held_out = protocols.split_families(families)
    # a direction for each family and one for each photo: a photo has something of both
    names, family = np.unique(families.photos["family"], return_inverse=True)
    of_family, of_photo = np.eye(len(names))[family], np.eye(len(family))
    embeddings = np.hstack([0.9 * of_family, np.sqrt(1 - 0.9**2) * of_photo])
    embeddings[families.photos["family"].isin(held_out)] = np.nan
    # kin have the cosine 0.81, strangers 0
    threshold = evaluation.cosine_threshold(families, embeddings, pairs_each=50)
    assert threshold == pytest.approx(0.81 / 2)


# --- pairs with a relation ----------------------------------------------------------------------


def related(*rows):
    """Pairs and their scores from rows (relation, fold, is_related, score)."""
    table = pd.DataFrame(rows, columns=["relation", "fold", "is_related", "score"])
    return table.drop(columns="score"), table["score"].to_numpy()


@pytest.fixture
def two_relations():
    """In mixed order, two folds each: father-son with thresholds 0.5 and 0.25, brothers apart."""
    return related(
        ("father-son", 1, 1, 0.9),
        ("brothers", 1, 1, 2.0),
        ("father-son", 1, 0, 0.3),
        ("brothers", 1, 0, 1.0),
        ("father-son", 2, 1, 0.4),
        ("father-son", 2, 0, 0.1),
        ("brothers", 2, 1, 2.1),
        ("brothers", 2, 0, 1.1),
    )


def test_each_fold_of_a_relation_is_judged_at_the_threshold_of_its_other_folds(two_relations):
    # Fold 1 of father-son at (0.1 + 0.4) / 2: the strangers' 0.3 is taken for kin. Fold 2 at
    # (0.3 + 0.9) / 2: the kin's 0.4 is not. brothers at 1.6 and 1.5: all right.
    table = evaluation.by_relation(*two_relations)
    assert table.index.tolist() == ["father-son", "brothers", "mean"]
    assert table.index.name == "relation"
    assert table["pairs"].tolist() == [4, 4, 8] and table["pairs"].dtype == np.int64
    assert table["auc"].tolist() == [1, 1, 1]
    assert table["accuracy"].tolist() == [0.5, 1, 0.75]


def test_accuracies_of_folds_count_alike_whatever_their_size():
    rows = [
        ("fs", 1, 1, 5.0),
        ("fs", 1, 0, 1.0),
        ("fs", 2, 1, 5.0),
        ("fs", 2, 0, 1.0),
        ("fs", 3, 1, 1.0),
        ("fs", 3, 1, 1.0),
        ("fs", 3, 1, 1.0),
        ("fs", 3, 0, 1.0),
    ]
    # Folds 1 and 2 at 3 or below: 1; fold 3 at 3: only the stranger is right, 1 of 4.
    table = evaluation.by_relation(*related(*rows))
    assert table.loc["fs", "accuracy"] == pytest.approx((1 + 1 + 1 / 4) / 3)


def test_mean_is_over_relations_not_over_pairs():
    rows = [
        ("fs", 0, 1, 0.9),
        ("fs", 0, 0, 0.8),
        ("ms", 0, 1, 0.9),
        ("ms", 0, 0, 0.1),
        ("ms", 0, 0, 0.2),
        ("ms", 0, 0, 0.95),
    ]
    table = evaluation.by_relation(*related(*rows), threshold=0.9)
    assert table["accuracy"].tolist() == [1, 0.75, 0.875]
    np.testing.assert_allclose(table["auc"], [1, 2 / 3, 5 / 6])
    assert table["pairs"].tolist() == [2, 4, 6]


def test_given_threshold_wins_over_folds(two_relations):
    low = evaluation.by_relation(*two_relations, threshold=0.2)
    assert low["accuracy"].tolist() == [0.75, 0.5, 0.625]
    lowest = evaluation.by_relation(*two_relations, threshold=0)
    assert lowest["accuracy"].tolist() == [0.5, 0.5, 0.5]


def test_row_labels_of_the_pairs_do_not_matter(two_relations):
    pairs, scores = two_relations
    expected = evaluation.by_relation(pairs, scores)
    assert evaluation.by_relation(pairs.set_axis(range(8)[::-1]), scores).equals(expected)


def test_pairs_without_folds_need_a_threshold():
    pairs, scores = related(("brothers", 0, 1, 0.9), ("brothers", 0, 0, 0.1))
    for without in (pairs, pairs.drop(columns="fold")):
        with pytest.raises(
            ProtocolError, match="pairs of brothers have no folds; give a threshold"
        ):
            evaluation.by_relation(without, scores)
        table = evaluation.by_relation(without, scores, threshold=0.5)
        assert table["accuracy"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([("fs", 1, 1, 0.9), ("fs", 2, 1, 0.1)], "pairs of fs lack kin or strangers"),
        (
            [("fs", 1, 1, 0.9), ("fs", 1, 0, 0.2), ("fs", 2, 1, 0.1)],
            "pairs of fs outside fold 1 lack kin or",
        ),
    ],
)
def test_relation_without_kin_or_strangers_is_named(rows, message):
    with pytest.raises(ProtocolError, match=message):
        evaluation.by_relation(*related(*rows))


@pytest.mark.parametrize("scores", [[], [0.5], np.zeros((8, 1)), np.zeros(9)])
def test_other_than_one_score_a_related_pair_is_named(two_relations, scores):
    with pytest.raises(ProtocolError, match=r"scores for 8 pairs; give one a pair"):
        evaluation.by_relation(two_relations[0], scores)


def test_no_related_pairs_are_named():
    with pytest.raises(
        ProtocolError, match=r"\(0,\) scores for 0 pairs; give one a pair, and some pairs"
    ):
        evaluation.by_relation(*related())


# --- pairs to submit ----------------------------------------------------------------------------


def test_pairs_to_submit_are_the_samples_in_order(families):
    pairs = evaluation.submission_pairs(families)
    names = pairs["photo_a"].str[5:] + "-" + pairs["photo_b"].str[5:]
    assert names.tolist() == families.sample["img_pair"].tolist()
    assert all(path.is_file() for path in families.paths(pairs["photo_a"]))


def test_missing_sample_is_named(to_submit, families):
    with pytest.raises(
        SubmissionError, match=f"{families.root} has no sample_submission.csv with pairs"
    ):
        evaluation.submission_pairs(to_submit([]))


@pytest.mark.parametrize("pair", ["face00000.jpg", "face00000.jpg-", "-", "", "a-b-c", np.nan, 7])
def test_malformed_pair_is_named_with_its_line(to_submit, pair):
    with pytest.raises(
        SubmissionError, match="sample_submission.csv, line 3: .* is not a pair such as face"
    ):
        evaluation.submission_pairs(to_submit(["face00000.jpg-face00001.jpg", pair]))


@pytest.mark.parametrize("name", ["face99999.jpg", "../truth/test_labels.csv"])
def test_missing_photo_is_named_with_its_line(to_submit, name):
    with pytest.raises(
        SubmissionError, match=f"sample_submission.csv, line 2: the photo test/{name} is missing"
    ):
        evaluation.submission_pairs(to_submit([f"face00000.jpg-{name}"]))


def test_lines_of_pairs_are_those_of_an_editor_and_the_archive_is_named(families_root, tmp_path):
    for name in ("train", "test", datasets.RELATIONSHIPS):
        (tmp_path / name).symlink_to(families_root / name)
    path = tmp_path / datasets.SAMPLE
    path.write_text("img_pair,is_related\n\n\nface00000.jpg-face00001.jpg,0\n\nhello,0\n")
    with pytest.raises(SubmissionError, match=r"sample_submission\.csv, line 6: 'hello'"):
        evaluation.submission_pairs(datasets.load(tmp_path))
    path.unlink()
    with pytest.raises(SubmissionError, match=rf"{tmp_path} has no sample_submission"):
        evaluation.submission_pairs(datasets.load(tmp_path))


# --- writing a submission -----------------------------------------------------------------------


def test_submission_has_the_header_the_order_and_the_scores(to_submit, tmp_path):
    dataset = to_submit(["b-a", "a-c", "c-b"])
    path = evaluation.write_submission(
        dataset, np.array([1, 0.25, 1 / 3]), tmp_path / "new" / "face_vgg.csv"
    )
    assert path.read_bytes() == b"img_pair,is_related\nb-a,1.000000\na-c,0.250000\nc-b,0.333333\n"


def test_submission_keeps_six_decimals_of_every_score(to_submit, tmp_path):
    scores = np.random.default_rng(0).random(30).astype(np.float32)
    scores[:3] = 0, 1, 1e-7
    dataset = to_submit([f"{number}-x" for number in range(30)])
    written = pd.read_csv(evaluation.write_submission(dataset, scores, tmp_path / "s.csv"))
    assert written["img_pair"].tolist() == dataset.sample["img_pair"].tolist()
    np.testing.assert_allclose(written["is_related"], scores, atol=6e-7)


@pytest.mark.parametrize(
    "scores, message",
    [
        ([0.5], r"\(1,\) scores for 2 pairs; give one a pair"),
        ([0.5, 0.5, 0.5], r"\(3,\) scores for 2 pairs"),
        ([[0.5], [0.5]], r"\(2, 1\) scores for 2 pairs"),
        ([0.5, np.nan], "score of c-d is nan; .* between 0 and 1"),
        ([0.5, 1.01], "The score of c-d is 1.01"),
        ([-0.01, 0.5], "The score of a-b is -0.01"),
        ([0.5, np.inf], "The score of c-d is inf"),
    ],
)
def test_wrong_scores_are_named_and_the_old_file_survives(to_submit, tmp_path, scores, message):
    path = tmp_path / "face_vgg.csv"
    path.write_text("old")
    with pytest.raises(SubmissionError, match=message):
        evaluation.write_submission(to_submit(["a-b", "c-d"]), scores, path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_write_that_fails_halfway_leaves_the_old_file(to_submit, tmp_path, monkeypatch):
    def full_disk(table, path, **options):
        path.write_text("img_pair,is_rel")
        raise OSError(28, "No space left on device")

    path = tmp_path / "face_vgg.csv"
    path.write_text("old")
    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(NoRoomError, match=re.escape(f"There is no room in {tmp_path}: ")):
        evaluation.write_submission(to_submit(["a-b"]), [0.5], path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# --- scoring a submission -----------------------------------------------------------------------


def test_perfect_and_reversed_submissions_score_one_and_zero(families, tmp_path):
    truth = families.root / synthetic.TRUTH
    labels = pd.read_csv(truth).set_index("img_pair")["is_related"]
    answers = labels[families.sample["img_pair"]].to_numpy()
    for scores, auc in ((answers, 1), (1 - answers, 0), (answers * 0, 0.5)):
        path = evaluation.write_submission(families, scores, tmp_path / "s.csv")
        assert evaluation.score_submission(path, truth) == auc


def test_order_of_the_rows_does_not_matter(tmp_path):
    (tmp_path / "s.csv").write_text("img_pair,is_related\na-b,0.1\nc-d,0.9\ne-f,0.2\n")
    (tmp_path / "t.csv").write_text("img_pair,is_related\nc-d,1\ne-f,0\na-b,0\n")
    assert evaluation.score_submission(tmp_path / "s.csv", tmp_path / "t.csv") == 1


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimg_pair;is_related\r\na-b;0.1\r\nc-d;0.9\r\ne-f;0.2\r\n;\r\n",
        '"","img_pair","is_related"\n"1","a-b",0.1\n"2","c-d",0.9\n"3","e-f",0.2\n',
        "IMG_PAIR\tIS_RELATED\na-b\t1e-1\nc-d\t9e-1\ne-f\t2e-1\n",
    ],
    ids=["Excel", "R", "tabs"],
)
def test_submission_is_read_in_the_dialects_of_other_programs(tmp_path, text):
    (tmp_path / "s.csv").write_text(text, encoding="utf-8", newline="")
    (tmp_path / "t.csv").write_text("img_pair,is_related\nc-d,1\ne-f,0\na-b,0\n")
    assert evaluation.score_submission(tmp_path / "s.csv", tmp_path / "t.csv") == 1


@pytest.mark.parametrize(
    "rows", ["a-b,0.1\n", "a-b,0.1\nc-d,0.2\nx-y,0.3\n", "a-b,0.1\na-b,0.2\nc-d,0.1\n"]
)
def test_other_pairs_than_the_answers_are_named(tmp_path, rows):
    (tmp_path / "s.csv").write_text("img_pair,is_related\n" + rows)
    (tmp_path / "t.csv").write_text("img_pair,is_related\nc-d,1\na-b,0\n")
    with pytest.raises(SubmissionError, match=r"s\.csv and .*t\.csv do not list the same pairs"):
        evaluation.score_submission(tmp_path / "s.csv", tmp_path / "t.csv")


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "is not a CSV file with img_pair and is_related; check the path"),
        ("", "is not a CSV file with img_pair"),
        ("pair,score\na-b,1\n", "is not a CSV file with img_pair"),
        ("img_pair,is_related\na-b,yes\n", "is not a CSV file"),
        ("img_pair,is_related\na-b,0.5\nc-d,\n", "lacks the score of c-d; write it again"),
    ],
)
def test_file_that_is_no_submission_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "s.csv").write_text(content)
    (tmp_path / "t.csv").write_text("img_pair,is_related\nc-d,1\na-b,0\n")
    with pytest.raises(SubmissionError, match=rf"s\.csv {message}"):
        evaluation.score_submission(tmp_path / "s.csv", tmp_path / "t.csv")
