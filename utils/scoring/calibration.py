"""What a distance between two faces is worth: thresholds, error rates and probabilities, as data.

A threshold is chosen on training families, and its error rates are measured on the held-out ones,
against strangers and against relatives, who look alike. One JSON file a backbone holds the result.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import settings
from ..data import pairs
from ..data.datasets import Dataset
from ..errors import CalibrationError
from ..faces.backbones import Backbone
from ..faces.embeddings import embed_photos
from ..files import read_json, write_json
from . import metrics
from .metrics import Interval, cosine

ARTICLE = 0.5  # the cosine distance below which published tutorials call two faces one person
OTHERS = ("strangers", "relatives")
POLICIES = {
    "relatives": "as many relatives are accepted as photos of one person are rejected",
    "strangers": "as many strangers are accepted as photos of one person are rejected",
    "strict": "one stranger in a thousand is accepted",
    "article": f"a fixed distance of {ARTICLE}, as published; never calibrated",
}
DEFAULT = "relatives"


@dataclass(frozen=True)
class Rates:
    """Errors at one threshold on held-out families, shares in [0, 1] with 95 % intervals over families.

    Attributes:
        false_reject: pairs of photos of one person that are rejected (FRR).
        strangers_accepted, relatives_accepted: pairs of two people that are accepted (FAR).
    """

    threshold: float
    false_reject: Interval
    strangers_accepted: Interval
    relatives_accepted: Interval

    def to_dict(self) -> dict:
        """Plain numbers, rounded to four decimals."""
        return {"threshold": round(self.threshold, 4),
                **{name: getattr(self, name).to_dict()
                   for name in ("false_reject", "strangers_accepted", "relatives_accepted")}}


@dataclass(frozen=True)
class Calibration:
    """What cosine distances of one backbone's aligned faces are worth.

    Attributes:
        backbone, fingerprint: what computed the embeddings (:attr:`Backbone.fingerprint`).
        data: "kaggle" or "synthetic".
        training_pairs, test_pairs: how many of each kind; without_face: photos left out, no face found.
        thresholds: policy to distance; a pair at or below it is accepted.
        distances: ``(k,)``, rising; ``accepted[kind]`` ``(k, 3)`` is the share of the test pairs of a
            kind at or below each, with its interval.
        equal_error, auc: one person against "strangers" and "relatives", on the test pairs.
        slopes: the same keys to (a, b): P(one person) = 1 / (1 + exp(−(a + b · log distance))).
        calibration_error: of these probabilities on the test pairs.
    """

    backbone: str
    fingerprint: str
    data: str
    training_pairs: dict[str, int]
    test_pairs: dict[str, int]
    without_face: int
    thresholds: dict[str, float]
    distances: np.ndarray
    accepted: dict[str, np.ndarray]
    equal_error: dict[str, Interval]
    auc: dict[str, Interval]
    slopes: dict[str, tuple[float, float]]
    calibration_error: dict[str, float]

    def threshold(self, policy: str | float = DEFAULT) -> float:
        """The distance that a policy stands for; a number stands for itself."""
        return threshold_of(policy, self.thresholds)

    def rates(self, policy: str | float = DEFAULT) -> Rates:
        """Error rates at a policy's threshold, or at any distance (interpolated)."""
        threshold = self.threshold(policy)
        share = {kind: [float(np.interp(threshold, self.distances, column)) for column in table.T]
                 for kind, table in self.accepted.items()}
        value, low, high = share["same"]
        return Rates(threshold, Interval(1 - value, 1 - high, 1 - low),
                     *(Interval(*share[kind]) for kind in OTHERS))

    def probability(self, distance: float | np.ndarray, against: str = "strangers") -> float | np.ndarray:
        """Chance that two photos show one person, when it is as likely beforehand as not.

        Platt's scaling (1999) of the logarithm of the distance, fitted on training families.

        Args:
            distance: cosine distance in [0, 2].
            against: what else they might be: "strangers" or "relatives".
        """
        a, b = self.slopes[against]
        logit = a + b * np.log(np.maximum(distance, 1e-6))
        return 1 / (1 + np.exp(-np.clip(logit, -30, 30)))

    def table(self) -> pd.DataFrame:
        """The error rates of every policy, for people."""
        def described(rate):
            return f"{100 * rate.value:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"

        return pd.DataFrame([{
            "policy": name, "threshold": f"{rates.threshold:.4f}",
            "same person rejected": described(rates.false_reject),
            "strangers accepted": described(rates.strangers_accepted),
            "relatives accepted": described(rates.relatives_accepted),
        } for name, rates in ((name, self.rates(name)) for name in self.thresholds)]).set_index("policy")

    def to_dict(self) -> dict:
        """Plain numbers and lists."""
        rounded = {kind: np.round(table, 4).tolist() for kind, table in self.accepted.items()}
        intervals = {name: {key: interval.to_dict() for key, interval in getattr(self, name).items()}
                     for name in ("equal_error", "auc")}
        return {**asdict(self), **intervals, "slopes": {key: list(pair) for key, pair in self.slopes.items()},
                "distances": np.round(self.distances, 6).tolist(),
                "accepted": rounded}


