"""What a distance between two faces is worth: thresholds, error rates and probabilities, as data.

A threshold is chosen on training families, and its error rates are measured on the held-out ones,
against strangers and against relatives, who look alike. One JSON file a backbone holds the result.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import settings, surroundings
from ..data import protocols
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
QUANTILES = 80  # of the training pairs' distances: where the error rates are measured
LEAST_DISTANCE = 1e-6  # a distance of 0 has no logarithm
MOST = 0.995  # a probability that is rounded to 100 %
LARGEST_LOGIT = 30  # beyond it exp() overflows, and no probability is that sure


@dataclass(frozen=True)
class Rates:
    """Errors at one threshold on held-out families, shares in [0, 1] with 95 % intervals.

    Attributes:
        threshold: cosine distance in [0, 2]; a pair at or below it is accepted.
        false_reject: pairs of photos of one person that are rejected (FRR).
        strangers_accepted: pairs of two strangers that are accepted (FAR).
        relatives_accepted: pairs of two relatives that are accepted (FAR).
    """

    threshold: float
    false_reject: Interval
    strangers_accepted: Interval
    relatives_accepted: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, rounded to four decimals."""
        return {
            "threshold": round(self.threshold, 4),
            "false_reject": self.false_reject.to_dict(),
            "strangers_accepted": self.strangers_accepted.to_dict(),
            "relatives_accepted": self.relatives_accepted.to_dict(),
        }


@dataclass(frozen=True)
class Calibration:
    """What cosine distances of one backbone's aligned faces are worth.

    Attributes:
        backbone: name of the face encoder.
        fingerprint: of its weights and preprocessing (:attr:`Backbone.fingerprint`).
        data: what the pairs were drawn from (:func:`protocols.data_name`).
        training_pairs: kind to number of pairs that thresholds and slopes were chosen on.
        test_pairs: kind to number of pairs that everything else was measured on.
        without_face: photos left out because no face was found.
        thresholds: policy to distance; a pair at or below it is accepted.
        distances: ``(k,)``, rising: where the error rates were measured.
        accepted: kind to ``(k, 3)``: the share of its test pairs at or below each distance, and
            the two ends of its 95 % interval.
        equal_error: kind of others to the equal error rate, one person against these.
        auc: kind of others to the area under the ROC curve, one person against these.
        slopes: kind of others to (a, b): P(one person) = 1 / (1 + exp(−(a + b · log distance))).
        calibration_error: kind of others to the error of these probabilities on the test pairs.
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
        same = self._accepted_at(threshold, "same")
        return Rates(
            threshold,
            # who is not accepted is rejected, so the two ends of the interval change places
            false_reject=Interval(1 - same.value, 1 - same.high, 1 - same.low),
            strangers_accepted=self._accepted_at(threshold, "strangers"),
            relatives_accepted=self._accepted_at(threshold, "relatives"),
        )

    def _accepted_at(self, distance: float, kind: str) -> Interval:
        """Share of the test pairs of a kind at or below a distance."""
        columns = self.accepted[kind].T  # (3, k)
        return Interval(*(float(np.interp(distance, self.distances, share)) for share in columns))

    def probability(
        self, distance: float | np.ndarray, against: str = "strangers"
    ) -> float | np.ndarray:
        """Chance that two photos show one person, when it is as likely beforehand as not.

        Platt's scaling (1999) of the logarithm of the distance, fitted on training families.

        Args:
            distance: cosine distance in [0, 2].
            against: what else they might be: "strangers" or "relatives".
        """
        return _probability(distance, self.slopes[against])

    def table(self) -> pd.DataFrame:
        """The error rates of every policy, for people."""
        rows = []
        for policy in self.thresholds:
            rates = self.rates(policy)  # on the held-out families
            rows.append(
                {
                    "policy": policy,
                    "threshold": f"{rates.threshold:.4f}",
                    "same person rejected": _with_interval(rates.false_reject),
                    "strangers accepted": _with_interval(rates.strangers_accepted),
                    "relatives accepted": _with_interval(rates.relatives_accepted),
                }
            )
        return pd.DataFrame(rows).set_index("policy")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, as they stand in the file."""
        content = asdict(self)
        content["distances"] = self.distances.tolist()
        content["accepted"] = {kind: table.tolist() for kind, table in self.accepted.items()}
        content["slopes"] = {kind: list(slope) for kind, slope in self.slopes.items()}
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Calibration":
        """The calibration that :meth:`to_dict` gave.

        Raises:
            KeyError: something is missing.
            TypeError: something is of another kind, or more than there should be.
            ValueError: a number cannot be read, or the distances and shares are not curves.
            OverflowError: a number is too large.
        """
        values = dict(content)
        values["thresholds"] = {name: float(content["thresholds"][name]) for name in POLICIES}
        values["distances"] = np.array(content["distances"], float)
        values["accepted"] = {
            kind: np.array(content["accepted"][kind], float) for kind in protocols.PAIR_KINDS
        }
        for name in ("equal_error", "auc"):
            values[name] = {kind: _interval(content[name][kind]) for kind in OTHERS}
        values["slopes"] = {kind: _slope(content["slopes"][kind]) for kind in OTHERS}
        _check_curves(values["distances"], values["accepted"])
        return cls(**values)


