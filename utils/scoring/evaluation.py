"""Scoring: reports with intervals over families or by relation, the hardest errors, Kaggle submissions."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..data import pairs
from ..data.datasets import Dataset
from ..errors import ProtocolError, SubmissionError
from ..files import atomic, read_json
from . import metrics

SUBMISSION = "face_vgg.csv"  # the published submission's name


@dataclass(frozen=True)
class Report:
    """How well scores tell kin from strangers on a protocol. Rates and shares are in [0, 1].

    Attributes:
        auc, auc_cross_photo: over all pairs, and without pairs cut from one photograph.
        threshold: chosen elsewhere, on training families; accuracy, false_accept and false_reject
            are measured at it.
        average_precision: area under the precision–recall curve.
        brier, calibration_error: of scores that are probabilities, else None.
    """

    name: str
    pairs: int
    same_photo_pairs: int
    auc: metrics.Interval
    auc_cross_photo: metrics.Interval
    average_precision: float
    equal_error_rate: float
    threshold: float
    accuracy: float
    false_accept: float
    false_reject: float
    brier: float | None = None
    calibration_error: float | None = None

    def to_dict(self) -> dict:
        """Plain numbers, rounded to four decimals."""
        plain = {name: round(value, 4) if isinstance(value, float) else value
                 for name, value in asdict(self).items()}
        return {**plain, "auc": self.auc.to_dict(), "auc_cross_photo": self.auc_cross_photo.to_dict()}

    @classmethod
    def from_dict(cls, plain: dict) -> "Report":
        """The report that :meth:`to_dict` gave."""
        return cls(**{name: metrics.Interval(**value) if isinstance(value, dict) else value
                      for name, value in plain.items()})


def evaluate(name: str, protocol: pd.DataFrame, scores: np.ndarray, threshold: float,
             probabilities: bool = False, resamples: int = 1000) -> Report:
    """Score a protocol. ``threshold`` must come from training families, never from these pairs.

    Args:
        scores: ``(pairs,)``, higher means more likely kin.
        probabilities: whether the scores claim to be probabilities of kin.
    """
    from sklearn.metrics import average_precision_score

    labels = protocol["is_related"].to_numpy()
    cross = protocol["same_photo"].to_numpy() == 0
    a, b = pairs.pair_families(protocol)
    false_accept, false_reject = metrics.error_rates(labels, scores, threshold)
    return Report(
        name=name, pairs=len(labels), same_photo_pairs=int((~cross).sum()),
        auc=metrics.auc_interval(labels, scores, a, b, resamples),
        auc_cross_photo=metrics.auc_interval(labels[cross], scores[cross], a[cross], b[cross], resamples),
        average_precision=float(average_precision_score(labels, scores)),
        equal_error_rate=metrics.equal_error_rate(labels, scores),
        threshold=float(threshold), accuracy=metrics.accuracy(labels, scores, threshold),
        false_accept=false_accept, false_reject=false_reject,
        brier=metrics.brier(labels, scores) if probabilities else None,
        calibration_error=metrics.calibration_error(labels, scores) if probabilities else None)


def table(reports: list[Report]) -> pd.DataFrame:
    """Reports side by side, one row each, for people."""
    def percent(value):
        return f"{100 * value:.1f} %"

    return pd.DataFrame([{
        "model": r.name, "AUC [95 %]": str(r.auc), "without same-photo pairs": str(r.auc_cross_photo),
        "average precision": f"{r.average_precision:.3f}", "accuracy": percent(r.accuracy),
        "strangers accepted": percent(r.false_accept), "kin rejected": percent(r.false_reject),
        "calibration error": "" if r.calibration_error is None else f"{r.calibration_error:.3f}",
    } for r in reports]).set_index("model")


def read_reports(path: str | Path) -> list[Report]:
    """The reports in a file that ``python -m utils evaluate --json`` printed."""
    return [Report.from_dict(report) for report in read_json(path)["reports"]]


def hardest(protocol: pd.DataFrame, scores: np.ndarray, count: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(strangers with the highest scores, kin with the lowest), each with a ``score`` column."""
    scored = protocol.assign(score=scores)
    strangers, kin = scored[scored["is_related"] == 0], scored[scored["is_related"] == 1]
    return strangers.nlargest(count, "score"), kin.nsmallest(count, "score")


# --- pairs with a relation ----------------------------------------------------------------------