def threshold_of(policy: str | float, thresholds: dict[str, float]) -> float:
    """The distance of a named policy, or the number itself.

    Raises:
        CalibrationError: no such policy, or a number that is no cosine distance.
    """
    if isinstance(policy, str) and policy in thresholds:
        return thresholds[policy]
    try:
        number = float(policy)
    except (TypeError, ValueError, OverflowError) as error:
        raise CalibrationError(f"There is no threshold {policy!r:.40}; choose one of {', '.join(POLICIES)}, "
                               "or a cosine distance between 0 and 2.") from error
    if not 0 <= number <= 2:
        raise CalibrationError(f"{number} is no cosine distance; it lies between 0 and 2.")
    return number


def percent(share: float) -> str:
    """A share for people; never a certain 0 or 100 %."""
    if 0.001 <= share <= 0.999:
        return f"{100 * share:.1f} %"
    return "less than 0.1 %" if share < 0.001 else "more than 99.9 %"


# --- files --------------------------------------------------------------------------------------


def path_of(backbone: str) -> Path:
    """The file of a backbone's calibration."""
    return settings.CALIBRATIONS / f"{backbone}.json"


def load(backbone: Backbone, path: str | Path | None = None) -> Calibration:
    """Read a backbone's calibration.

    Raises:
        CalibrationError: there is none, it is damaged, or it was made for other weights or preprocessing.
    """
    path = Path(path or path_of(backbone.name))
    again = f"python -m utils calibrate --backbone {backbone.name} --data ARCHIVE --out {path.name}"
    if not path.is_file():
        raise CalibrationError(f"{backbone.name} has no calibration ({path.name}), so its distances have no known "
                               f"error rates; make one with: {again}, or name a distance as the threshold.")
    try:
        found = _parse(read_json(path))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CalibrationError(f"{path} is no calibration; make it anew with: {again}") from error
    if found.fingerprint != backbone.fingerprint:
        raise CalibrationError(f"{path} was made for {found.fingerprint}, not {backbone.fingerprint}; "
                               f"make it anew with: {again}")
    return found


def save(calibration: Calibration, path: str | Path) -> None:
    """Write a calibration as JSON, atomically."""
    write_json(path, calibration.to_dict())


def _parse(content: dict) -> Calibration:
    """From :meth:`Calibration.to_dict`. Raises KeyError, TypeError, ValueError or AttributeError: damaged."""
    intervals = {name: {key: Interval(**value) for key, value in content[name].items()}
                 for name in ("equal_error", "auc")}
    numbers = {"thresholds": {name: float(content["thresholds"][name]) for name in POLICIES},
               "distances": np.array(content["distances"], float),
               "accepted": {kind: np.array(content["accepted"][kind], float) for kind in pairs.KINDS},
               "slopes": {key: tuple(map(float, content["slopes"][key])) for key in OTHERS}}
    shapes = {table.shape for table in numbers["accepted"].values()}
    if shapes != {(len(numbers["distances"]), 3)} or (np.diff(numbers["distances"]) <= 0).any():
        raise ValueError("curves of different length, or distances that do not rise")
    if any(len(pair) != 2 for pair in numbers["slopes"].values()):
        raise ValueError("a slope is two numbers")
    return Calibration(**{**content, **intervals, **numbers})


# --- making one ---------------------------------------------------------------------------------


