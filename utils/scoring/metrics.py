"""What a score is worth: ROC, error rates, calibration, and intervals over families."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict:
        """The three numbers, rounded to four decimals."""
        return {name: round(float(number), 4) for name, number in asdict(self).items()}


def roc_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: how often a positive outscores a negative, ties counted half.

    Computed from ranks (the Mann–Whitney U statistic: Hanley and McNeil, Radiology 143, 1982),
    so exact, unlike a streaming AUC over thresholds. NaN when one class is absent.

    Args:
        labels: ``(n,)``, 1 for positive, 0 for negative.
        scores: ``(n,)``, higher means more positive.
        weights: ``(n,)`` non-negative, how often each pair counts; default 1.
    """
    return float(_RankedScores(labels, scores).auc(np.ones(len(scores)) if weights is None else weights))


class _RankedScores:
    """Scores sorted once, so that many weightings of them are cheap."""

    def __init__(self, labels, scores):
        scores = np.asarray(scores, np.float64)
        if np.isnan(scores).any():
            raise ValueError("scores contain NaN")
        self.distinct, self.level = np.unique(scores, return_inverse=True)
        self.levels = len(self.distinct)
        self.positive = np.asarray(labels).astype(bool)

    def auc(self, weights: np.ndarray) -> float:
        positive = np.bincount(self.level, weights * self.positive, self.levels)
        negative = np.bincount(self.level, weights * ~self.positive, self.levels)
        total = positive.sum() * negative.sum()
        below = np.cumsum(negative) - negative
        return positive @ (below + negative / 2) / total if total > 0 else np.nan

    def equal_error(self, weights: np.ndarray) -> tuple[float, float]:
        """(rate, threshold) where false rejects equal false accepts, between two scores interpolated."""
        positive = np.bincount(self.level, weights * self.positive, self.levels)
        negative = np.bincount(self.level, weights * ~self.positive, self.levels)
        if not positive.any() or not negative.any():
            return np.nan, np.nan
        false_reject = np.append(0, np.cumsum(positive) / positive.sum())  # from accepting all to none
        false_accept = 1 - np.append(0, np.cumsum(negative) / negative.sum())
        gap = false_reject - false_accept
        return (float(np.interp(0, gap, false_reject)),
                float(np.interp(0, gap, np.append(self.distinct, self.distinct[-1]))))


def auc_interval(labels: np.ndarray, scores: np.ndarray, families_a: np.ndarray,
                 families_b: np.ndarray, resamples: int = 1000, seed: int = 0) -> Interval:
    """ROC AUC with a bootstrap interval over families.

    Pairs of one family are not independent, so families are what is drawn: a family drawn m times
    gives its own pairs the weight m, and a pair across two families weighs the product of theirs
    (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1, 2007).

    Args:
        labels, scores: as in :func:`roc_auc`.
        families_a, families_b: ``(n,)``, the family of each side of each pair.
    """
    ranked = _RankedScores(labels, scores)
    samples = [ranked.auc(weights) for weights in _family_weights(families_a, families_b, resamples, seed)]
    return _interval(roc_auc(labels, scores), samples)


def auc_gain(labels: np.ndarray, scores: np.ndarray, baseline: np.ndarray, families_a: np.ndarray,
             families_b: np.ndarray, resamples: int = 1000, seed: int = 0) -> Interval:
    """ROC AUC of ``scores`` minus that of ``baseline`` on the same pairs, with its interval.

    Both are computed on the same resampled families (see :func:`auc_interval`), so what makes a
    sample hard for both cancels: two intervals may overlap widely while the gain is certain.
    """
    ours, theirs = _RankedScores(labels, scores), _RankedScores(labels, baseline)
    samples = [ours.auc(weights) - theirs.auc(weights)
               for weights in _family_weights(families_a, families_b, resamples, seed)]
    return _interval(roc_auc(labels, scores) - roc_auc(labels, baseline), samples)


def _family_weights(families_a: np.ndarray, families_b: np.ndarray, resamples: int,
                    seed: int) -> Iterator[np.ndarray]:
    """How often each pair counts, for each resampling of the families."""
    names, codes = np.unique(np.concatenate([families_a, families_b]), return_inverse=True)
    a, b = codes[:len(families_a)], codes[len(families_a):]
    rng = np.random.default_rng(seed)
    for times in rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples):
        yield np.where(a == b, times[a], times[a] * times[b])