def _probability(distance: float | np.ndarray, slope: tuple[float, float]) -> float | np.ndarray:
    """P(one person) at a distance, for a slope of :attr:`Calibration.slopes`."""
    a, b = slope
    logit = a + b * np.log(np.maximum(distance, LEAST_DISTANCE))
    return 1 / (1 + np.exp(-np.clip(logit, -LARGEST_LOGIT, LARGEST_LOGIT)))


def threshold_of(policy: str | float, thresholds: dict[str, float]) -> float:
    """The distance of a named policy, or the number itself.

    Raises:
        CalibrationError: no such policy, or a number that is not a cosine distance.
    """
    if isinstance(policy, str) and policy in thresholds:
        return thresholds[policy]
    try:
        number = float(policy)
    except (TypeError, ValueError, OverflowError) as error:
        raise CalibrationError(
            f"There is no threshold {policy!r:.40}; choose one of {', '.join(POLICIES)}, "
            "or a cosine distance between 0 and 2."
        ) from error
    if not 0 <= number <= 2:
        raise CalibrationError(f"{number} is not a cosine distance; it lies between 0 and 2.")
    return number


def percent(share: float) -> str:
    """A share as a percentage in a sentence; never a certain 0 or 100 %."""
    if share < 0.001:
        return "less than 0.1 %"
    if share > 0.999:
        return "more than 99.9 %"
    return f"{100 * share:.1f} %"


def rounded(probability: float) -> str:
    """A probability as it is said to visitors, such as ``64 %``; never 0 or 100."""
    if probability > MOST:
        return "over 99 %"
    return "under 1 %" if probability < 1 - MOST else f"{100 * probability:.0f} %"


def _with_interval(rate: Interval) -> str:
    """A rate and its interval in percent, for a table."""
    return f"{100 * rate.value:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


# --- files --------------------------------------------------------------------------------------


def path_of(backbone: str) -> Path:
    """The file of a backbone's calibration."""
    return settings.CALIBRATIONS / f"{backbone}.json"


def load(backbone: Backbone, path: str | Path | None = None) -> Calibration:
    """Read a backbone's calibration.

    Args:
        backbone: the face encoder that the calibration must belong to.
        path: the file; default: the one that comes with the course.

    Raises:
        CalibrationError: there is none, it is damaged, or it was made for other weights or
            preprocessing.
    """
    path = Path(path or path_of(backbone.name))
    surroundings.check_installed(path)
    # what makes one, for the messages
    command = f"kincourse calibrate --backbone {backbone.name} --data ARCHIVE --out {path.name}"
    if not path.is_file():
        raise CalibrationError(
            f"{backbone.name} has no calibration ({path.name}), so its distances have no known "
            f"error rates; make one with: {command}, or name a distance as the threshold."
        )
    try:
        calibration = Calibration.from_dict(read_json(path))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CalibrationError(
            f"{path} is not a calibration; make it anew with: {command}"
        ) from error
    # distances of other weights, or of crops cut otherwise, mean something else
    if calibration.fingerprint != backbone.fingerprint:
        raise CalibrationError(
            f"{path} was made for {calibration.fingerprint}, not {backbone.fingerprint}; "
            f"make it anew with: {command}"
        )
    return calibration


