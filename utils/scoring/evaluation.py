"""Reports with intervals over families or by relation, the hardest errors, Kaggle submissions."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data import protocols, tables
from ..data.datasets import Dataset
from ..errors import DatasetError, ProtocolError, SubmissionError
from ..files import atomic, read_json
from . import metrics
from .metrics import Interval, cosine

SUBMISSION = "face_vgg.csv"  # the published submission's name


@dataclass(frozen=True)
class Report:
    """How well scores tell kin from strangers on a protocol. Rates and shares are in [0, 1].

    Attributes:
        name: of what gave the scores.
        pairs: number of pairs, of kin and of strangers together.
        same_photo_pairs: how many of them were cut from one photograph.
        auc: area under the ROC curve, over all pairs.
        auc_cross_photo: the same without the pairs cut from one photograph.
        average_precision: area under the precision–recall curve.
        equal_error_rate: error rate where false accepts and false rejects balance.
        threshold: chosen elsewhere, on training families; the next three are measured at it.
        accuracy: share of pairs on the right side.
        false_accept: share of strangers that are accepted.
        false_reject: share of kin that are rejected.
        brier: mean squared error of scores that are probabilities, else None.
        calibration_error: expected calibration error of such scores, else None.
    """

    name: str
    pairs: int
    same_photo_pairs: int
    auc: Interval
    auc_cross_photo: Interval
    average_precision: float
    equal_error_rate: float
    threshold: float
    accuracy: float
    false_accept: float
    false_reject: float
    brier: float | None = None
    calibration_error: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, rounded to four decimals."""
        plain = asdict(self)
        for name, value in plain.items():
            if isinstance(value, float):
                plain[name] = round(value, 4)
        plain["auc"] = self.auc.to_dict()
        plain["auc_cross_photo"] = self.auc_cross_photo.to_dict()
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Report":
        """The report that :meth:`to_dict` gave."""
        values = dict(plain)
        for name in ("auc", "auc_cross_photo"):
            values[name] = Interval(**plain[name])
        return cls(**values)


def evaluate(
    name: str,
    protocol: pd.DataFrame,
    scores: np.ndarray,
    threshold: float,
    probabilities: bool = False,
    resamples: int = 1000,
) -> Report:
    """Report how well scores tell kin from strangers on a protocol.

    Args:
        name: of what gave the scores, for tables.
        protocol: pairs as :func:`protocols.make_protocol` gives them.
        scores: ``(pairs,)``, higher means more likely kin.
        threshold: from training families, never from these pairs; at or above it means kin.
        probabilities: whether the scores claim to be probabilities of kin.
        resamples: of the families, for the intervals.
    """
    from sklearn.metrics import average_precision_score

    # one value a pair: (pairs,)
    labels = protocol["is_related"].to_numpy()
    cross = protocol["same_photo"].to_numpy() == 0
    a, b = protocols.pair_families(protocol)

    false_accept, false_reject = metrics.error_rates(labels, scores, threshold)
    return Report(
        name=name,
        pairs=len(labels),
        same_photo_pairs=int((~cross).sum()),
        auc=metrics.auc_interval(labels, scores, a, b, resamples),
        auc_cross_photo=metrics.auc_interval(
            labels[cross], scores[cross], a[cross], b[cross], resamples
        ),
        average_precision=float(average_precision_score(labels, scores)),
        equal_error_rate=metrics.equal_error_rate(labels, scores),
        threshold=float(threshold),
        accuracy=metrics.accuracy(labels, scores, threshold),
        false_accept=false_accept,
        false_reject=false_reject,
        brier=metrics.brier(labels, scores) if probabilities else None,
        calibration_error=metrics.calibration_error(labels, scores) if probabilities else None,
    )


def aucs(labels: np.ndarray, scores: np.ndarray, same_photo: np.ndarray) -> dict[str, float]:
    """ROC AUC over all pairs, and without the pairs cut from one photograph.

    Args:
        labels: ``(pairs,)``, 1 for kin, 0 for strangers.
        scores: ``(pairs,)``, higher means more likely kin.
        same_photo: ``(pairs,)``, 1 where both faces were cut from one photograph.

    Returns:
        ``{"auc": ..., "auc_cross_photo": ...}``, rounded to four decimals.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    cross = np.asarray(same_photo) == 0
    return {
        "auc": round(metrics.roc_auc(labels, scores), 4),
        "auc_cross_photo": round(metrics.roc_auc(labels[cross], scores[cross]), 4),
    }


def table(reports: list[Report]) -> pd.DataFrame:
    """Reports side by side, one row each, for people."""
    rows = []
    for report in reports:
        error = report.calibration_error  # None of scores that are not probabilities
        rows.append(
            {
                "model": report.name,
                "AUC [95 %]": str(report.auc),
                "without same-photo pairs": str(report.auc_cross_photo),
                "average precision": f"{report.average_precision:.3f}",
                "accuracy": f"{100 * report.accuracy:.1f} %",
                "strangers accepted": f"{100 * report.false_accept:.1f} %",
                "kin rejected": f"{100 * report.false_reject:.1f} %",
                "calibration error": "" if error is None else f"{error:.3f}",
            }
        )
    return pd.DataFrame(rows).set_index("model")


def read_reports(path: str | Path) -> list[Report]:
    """The reports in a file that ``kincourse evaluate --json`` printed."""
    return [Report.from_dict(plain) for plain in read_json(path)["reports"]]


def hardest(
    protocol: pd.DataFrame, scores: np.ndarray, count: int = 6
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs that scores get most wrong.

    Args:
        protocol: pairs with is_related.
        scores: ``(pairs,)``, higher means more likely kin.
        count: pairs of either kind, at most.

    Returns:
        (strangers with the highest scores, kin with the lowest), each with a ``score`` column.
    """
    scored = protocol.assign(score=scores)
    strangers, kin = scored[scored["is_related"] == 0], scored[scored["is_related"] == 1]
    return strangers.nlargest(count, "score"), kin.nsmallest(count, "score")