def _interval(value: float, samples: list[float]) -> Interval:
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the highest balanced accuracy; a score at or above it means kin.

    It lies halfway between two neighbouring scores, so that rounding does not move a verdict.
    """
    labels = np.asarray(labels).astype(bool)
    levels, index = np.unique(scores, return_inverse=True)
    true_positive = np.cumsum(np.bincount(index, labels)[::-1])[::-1] / labels.sum()
    false_positive = np.cumsum(np.bincount(index, ~labels)[::-1])[::-1] / (~labels).sum()
    best = int(np.argmax(true_positive - false_positive))
    return float(levels[best] if best == 0 else (levels[best - 1] + levels[best]) / 2)


def accuracy(labels: np.ndarray, scores: np.ndarray, threshold: float) -> float:
    """Share of pairs on the right side of ``threshold``, in [0, 1]."""
    return float(np.mean((np.asarray(scores) >= threshold) == np.asarray(labels).astype(bool)))


def error_rates(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """(false accept rate, false reject rate) at ``threshold``, each in [0, 1]."""
    labels, accepted = np.asarray(labels).astype(bool), np.asarray(scores) >= threshold
    return float(accepted[~labels].mean()), float((~accepted[labels]).mean())


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """The error rate where false accepts and false rejects balance, in [0, 1]."""
    return _RankedScores(labels, scores).equal_error(np.ones(len(scores)))[0]


def equal_error_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The score at which false accepts and false rejects balance; one at or above it is accepted."""
    return _RankedScores(labels, scores).equal_error(np.ones(len(scores)))[1]


def equal_error_interval(labels: np.ndarray, scores: np.ndarray, families_a: np.ndarray,
                         families_b: np.ndarray, resamples: int = 1000, seed: int = 0) -> Interval:
    """:func:`equal_error_rate` with a bootstrap interval over families (see :func:`auc_interval`)."""
    ranked = _RankedScores(labels, scores)
    samples = [ranked.equal_error(weights)[0]
               for weights in _family_weights(families_a, families_b, resamples, seed)]
    return _interval(equal_error_rate(labels, scores), samples)


def rate_interval(outcomes: np.ndarray, families_a: np.ndarray, families_b: np.ndarray,
                  resamples: int = 1000, seed: int = 0) -> Interval:
    """Share of pairs with an outcome, with a bootstrap interval over families (see :func:`auc_interval`).

    Args:
        outcomes: ``(n,)`` bool, such as "accepted"; or ``(n, k)``, for k such questions at once: then
            the three numbers of the interval are arrays ``(k,)``.
    """
    outcomes = np.asarray(outcomes, float)
    samples = [weights @ outcomes / weights.sum() if weights.any() else np.full(outcomes.shape[1:], np.nan)
               for weights in _family_weights(families_a, families_b, resamples, seed)]
    low, high = np.nanpercentile(samples, [2.5, 97.5], axis=0)
    return Interval(outcomes.mean(0), low, high)


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> np.ndarray:
    """Reliability table ``(bins used, 3)``: mean probability, share of kin, number of pairs.

    Bins are of equal width over [0, 1]; empty ones are left out.
    """
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    used = count > 0
    mean = np.bincount(index, probabilities, bins)[used] / count[used]
    share = np.bincount(index, labels, bins)[used] / count[used]
    return np.column_stack([mean, share, count[used]])


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015), in [0, 1]."""
    return table_error(reliability(labels, probabilities, bins))


def table_error(table: np.ndarray) -> float:
    """The calibration error of a table ``(bins, 3)`` that :func:`reliability` gave."""
    mean, share, count = np.transpose(table)
    return float((np.abs(mean - share) * count).sum() / count.sum())


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared difference of probability and outcome (Brier, 1950), in [0, 1]."""
    return float(np.mean((np.asarray(probabilities, float) - np.asarray(labels, float)) ** 2))


def fit_logistic(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """(a, b) of the probability 1 / (1 + exp(−(a + b · score))) of a positive: Platt's scaling (1999).

    Maximum likelihood, with both classes as likely beforehand, however many there are of each.
    """
    from sklearn.linear_model import LogisticRegression

    scores = np.asarray(scores, np.float64)
    middle, spread = scores.mean(), scores.std() or 1.0  # of cosines that are all alike the solver sees no slope
    fitted = LogisticRegression(C=1e6, class_weight="balanced").fit(((scores - middle) / spread)[:, None], labels)
    slope = float(fitted.coef_[0, 0]) / spread
    return round(float(fitted.intercept_[0]) - slope * middle, 4), round(slope, 4)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine similarity row by row, ``(n, d)`` and ``(n, d)`` to ``(n,)`` in [−1, 1]."""
    return (normalise(a) * normalise(b)).sum(-1)


def csls(a: np.ndarray, b: np.ndarray, cohort: np.ndarray, neighbours: int = 10) -> np.ndarray:
    """Cosine minus what either side has with its nearest neighbours in a cohort, on average: ``(...)``.

    Half the cross-domain similarity local scaling of Conneau et al. (ICLR 2018); in speaker verification,
    the shift of adaptive score normalisation. A common kind of face is near many strangers, a rare one
    near none: the same cosine says less of the first.

    Args:
        a, b: ``(..., d)``. cohort: embeddings ``(members, d)`` of others.
        neighbours: how many of the cohort count; all of a smaller one.
    """
    nearest = min(neighbours, len(cohort))
    crowd = [np.partition(normalise(x) @ normalise(cohort).T, -nearest, -1)[..., -nearest:].mean(-1)
             for x in (a, b)]
    return cosine(a, b) - (crowd[0] + crowd[1]) / 2


def normalise(embeddings: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)