def save(calibration: Calibration, path: str | Path) -> None:
    """Write a calibration as JSON, atomically."""
    write_json(path, calibration.to_dict())


def _interval(numbers: dict[str, Any]) -> Interval:
    """From :meth:`Interval.to_dict`; KeyError, TypeError or ValueError: damaged."""
    return Interval(float(numbers["value"]), float(numbers["low"]), float(numbers["high"]))


def _slope(numbers: list) -> tuple[float, float]:
    """The two numbers of a slope; ValueError when there are not two."""
    a, b = map(float, numbers)
    return a, b


def _check_curves(distances: np.ndarray, accepted: dict[str, np.ndarray]) -> None:
    """ValueError unless the distances rise, and each has a share of every kind."""
    if (np.diff(distances) <= 0).any():
        raise ValueError("distances that do not rise")
    for kind, table in accepted.items():
        if table.shape != (len(distances), 3):
            raise ValueError(f"shares of {kind} for other distances")


# --- making one ---------------------------------------------------------------------------------


def calibrate(
    dataset: Dataset,
    backbone: Backbone,
    pairs_each: int = 4000,
    resamples: int = 1000,
    progress: bool = True,
) -> Calibration:
    """Choose thresholds and probabilities on training families; measure them on the held-out ones.

    Every photo goes the same way as a user's: find the face, align it, embed it.

    Args:
        dataset: photos and kin; which families are held out, :mod:`protocols` says.
        backbone: the face encoder.
        pairs_each: training pairs of each kind, fewer of a kind that has not so many.
        resamples: of the families, for the intervals.
        progress: whether to show how far embedding is.

    Returns:
        Numbers rounded as in a file: four decimals, the distances six.
    """
    backbone.weights_path()  # first: without weights there is nothing to calibrate
    training_families = list(protocols.folds_for(dataset)["family"])
    training = protocols.make_identity_protocol(dataset, training_families, pairs_each)
    test = protocols.identity_protocol_for(dataset)

    # a row for each photo, NaN where no face was found: (photos, d)
    names = sorted({*_photos(training), *_photos(test)})
    embeddings = embed_photos(backbone, dataset.paths(names), progress, aligned=True)
    lookup = pd.DataFrame(embeddings, index=names)
    training, test = with_distances(training, lookup), with_distances(test, lookup)

    # choose on the training families, measure on the held-out ones
    thresholds = choose_thresholds(training)
    slopes = {kind: _fit_slope(_against(training, kind)) for kind in OTHERS}
    distances = _grid(training["distance"], thresholds)
    return Calibration(
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        data=protocols.data_name(dataset),
        training_pairs=_counts(training),
        test_pairs=_counts(test),
        without_face=int(np.isnan(embeddings[:, 0]).sum()),
        thresholds=thresholds,
        distances=distances,
        accepted=_accepted_shares(test, distances, resamples),
        equal_error=_over_families(metrics.equal_error_interval, test, resamples),
        auc=_over_families(metrics.auc_interval, test, resamples),
        slopes=slopes,
        calibration_error={kind: _slope_error(test, kind, slopes[kind]) for kind in OTHERS},
    )


def with_distances(table: pd.DataFrame, embeddings: pd.DataFrame) -> pd.DataFrame:
    """Pairs with their cosine ``distance``, without those of a photo in which no face was found.

    Args:
        table: pairs with photo_a and photo_b.
        embeddings: a row for each photo, its path the index; NaN for no face.
    """
    a = embeddings.loc[table["photo_a"]].to_numpy()  # (pairs, d)
    b = embeddings.loc[table["photo_b"]].to_numpy()
    pairs = table.assign(distance=1 - cosine(a, b))
    return pairs.dropna(subset="distance").reset_index(drop=True)