def cosine_threshold(dataset: Dataset, embeddings: np.ndarray, pairs_each: int = 3000) -> float:
    """The cosine of embeddings that best parts kin from strangers, on training families.

    Args:
        dataset: photos and kin.
        embeddings: ``(photos, d)``, a row for each of ``dataset.photos``; those of held-out
            families are not looked at.
        pairs_each: pairs of kin, and as many of strangers, to choose it on.
    """
    families = list(protocols.folds_for(dataset)["family"])
    protocol = protocols.make_protocol(dataset, families, pairs_each)
    a, b = protocols.photo_rows(protocol, dataset)
    labels = protocol["is_related"].to_numpy()
    return metrics.best_threshold(labels, cosine(embeddings[a], embeddings[b]))


# --- pairs with a relation ----------------------------------------------------------------------


def by_relation(
    pairs: pd.DataFrame, scores: np.ndarray, threshold: float | None = None
) -> pd.DataFrame:
    """How well scores tell kin from strangers within each relation, as in KinFaceW's papers.

    With ``threshold`` the accuracy is that at it. Without, it follows KinFaceW's protocol: each
    fold of a relation is judged at the threshold that is best on the relation's other folds, and
    the folds' accuracies are averaged. Best means balanced accuracy, so a fold with more strangers
    than kin does not pull the threshold; KinFaceW's folds have as many of both, where it is
    accuracy.

    Sources: Lu, Zhou, Tan, Shang and Zhou, TPAMI 36, 2014, for the folds; Robinson et al., The 4th
    Edition of RFIW, FG 2020, for one threshold over all relations (the average there is over
    pairs, so compare that with :func:`metrics.accuracy` over all of them).

    Args:
        pairs: is_related (0 or 1), relation and, without ``threshold``, fold; as in
            :class:`relations.RelationPairs`.
        scores: ``(pairs,)``, row by row, higher means more likely kin.
        threshold: chosen on other pairs; a score at or above it means kin.

    Returns:
        One row a relation, in order of appearance: pairs (int), auc and accuracy (float in
        [0, 1]). A last row ``mean`` holds the sum of the pairs and the plain mean of the others.

    Raises:
        ProtocolError: not one score a pair, a relation without kin or strangers, or, without
            ``threshold``, folds that are not there or that hold all its kin or all its strangers.
    """
    scores = np.asarray(scores)
    if scores.shape != (len(pairs),) or not len(pairs):
        raise ProtocolError(
            f"{scores.shape} scores for {len(pairs)} pairs; give one a pair, and some pairs."
        )
    # one row a relation
    rows = {}
    for relation in pairs["relation"].unique():
        inside = (pairs["relation"] == relation).to_numpy()
        rows[relation] = _relation_row(pairs[inside], scores[inside], threshold)
    # every relation counts alike in the last row, however many pairs it has
    areas = [row["auc"] for row in rows.values()]
    accuracies = [row["accuracy"] for row in rows.values()]
    rows["mean"] = {
        "pairs": len(pairs),
        "auc": float(np.mean(areas)),
        "accuracy": float(np.mean(accuracies)),
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("relation")


def _relation_row(
    pairs: pd.DataFrame, scores: np.ndarray, threshold: float | None
) -> dict[str, float]:
    """Number of pairs, AUC and accuracy of one relation."""
    labels = pairs["is_related"].to_numpy()
    _need_both(labels, pairs["relation"].iloc[0])
    if threshold is None:
        accuracy = _fold_accuracy(pairs, scores)
    else:
        accuracy = metrics.accuracy(labels, scores, threshold)
    return {"pairs": len(pairs), "auc": metrics.roc_auc(labels, scores), "accuracy": accuracy}


def _fold_accuracy(pairs: pd.DataFrame, scores: np.ndarray) -> float:
    """Accuracy of one relation, each fold at the best threshold of the others, folds averaged."""
    relation = pairs["relation"].iloc[0]
    if "fold" not in pairs or pairs["fold"].nunique() < 2:
        raise ProtocolError(
            f"The pairs of {relation} have no folds; give a threshold chosen on other pairs."
        )
    # one value a pair: (pairs,)
    labels, folds = pairs["is_related"].to_numpy(), pairs["fold"].to_numpy()
    accuracies = []
    for fold in np.unique(folds):
        inside = folds == fold
        _need_both(labels[~inside], f"{relation} outside fold {fold}")
        threshold = metrics.best_threshold(labels[~inside], scores[~inside])
        accuracies.append(metrics.accuracy(labels[inside], scores[inside], threshold))
    return float(np.mean(accuracies))


def _need_both(labels: np.ndarray, name: str) -> None:
    """ProtocolError unless there are kin and strangers."""
    if len(np.unique(labels)) < 2:
        raise ProtocolError(f"The pairs of {name} lack kin or strangers; add pairs of both.")


# --- Kaggle -------------------------------------------------------------------------------------


def submission_pairs(dataset: Dataset) -> pd.DataFrame:
    """The two photos of each pair to submit, in the sample's order.

    Returns:
        photo_a and photo_b, paths relative to the data's root.

    Raises:
        SubmissionError: no sample submission, a malformed pair, or a photo that is not there.
    """
    if dataset.sample.empty:
        raise SubmissionError(
            f"{dataset.source or dataset.root} has no sample_submission.csv with pairs to score."
        )
    photos = set(dataset.test_photos)
    # a table that was made by a program has no lines of its own; line 1 is the header
    pairs = dataset.sample["img_pair"]
    lines = dataset.sample.attrs.get("lines") or range(2, len(pairs) + 2)
    rows = []
    for line, pair in zip(lines, pairs, strict=True):
        names = _names_of(pair, line)
        for name in names:
            if name not in photos:
                raise SubmissionError(
                    f"sample_submission.csv, line {line}: the photo test/{name} is missing."
                )
        rows.append([f"test/{name}" for name in names])
    return pd.DataFrame(rows, columns=["photo_a", "photo_b"])


def _names_of(pair: object, line: int) -> list[str]:
    """The names of a pair's two photos."""
    names = str(pair).split("-")
    if len(names) != 2 or not all(names):
        raise SubmissionError(
            f"sample_submission.csv, line {line}: {pair!r} is not a pair such as "
            "face00000.jpg-face00001.jpg."
        )
    return names


def write_submission(dataset: Dataset, scores: np.ndarray, path: str | Path = SUBMISSION) -> Path:
    """Write ``img_pair,is_related``, one probability a pair in the sample's order, atomically.

    Args:
        dataset: whose sample submission names the pairs.
        scores: ``(pairs,)`` in [0, 1], probabilities of kin.
        path: the CSV file to write.

    Returns:
        The path of the file.

    Raises:
        SubmissionError: not one score a pair, NaN, or outside [0, 1]; an old file stays as it was.
    """
    scores, path = np.asarray(scores, np.float64), Path(path)
    if scores.shape != (len(dataset.sample),):
        raise SubmissionError(
            f"{scores.shape} scores for {len(dataset.sample)} pairs; give one a pair."
        )
    wrong = ~((scores >= 0) & (scores <= 1))  # so that NaN is wrong too
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise SubmissionError(
            f"The score of {dataset.sample['img_pair'].iloc[first]} is {scores[first]}; "
            "a submission takes probabilities between 0 and 1."
        )
    submission = dataset.sample[["img_pair"]].assign(is_related=scores)
    with atomic(path) as temporary:
        submission.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
    return path


def score_submission(path: str | Path, truth: str | Path) -> float:
    """ROC AUC of a submission against the answers, as Kaggle computes it.

    Args:
        path: the submission.
        truth: CSV with img_pair and is_related, such as ``truth/test_labels.csv`` of the
            synthetic families.

    Raises:
        SubmissionError: a file is missing or is not a submission, or the two do not list the same
            pairs.
    """
    submitted, answers = _read_answers(path), _read_answers(truth)
    if submitted.isna().any():
        raise SubmissionError(
            f"{path} lacks the score of {submitted.isna().idxmax()}; write it again."
        )
    if set(submitted.index) != set(answers.index) or submitted.index.has_duplicates:
        raise SubmissionError(f"{path} and {truth} do not list the same pairs.")
    # in the order of the answers: (pairs,)
    scores = submitted[answers.index].to_numpy()
    return metrics.roc_auc(answers.to_numpy(), scores)


def _read_answers(path: str | Path) -> pd.Series:
    """``is_related`` by ``img_pair``."""
    try:
        rows = tables.read_columns(
            path, {"img_pair": ("img_pair",), "is_related": ("is_related",)}
        )
        scores = pd.to_numeric(rows["is_related"]).astype(np.float64)  # NaN where it is empty
    except (DatasetError, ValueError) as error:
        raise SubmissionError(
            f"{path} is not a CSV file with img_pair and is_related; check the path."
        ) from error
    return scores.set_axis(rows["img_pair"])