def calibrate(dataset: Dataset, backbone: Backbone, pairs_each: int = 4000, resamples: int = 1000,
              progress: bool = True) -> Calibration:
    """Choose thresholds and probabilities on the training families; measure them on the held-out ones.

    Every photo takes the way of a user's: find the face, align it, embed it.
    """
    backbone.weights_path()  # first: without weights there is nothing to calibrate
    folds = pairs.folds_for(dataset)
    training = pairs.make_identity_protocol(dataset, list(folds["family"]), pairs_each)
    test = pairs.identity_protocol_for(dataset)
    names = sorted({*training["photo_a"], *training["photo_b"], *test["photo_a"], *test["photo_b"]})
    embeddings = embed_photos(backbone, dataset.paths(names), progress, aligned=True)
    table = pd.DataFrame(embeddings, index=names)
    training, test = (with_distances(part, table) for part in (training, test))
    thresholds = choose_thresholds(training)
    slopes = {other: _fit_slopes(*_labelled(training, other)) for other in OTHERS}
    distances = np.unique(np.concatenate([
        [0, 2], np.quantile(training["distance"], np.linspace(0, 1, 80)), list(thresholds.values())]).round(6))
    accepted = {kind: _accepted(part, distances, resamples) for kind, part in test.groupby("kind")}
    measured = {name: {other: measure(*_labelled(test, other), *_families(test, other), resamples)
                       for other in OTHERS}
                for name, measure in (("equal_error", metrics.equal_error_interval),
                                      ("auc", metrics.auc_interval))}
    result = Calibration(
        backbone.name, backbone.fingerprint, "kaggle" if pairs.is_kaggle(dataset) else "synthetic",
        _counts(training), _counts(test), int(np.isnan(embeddings[:, 0]).sum()), thresholds, distances, accepted,
        **measured, slopes=slopes, calibration_error={})
    for other in OTHERS:
        labels, scores = _labelled(_balanced(test, other), other)
        claimed = result.probability(-scores, other)
        result.calibration_error[other] = round(metrics.calibration_error(labels, claimed), 4)
    return _parse(result.to_dict())  # rounded as in a file, so that it prints the same figures


def with_distances(table: pd.DataFrame, embeddings: pd.DataFrame) -> pd.DataFrame:
    """Pairs with their cosine ``distance``, without those of a photo in which no face was found.

    Args:
        embeddings: a row for each photo, its path the index; NaN for no face.
    """
    a, b = (embeddings.loc[table[column]].to_numpy() for column in ("photo_a", "photo_b"))
    return table.assign(distance=1 - cosine(a, b)).dropna(subset="distance").reset_index(drop=True)


def choose_thresholds(training: pd.DataFrame) -> dict[str, float]:
    """Each policy's distance, from pairs of training families with ``kind`` and ``distance``."""
    equal = {other: -metrics.equal_error_threshold(*_labelled(training, other)) for other in OTHERS}
    strangers = training.loc[training["kind"] == "strangers", "distance"]
    return {**{policy: round(equal[policy], 4) for policy in reversed(OTHERS)},
            "strict": round(float(np.quantile(strangers, 0.001)), 4), "article": ARTICLE}


def _labelled(table: pd.DataFrame, other: str) -> tuple[np.ndarray, np.ndarray]:
    """(1 for one person, 0 for the others; minus the distance), of these two kinds of pairs."""
    part = table[table["kind"].isin(["same", other])]
    return (part["kind"] == "same").to_numpy(int), -part["distance"].to_numpy()


def _balanced(table: pd.DataFrame, other: str) -> pd.DataFrame:
    """As many pairs of one person as of the others: what :meth:`Calibration.probability` speaks of."""
    part = table[table["kind"].isin(["same", other])]
    return part.groupby("kind").head(part["kind"].value_counts().min())


def _families(table: pd.DataFrame, other: str) -> tuple[np.ndarray, np.ndarray]:
    return pairs.pair_families(table[table["kind"].isin(["same", other])])


def _fit_slopes(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    return metrics.fit_logistic(labels, np.log(np.maximum(-scores, 1e-6)))


def _accepted(part: pd.DataFrame, distances: np.ndarray, resamples: int) -> np.ndarray:
    """``(k, 3)``: the share of pairs at or below each distance, with its interval."""
    within = part["distance"].to_numpy()[:, None] <= distances
    share = metrics.rate_interval(within, *pairs.pair_families(part), resamples)
    return np.column_stack([share.value, share.low, share.high])


def _counts(table: pd.DataFrame) -> dict[str, int]:
    return {kind: int((table["kind"] == kind).sum()) for kind in pairs.KINDS}