def choose_thresholds(training: pd.DataFrame) -> dict[str, float]:
    """Each policy's distance, from pairs of training families with ``kind`` and ``distance``."""
    strangers = training.loc[training["kind"] == "strangers", "distance"]
    return {
        "relatives": _equal_error_distance(_against(training, "relatives")),
        "strangers": _equal_error_distance(_against(training, "strangers")),
        "strict": round(float(np.quantile(strangers, 0.001)), 4),
        "article": ARTICLE,
    }


def _photos(table: pd.DataFrame) -> set[str]:
    """The photos of a table of pairs."""
    return {*table["photo_a"], *table["photo_b"]}


def _against(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The pairs of one person, and those of a kind of others."""
    return table[table["kind"].isin(["same", kind])]


def _labels(pairs: pd.DataFrame) -> np.ndarray:
    """``(pairs,)``: 1 for one person, 0 for two."""
    return (pairs["kind"] == "same").to_numpy(int)


def _equal_error_distance(pairs: pd.DataFrame) -> float:
    """The distance at which as many of two people are accepted as of one person are rejected."""
    score = metrics.equal_error_threshold(_labels(pairs), -pairs["distance"].to_numpy())
    return round(-score, 4)


def _fit_slope(pairs: pd.DataFrame) -> tuple[float, float]:
    """(a, b) of :attr:`Calibration.slopes`, fitted on these pairs."""
    distances = np.maximum(pairs["distance"].to_numpy(), LEAST_DISTANCE)
    return metrics.fit_logistic(_labels(pairs), np.log(distances))


def _grid(distances: pd.Series, thresholds: dict[str, float]) -> np.ndarray:
    """``(k,)``: where error rates are measured: close together where there are many pairs."""
    quantiles = np.quantile(distances, np.linspace(0, 1, QUANTILES))
    return np.unique(np.concatenate([[0, 2], quantiles, list(thresholds.values())]).round(6))


def _accepted_shares(
    test: pd.DataFrame, distances: np.ndarray, resamples: int
) -> dict[str, np.ndarray]:
    """Kind to ``(k, 3)``: the share of its pairs at or below each distance, with its interval."""
    shares = {}
    for kind in protocols.PAIR_KINDS:
        pairs = test[test["kind"] == kind]
        within = pairs["distance"].to_numpy()[:, None] <= distances  # (pairs, k)
        families = protocols.pair_families(pairs)
        shares[kind] = np.round(metrics.rate_intervals(within, *families, resamples), 4)
    return shares


def _over_families(
    measure: Callable[..., Interval], test: pd.DataFrame, resamples: int
) -> dict[str, Interval]:
    """One person against each kind of others, measured with an interval over families."""
    intervals = {}
    for kind in OTHERS:
        pairs = _against(test, kind)
        scores = -pairs["distance"].to_numpy()  # a smaller distance: more likely one person
        families = protocols.pair_families(pairs)
        intervals[kind] = measure(_labels(pairs), scores, *families, resamples).rounded()
    return intervals


def _slope_error(test: pd.DataFrame, kind: str, slope: tuple[float, float]) -> float:
    """Calibration error of a slope's probabilities, on as many pairs of one person as of two."""
    pairs = _against(test, kind)
    balanced = pairs.groupby("kind").head(pairs["kind"].value_counts().min())
    probabilities = np.asarray(_probability(balanced["distance"].to_numpy(), slope))
    return round(metrics.calibration_error(_labels(balanced), probabilities), 4)


def _counts(table: pd.DataFrame) -> dict[str, int]:
    """Kind to number of pairs."""
    return {kind: int((table["kind"] == kind).sum()) for kind in protocols.PAIR_KINDS}