def by_relation(pairs: pd.DataFrame, scores: np.ndarray, threshold: float | None = None) -> pd.DataFrame:
    """How well scores tell kin from strangers within each relation, as KinFaceW's papers report it.

    With ``threshold`` the accuracy is that at it. Without, it follows KinFaceW's protocol: each fold
    of a relation is judged at the threshold that is best on the relation's other folds, and the
    folds' accuracies are averaged. Best means balanced accuracy, so a fold with more strangers than
    kin does not pull the threshold; KinFaceW's folds have as many of both, where it is accuracy.

    Sources: Lu, Zhou, Tan, Shang and Zhou, TPAMI 36, 2014, for the folds; Robinson et al., The 4th
    Edition of RFIW, FG 2020, for one threshold over all relations (the average there is over pairs,
    so compare that with :func:`metrics.accuracy` over all of them).

    Args:
        pairs: is_related (0 or 1), relation and, without ``threshold``, fold; as in
            :class:`datasets.RelationPairs`.
        scores: ``(pairs,)``, row by row, higher means more likely kin.
        threshold: chosen on other pairs; a score at or above it means kin.

    Returns:
        One row a relation, in order of appearance, and a last row ``mean``: pairs (int, there their
        sum), auc and accuracy (float in [0, 1], there the plain mean over the relations).

    Raises:
        ProtocolError: not one score a pair, a relation without kin or strangers, or, without
            ``threshold``, folds that are not there or that hold all its kin or all its strangers.
    """
    scores = np.asarray(scores)
    if scores.shape != (len(pairs),) or not len(pairs):
        raise ProtocolError(f"{scores.shape} scores for {len(pairs)} pairs; give one a pair, and some pairs.")
    rows = {}
    for relation in pairs["relation"].unique():
        mine = (pairs["relation"] == relation).to_numpy()
        part, own = pairs[mine], scores[mine]
        _need_both(part["is_related"], relation)
        rows[relation] = {"pairs": len(part), "auc": metrics.roc_auc(part["is_related"], own),
                          "accuracy": _fold_accuracy(part, own) if threshold is None
                          else metrics.accuracy(part["is_related"], own, threshold)}
    means = {name: np.mean([row[name] for row in rows.values()]) for name in ("auc", "accuracy")}
    rows["mean"] = {"pairs": len(pairs), **means}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("relation")


def _fold_accuracy(pairs: pd.DataFrame, scores: np.ndarray) -> float:
    """Accuracy of one relation, each fold at the best threshold of the others, averaged over folds."""
    relation, accuracies = pairs["relation"].iloc[0], []
    if "fold" not in pairs or pairs["fold"].nunique() < 2:
        raise ProtocolError(f"The pairs of {relation} have no folds; give a threshold chosen on other pairs.")
    labels, folds = pairs["is_related"].to_numpy(), pairs["fold"].to_numpy()
    for fold in np.unique(folds):
        inside = folds == fold
        _need_both(labels[~inside], f"{relation} outside fold {fold}")
        threshold = metrics.best_threshold(labels[~inside], scores[~inside])
        accuracies.append(metrics.accuracy(labels[inside], scores[inside], threshold))
    return float(np.mean(accuracies))


def _need_both(labels: np.ndarray | pd.Series, what: str) -> None:
    if len(np.unique(labels)) < 2:
        raise ProtocolError(f"The pairs of {what} lack kin or strangers; add pairs of both.")


# --- Kaggle -------------------------------------------------------------------------------------


def submission_pairs(dataset: Dataset) -> pd.DataFrame:
    """The two photos of each pair to submit: photo_a, photo_b (relative paths), in the sample's order.

    Raises:
        SubmissionError: no sample submission, a malformed pair, or a photo that is not there.
    """
    if dataset.sample.empty:
        raise SubmissionError(f"{dataset.root} has no sample_submission.csv with pairs to score.")
    present, rows = set(dataset.test_photos), []
    for line, pair in enumerate(dataset.sample["img_pair"], start=2):
        names = str(pair).split("-")
        if len(names) != 2 or not all(names):
            raise SubmissionError(f"sample_submission.csv, line {line}: {pair!r} is no pair such as "
                                  "face00000.jpg-face00001.jpg.")
        for name in names:
            if name not in present:
                raise SubmissionError(f"sample_submission.csv, line {line}: the photo test/{name} is missing.")
        rows.append([f"test/{name}" for name in names])
    return pd.DataFrame(rows, columns=["photo_a", "photo_b"])


def write_submission(dataset: Dataset, scores: np.ndarray, path: str | Path = SUBMISSION) -> Path:
    """Write ``img_pair,is_related`` with one probability a pair, in the sample's order, atomically.

    Raises:
        SubmissionError: not one score a pair, NaN, or outside [0, 1]; an old file stays as it was.
    """
    scores, path = np.asarray(scores, np.float64), Path(path)
    if scores.shape != (len(dataset.sample),):
        raise SubmissionError(f"{scores.shape} scores for {len(dataset.sample)} pairs; give one a pair.")
    wrong = ~((scores >= 0) & (scores <= 1))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise SubmissionError(f"The score of {dataset.sample['img_pair'].iloc[first]} is {scores[first]}; "
                              "a submission takes probabilities between 0 and 1.")
    with atomic(path) as temporary:
        dataset.sample[["img_pair"]].assign(is_related=scores).to_csv(
            temporary, index=False, float_format="%.6f", lineterminator="\n")
    return path


def score_submission(path: str | Path, truth: str | Path) -> float:
    """ROC AUC of a submission against the answers, as Kaggle computes it.

    Args:
        truth: CSV with img_pair and is_related, such as the synthetic families' ``truth/test_labels.csv``.

    Raises:
        SubmissionError: a file is missing or no submission, or the two do not list the same pairs.
    """
    submitted, answers = _read_answers(path), _read_answers(truth)
    if submitted.isna().any():
        raise SubmissionError(f"{path} lacks the score of {submitted.isna().idxmax()}; write it again.")
    if set(submitted.index) != set(answers.index) or submitted.index.has_duplicates:
        raise SubmissionError(f"{path} and {truth} do not list the same pairs.")
    return metrics.roc_auc(answers, submitted[answers.index])


def _read_answers(path: str | Path) -> pd.Series:
    """``is_related`` by ``img_pair``."""
    try:
        return pd.read_csv(path, dtype={"is_related": np.float64}).set_index("img_pair")["is_related"]
    except (OSError, ValueError, KeyError) as error:
        raise SubmissionError(f"{path} is no CSV file with img_pair and is_related; check the path.") from error
