"""What a score is worth: ROC, error rates, calibration, and intervals over families."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

BOUNDS = (2.5, 97.5)  # percentiles between which 95 % of the resamples lie
# Of :func:`near_keys` and :func:`mean_of_near`, chosen on inner folds.
NEAR_IDENTITY = 0.4  # what the encoder of identity weighs
NEAR_SOFTNESS = 0.015  # in units of a cosine
NEAR_CHUNK = 1024  # photos that are compared with all at a time
LEAST_LENGTH = 1e-12  # of an embedding: zeros stay zeros when rows are divided by their length
NO_PENALTY = 1e6  # scikit-learn's C: so weak a penalty that the fit is maximum likelihood


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % confidence interval.

    Attributes:
        value: the number itself.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def rounded(self) -> "Interval":
        """The same with four decimals, as results are stored."""
        return Interval(**self.to_dict())

    def to_dict(self) -> dict[str, float]:
        """The three numbers, rounded to four decimals."""
        return {name: round(float(number), 4) for name, number in asdict(self).items()}


# --- area under the curve -----------------------------------------------------------------------


def roc_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: how often a positive outscores a negative, ties counted half.

    Computed from ranks (the Mann–Whitney U statistic: Hanley and McNeil, Radiology 143, 1982),
    so exact, unlike a streaming AUC over thresholds. NaN when one class is absent.

    Args:
        labels: ``(n,)``, 1 for positive, 0 for negative.
        scores: ``(n,)``, higher means more positive.
        weights: ``(n,)`` non-negative, how often each pair counts; default 1.
    """
    if weights is None:
        weights = np.ones(len(scores))
    return _RankedScores(labels, scores).auc(weights)


class _RankedScores:
    """Scores sorted once, so that many weightings of them are cheap."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray):
        scores = np.asarray(scores, np.float64)
        if np.isnan(scores).any():
            raise ValueError("scores contain NaN")
        # (levels,) distinct scores, rising; (n,) the level of each pair
        self.distinct, self.level = np.unique(scores, return_inverse=True)
        self.positive = np.asarray(labels).astype(bool)

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of the positives, and of the negatives, at each distinct score: ``(levels,)``."""
        levels = len(self.distinct)
        positive = np.bincount(self.level, weights * self.positive, levels)
        negative = np.bincount(self.level, weights * ~self.positive, levels)
        return positive, negative

    def auc(self, weights: np.ndarray) -> float:
        """Area under the ROC curve of the weighted pairs; NaN when one class is absent."""
        positive, negative = self.counts(weights)
        total = positive.sum() * negative.sum()
        if total == 0:
            return float("nan")
        # a positive outscores all negatives below its score, and half of those at it
        below = np.cumsum(negative) - negative
        return float(positive @ (below + negative / 2) / total)

    def equal_error(self, weights: np.ndarray) -> tuple[float, float]:
        """(rate, threshold) where both errors are equal, interpolated between two scores."""
        positive, negative = self.counts(weights)
        if not positive.any() or not negative.any():
            return float("nan"), float("nan")
        # (levels + 1,) both errors as the threshold rises, from accepting everything to nothing
        false_reject = np.append(0, np.cumsum(positive) / positive.sum())
        false_accept = 1 - np.append(0, np.cumsum(negative) / negative.sum())
        # their difference rises from -1 to 1; the errors are equal where it is zero
        gap = false_reject - false_accept
        thresholds = np.append(self.distinct, self.distinct[-1])
        return float(np.interp(0, gap, false_reject)), float(np.interp(0, gap, thresholds))


def auc_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    families_a: np.ndarray,
    families_b: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """ROC AUC with a bootstrap interval over families.

    Pairs of one family are not independent, so families are what is drawn: a family drawn m times
    gives its own pairs the weight m, and a pair across two families weighs the product of theirs
    (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1, 2007).

    Args:
        labels: ``(n,)``, 1 for positive, 0 for negative.
        scores: ``(n,)``, higher means more positive.
        families_a: ``(n,)``, the family of the first side of each pair.
        families_b: ``(n,)``, the family of the second side of each pair.
        resamples: how often the families are drawn.
        seed: of the draws; the same seed gives the same interval.

    Example:
        Forty families with five pairs of kin each, and as many pairs with the next family:

        >>> labels = np.tile([1, 0], 200)
        >>> families_a = np.repeat(np.arange(40), 10)
        >>> families_b = np.where(labels == 1, families_a, (families_a + 1) % 40)
        >>> scores = labels + np.random.default_rng(0).normal(size=400)
        >>> print(auc_interval(labels, scores, families_a, families_b))
        0.737 [0.662, 0.808]
    """
    ranked = _RankedScores(labels, scores)
    draws = _family_weights(families_a, families_b, resamples, seed)
    samples = [ranked.auc(weights) for weights in draws]
    return _interval(roc_auc(labels, scores), samples)


def auc_gain(
    labels: np.ndarray,
    scores: np.ndarray,
    baseline: np.ndarray,
    families_a: np.ndarray,
    families_b: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """ROC AUC of ``scores`` minus that of ``baseline`` on the same pairs, with its interval.

    Both are computed on the same resampled families (see :func:`auc_interval`), so what makes a
    sample hard for both cancels: two intervals may overlap widely while the gain is certain.

    Args:
        labels: ``(n,)``, 1 for positive, 0 for negative.
        scores: ``(n,)``, higher means more positive.
        baseline: ``(n,)``, the scores to compare with.
        families_a: ``(n,)``, the family of the first side of each pair.
        families_b: ``(n,)``, the family of the second side of each pair.
        resamples: how often the families are drawn.
        seed: of the draws.
    """
    ours, theirs = _RankedScores(labels, scores), _RankedScores(labels, baseline)
    draws = _family_weights(families_a, families_b, resamples, seed)
    samples = [ours.auc(weights) - theirs.auc(weights) for weights in draws]
    return _interval(roc_auc(labels, scores) - roc_auc(labels, baseline), samples)


def _family_weights(
    families_a: np.ndarray, families_b: np.ndarray, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """How often each pair counts, ``(n,)``, for each resampling of the families."""
    # families as numbers from 0 up: (n,) for either side of the pairs
    names, codes = np.unique(np.concatenate([families_a, families_b]), return_inverse=True)
    a, b = codes[: len(families_a)], codes[len(families_a) :]
    # how often each family is drawn: (resamples, families)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    for times in draws:
        yield np.where(a == b, times[a], times[a] * times[b])


def _interval(value: float, samples: list[float]) -> Interval:
    """A value with the percentiles of its resamples; those without both classes do not count."""
    low, high = np.nanpercentile(samples, BOUNDS)
    return Interval(value, float(low), float(high))


# --- errors at a threshold ----------------------------------------------------------------------


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the highest balanced accuracy; a score at or above it means kin.

    It lies halfway between two neighbouring scores, so that rounding does not change a decision.
    Of several that are equally good it is the middle one.
    """
    labels = np.asarray(labels).astype(bool)
    # (levels,) distinct scores, rising; (n,) the level of each pair
    levels, index = np.unique(scores, return_inverse=True)
    # (levels,) the shares at or above each score: sums from the highest score down
    true_positive = np.cumsum(np.bincount(index, labels)[::-1])[::-1] / labels.sum()
    false_positive = np.cumsum(np.bincount(index, ~labels)[::-1])[::-1] / (~labels).sum()
    gain = true_positive - false_positive
    equally_good = np.flatnonzero(np.isclose(gain, gain.max(), rtol=0, atol=1e-12))
    best = int(equally_good[len(equally_good) // 2])
    if best == 0:
        return float(levels[0])
    return float((levels[best - 1] + levels[best]) / 2)


def accuracy(labels: np.ndarray, scores: np.ndarray, threshold: float) -> float:
    """Share of pairs on the right side of ``threshold``, in [0, 1].

    Args:
        labels: ``(n,)``, 1 for kin, 0 for strangers.
        scores: ``(n,)``, higher means more likely kin.
        threshold: a score at or above it means kin.
    """
    accepted = np.asarray(scores) >= threshold
    return float(np.mean(accepted == np.asarray(labels).astype(bool)))


def error_rates(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """(false accept rate, false reject rate) at ``threshold``, each in [0, 1].

    Args:
        labels: ``(n,)``, 1 for positive, 0 for negative.
        scores: ``(n,)``, higher means more positive.
        threshold: a score at or above it is accepted.
    """
    labels = np.asarray(labels).astype(bool)
    accepted = np.asarray(scores) >= threshold
    return float(accepted[~labels].mean()), float((~accepted[labels]).mean())


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """The error rate where false accepts and false rejects balance, in [0, 1]."""
    rate, _ = _RankedScores(labels, scores).equal_error(np.ones(len(scores)))
    return rate


def equal_error_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The score at which false accepts and false rejects balance; at or above it is accepted."""
    _, threshold = _RankedScores(labels, scores).equal_error(np.ones(len(scores)))
    return threshold


def equal_error_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    families_a: np.ndarray,
    families_b: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """:func:`equal_error_rate` with a bootstrap interval over families, as :func:`auc_interval`.

    Args:
        labels: ``(n,)``, 1 for positive, 0 for negative.
        scores: ``(n,)``, higher means more positive.
        families_a: ``(n,)``, the family of the first side of each pair.
        families_b: ``(n,)``, the family of the second side of each pair.
        resamples: how often the families are drawn.
        seed: of the draws.
    """
    ranked = _RankedScores(labels, scores)
    draws = _family_weights(families_a, families_b, resamples, seed)
    samples = [ranked.equal_error(weights)[0] for weights in draws]
    return _interval(equal_error_rate(labels, scores), samples)


def rate_interval(
    outcomes: np.ndarray,
    families_a: np.ndarray,
    families_b: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Share of pairs with an outcome, with an interval over families, as :func:`auc_interval`.

    Args:
        outcomes: ``(n,)`` bool, such as "accepted".
        families_a: ``(n,)``, the family of the first side of each pair.
        families_b: ``(n,)``, the family of the second side of each pair.
        resamples: how often the families are drawn.
        seed: of the draws.
    """
    columns = np.asarray(outcomes)[:, None]
    [interval] = rate_intervals(columns, families_a, families_b, resamples, seed)
    return Interval(*interval.tolist())


def rate_intervals(
    outcomes: np.ndarray,
    families_a: np.ndarray,
    families_b: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """:func:`rate_interval` of k outcomes at once, all on the same resampled families.

    Args:
        outcomes: ``(n, k)`` bool, such as "accepted" at each of k thresholds.
        families_a: ``(n,)``, the family of the first side of each pair.
        families_b: ``(n,)``, the family of the second side of each pair.
        resamples: how often the families are drawn.
        seed: of the draws.

    Returns:
        float64 ``(k, 3)``: the share, and the two ends of its interval.
    """
    outcomes = np.asarray(outcomes, np.float64)
    # (resamples, k); NaN where the families of no pair were drawn
    samples = np.full((resamples, outcomes.shape[1]), np.nan)
    for number, weights in enumerate(_family_weights(families_a, families_b, resamples, seed)):
        if weights.any():
            samples[number] = weights @ outcomes / weights.sum()
    low, high = np.nanpercentile(samples, BOUNDS, axis=0)
    return np.column_stack([outcomes.mean(0), low, high])


# --- probabilities ------------------------------------------------------------------------------


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> np.ndarray:
    """Reliability table ``(bins used, 3)``: mean probability, share of kin, number of pairs.

    Args:
        labels: ``(n,)``, 1 for kin, 0 for strangers.
        probabilities: ``(n,)`` in [0, 1], of kin.
        bins: of equal width over [0, 1]; empty ones are left out.
    """
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    # (n,) the bin of each pair; a probability of 1 belongs to the last one
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    used = count > 0
    mean = np.bincount(index, probabilities, bins)[used] / count[used]
    share = np.bincount(index, labels, bins)[used] / count[used]
    return np.column_stack([mean, share, count[used]])


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015), in [0, 1].

    Args:
        labels: ``(n,)``, 1 for kin, 0 for strangers.
        probabilities: ``(n,)`` in [0, 1], of kin.
        bins: of equal width over [0, 1].
    """
    return table_error(reliability(labels, probabilities, bins))


def table_error(table: np.ndarray) -> float:
    """The calibration error of a table ``(bins, 3)`` that :func:`reliability` gave."""
    mean, share, count = np.transpose(table)
    return float((np.abs(mean - share) * count).sum() / count.sum())


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared difference of probability and outcome (Brier, 1950), in [0, 1]."""
    difference = np.asarray(probabilities, float) - np.asarray(labels, float)
    return float(np.mean(difference**2))


def fit_logistic(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """(a, b) of the probability of a positive, 1 / (1 + exp(−(a + b · score))).

    Platt's scaling (1999): maximum likelihood, with both classes as likely beforehand, however
    many there are of each.
    """
    from sklearn.linear_model import LogisticRegression

    # standardise: of cosines that are all alike the solver sees no slope
    scores = np.asarray(scores, np.float64)
    middle, spread = scores.mean(), scores.std() or 1.0
    standardised = ((scores - middle) / spread)[:, None]  # (n, 1)
    model = LogisticRegression(C=NO_PENALTY, class_weight="balanced").fit(standardised, labels)
    # back to the scale of the scores
    slope = float(model.coef_[0, 0]) / spread
    intercept = float(model.intercept_[0]) - slope * middle
    return float(round(intercept, 4)), float(round(slope, 4))


def fusion_weights(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """What each of several scores weighs in their sum: float64 ``(k,)``, at least 0, sum 1.

    Linear fusion by logistic regression (Brümmer and du Preez, Computer Speech & Language 2006). A
    score that would be subtracted weighs nothing.

    Args:
        labels: ``(n,)``, 1 for kin, 0 for strangers.
        scores: ``(n, k)``, each on a scale of its own.
    """
    from sklearn.linear_model import LogisticRegression

    scores = np.asarray(scores, np.float64)
    # a score that says the same of all pairs has no spread, but for rounding
    spreads = np.where(np.ptp(scores, axis=0) > 0, scores.std(0), 1.0)
    standardised = (scores - scores.mean(0)) / spreads
    # the penalty is nothing beside many pairs, and keeps a few that are told apart in bounds
    model = LogisticRegression(class_weight="balanced").fit(standardised, labels)
    slopes = np.maximum(model.coef_[0], 0) / spreads
    if not slopes.any():
        slopes = np.ones(len(slopes))
    return slopes / slopes.sum()


# --- similarity ---------------------------------------------------------------------------------


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine similarity row by row, ``(n, d)`` and ``(n, d)`` to ``(n,)`` in [−1, 1]."""
    return (normalise(a) * normalise(b)).sum(-1)


def csls(a: np.ndarray, b: np.ndarray, cohort: np.ndarray, neighbours: int = 10) -> np.ndarray:
    """Cosine minus what either side has with its nearest neighbours in a cohort, on average.

    Half the cross-domain similarity local scaling of Conneau et al. (ICLR 2018); in speaker
    verification, the shift of adaptive score normalisation. A common kind of face is near many
    strangers, a rare one near none: the same cosine says less of the first.

    Args:
        a: embeddings ``(..., d)`` of the first sides.
        b: embeddings ``(..., d)`` of the second sides.
        cohort: embeddings ``(members, d)`` of people who are in none of the pairs.
        neighbours: how many of the cohort count; all of a smaller one.

    Returns:
        ``(...)``, one number a pair.
    """
    return cosine(a, b) - (crowd(a, cohort, neighbours) + crowd(b, cohort, neighbours)) / 2


def crowd(embeddings: np.ndarray, cohort: np.ndarray, neighbours: int = 10) -> np.ndarray:
    """Mean cosine with the nearest members of a cohort: how common a kind of face is.

    Args:
        embeddings: ``(..., d)``.
        cohort: embeddings ``(members, d)``.
        neighbours: how many of the cohort count; all of a smaller one.

    Returns:
        ``(...)``, one number an embedding.
    """
    nearest = min(neighbours, len(cohort))
    cosines = normalise(embeddings) @ normalise(cohort).T  # (..., members)
    return np.partition(cosines, -nearest, -1)[..., -nearest:].mean(-1)


def near_keys(identity: np.ndarray, own: np.ndarray) -> np.ndarray:
    """What :func:`mean_of_near` compares photos by: two embeddings of each, side by side.

    The cosine of two keys is the weighted mean of both encoders' cosines. Photos of one person are
    near each other under either, and each tells others apart that the other does not.

    Args:
        identity: embeddings of n photos by an encoder of identity, of length 1, ``(n, k)``.
        own: those of the encoder whose embeddings are averaged, of length 1, ``(n, d)``.

    Returns:
        ``(n, k + d)``, of length 1.
    """
    share = NEAR_IDENTITY
    return np.concatenate([share**0.5 * identity, (1 - share) ** 0.5 * own], axis=1)


def mean_of_near(embeddings: np.ndarray, keys: np.ndarray, least: float) -> np.ndarray:
    """Each photo's embedding replaced by the mean over the photos that look like it.

    Where it is sure enough that two photos show one person, both may speak for them. How sure that
    is, is a logistic function of the cosine of their keys.

    Args:
        embeddings: of n photos, ``(n, d)``.
        keys: of the same photos, of length 1, ``(n, k)``: of :func:`near_keys`.
        least: cosine of two keys at which the other photo weighs half as much as the photo itself.

    Returns:
        ``(n, d)``, of length 1 where the embeddings of a photo and of those near it agree, else
        shorter.
    """
    means = np.empty_like(embeddings)
    for start in range(0, len(keys), NEAR_CHUNK):
        chunk = slice(start, start + NEAR_CHUNK)
        # weights of all photos for each photo of the chunk: (chunk, n)
        weights = logistic((keys[chunk] @ keys.T - least) / NEAR_SOFTNESS)
        rows = np.arange(len(weights))
        weights[rows, start + rows] = 1.0
        means[chunk] = weights @ embeddings / weights.sum(1, keepdims=True)
    return means


def logistic(log_odds: np.ndarray) -> np.ndarray:
    """The probability of log-odds, however large they are."""
    return (1 + np.tanh(log_odds / 2)) / 2


def normalise(embeddings: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.maximum(lengths, LEAST_LENGTH)
