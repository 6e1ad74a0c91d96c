"""Every number against scikit-learn, against arithmetic by hand, and against what must hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score, roc_curve

from utils.scoring import metrics

COUNT = 30
LABELS = arrays(np.int64, COUNT, elements=st.integers(0, 1)).filter(
    lambda labels: 0 < labels.sum() < COUNT
)
SCORES = arrays(np.int64, COUNT, elements=st.integers(-8, 8))  # few levels, so many ties
WEIGHTS = arrays(np.int64, COUNT, elements=st.integers(1, 5))
modestly = settings(max_examples=30, deadline=None)


def drawn(count=400, shift=1.0, seed=0):
    """Labels, and scores of which the kin's lie ``shift`` standard deviations higher."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    return labels, rng.normal(size=count) + shift * labels


# --- area under the curve -----------------------------------------------------------------------


def test_auc_by_hand():
    assert metrics.roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert metrics.roc_auc([0, 1], [0.1, 0.2]) == 1
    assert metrics.roc_auc([1, 0], [0.1, 0.2]) == 0
    assert metrics.roc_auc([0, 1, 1, 0], [5, 5, 5, 5]) == 0.5


@modestly
@given(LABELS, SCORES, WEIGHTS)
def test_auc_is_that_of_scikit_learn_with_ties_and_weights(labels, scores, weights):
    assert_allclose(metrics.roc_auc(labels, scores), roc_auc_score(labels, scores), atol=1e-12)
    assert_allclose(
        metrics.roc_auc(labels, scores, weights),
        roc_auc_score(labels, scores, sample_weight=weights),
        atol=1e-12,
    )


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_auc_of_one_class_is_not_a_number(labels):
    assert np.isnan(metrics.roc_auc(labels, np.arange(len(labels))))


def test_auc_refuses_scores_that_are_not_numbers():
    with pytest.raises(ValueError, match="scores contain NaN"):
        metrics.roc_auc([0, 1], [0.5, np.nan])


def test_auc_takes_infinite_scores():
    assert metrics.roc_auc([0, 0, 1, 1], [-np.inf, 0, np.inf, np.inf]) == 1


# --- its interval over families -----------------------------------------------------------------


def weights_by_hand(a, b):
    """How often each pair counts in each of 50 resamplings of six families, with the seed 9."""
    for times in np.random.default_rng(9).multinomial(6, np.full(6, 1 / 6), 50):
        yield [times[i] if i == j else times[i] * times[j] for i, j in zip(a, b, strict=True)]


def test_interval_surrounds_the_value_and_is_the_same_for_the_same_seed_only():
    labels, scores = drawn()
    families = np.arange(400) % 40
    first, again, another = (
        metrics.auc_interval(labels, scores, families, families, 200, seed) for seed in (3, 3, 4)
    )
    assert first == again
    assert (first.low, first.high) != (another.low, another.high)
    assert first.value == metrics.roc_auc(labels, scores)
    assert 0 < first.low < first.value < first.high < 1


def test_family_drawn_twice_counts_its_pairs_twice_and_pairs_across_families_by_the_product():
    labels, scores = drawn(60)
    a, b = np.random.default_rng(5).integers(6, size=(2, 60))
    by_hand = []
    for weights in weights_by_hand(a, b):
        by_hand.append(roc_auc_score(np.repeat(labels, weights), np.repeat(scores, weights)))
    names = np.array([f"F{number:04d}" for number in range(6)])
    interval = metrics.auc_interval(labels, scores, names[a], names[b], resamples=50, seed=9)
    assert_allclose([interval.low, interval.high], np.percentile(by_hand, [2.5, 97.5]), atol=1e-12)


def test_interval_covers_the_true_value_about_as_often_as_it_says():
    truth = norm.cdf(1 / np.sqrt(2))
    families = np.repeat(np.arange(50), 6)
    covered = 0
    for seed in range(100):
        interval = metrics.auc_interval(*drawn(300, seed=seed), families, families, 100)
        covered += interval.low <= truth <= interval.high
    assert 88 <= covered <= 99


def test_interval_is_wider_when_the_pairs_of_a_family_are_alike():
    labels, scores = drawn(40)
    labels, scores = np.repeat(labels, 10), np.repeat(scores, 10)
    families, alone = np.repeat(np.arange(40), 10), np.arange(400)
    together = metrics.auc_interval(labels, scores, families, families, 200)
    apart = metrics.auc_interval(labels, scores, alone, alone, 200)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_one_family_leaves_nothing_to_resample():
    labels, scores = drawn(20)
    interval = metrics.auc_interval(labels, scores, np.zeros(20), np.zeros(20), 10)
    assert interval.low == interval.value == interval.high


def test_gain_over_itself_is_exactly_zero():
    rng = np.random.default_rng(0)
    labels, scores, families = rng.integers(0, 2, 60), rng.random(60), rng.integers(0, 6, (2, 60))
    gain = metrics.auc_gain(labels, scores, scores, *families, resamples=50)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_gain_of_a_better_score_excludes_zero_where_single_intervals_overlap():
    rng = np.random.default_rng(0)
    a = np.repeat(np.arange(30), 40)
    labels = np.tile([0, 1], 600)
    b = np.where(labels == 1, a, (a + 1) % 30)
    # kin are hard to tell in some families, for both scores alike
    hardness = rng.normal(0, 1, 30)[a] * labels
    baseline = labels + hardness + rng.normal(0, 1, 1200)
    better = baseline + 0.3 * labels
    gain = metrics.auc_gain(labels, better, baseline, a, b, resamples=200)
    assert gain.low > 0
    of_baseline = metrics.auc_interval(labels, baseline, a, b, 200)
    of_better = metrics.auc_interval(labels, better, a, b, 200)
    assert of_baseline.high > of_better.low
    assert gain.value == pytest.approx(roc_auc_score(labels, better) - of_baseline.value)


def test_interval_is_shown_and_exported_rounded():
    interval = metrics.Interval(np.float32(0.73649), 0.7, 0.77777)
    assert str(interval) == "0.736 [0.700, 0.778]"
    assert interval.to_dict() == {"value": 0.7365, "low": 0.7, "high": 0.7778}
    assert interval.rounded() == metrics.Interval(0.7365, 0.7, 0.7778)
    assert all(type(number) is float for number in interval.to_dict().values())


# --- at a threshold -----------------------------------------------------------------------------


def test_best_threshold_lies_halfway_between_two_scores():
    assert metrics.best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.4)
    assert metrics.best_threshold([1, 1, 0, 1], [3, 4, 1, 2]) == 1.5


def test_of_equally_good_thresholds_the_middle_one_is_best():
    # 1.5, 3.5 and 5.5 each decide one more pair rightly than they decide wrongly
    labels, scores = [0, 1, 0, 1, 0, 1], [1, 2, 3, 4, 5, 6]
    assert metrics.best_threshold(labels, scores) == 3.5


def test_best_threshold_accepts_everything_when_scores_tell_nothing():
    assert metrics.best_threshold([1, 0, 1, 0], [0.1, 0.5, 0.2, 0.6]) == pytest.approx(0.1)


@modestly
@given(LABELS, SCORES)
def test_no_threshold_is_better_than_the_best(labels, scores):
    best = balanced_accuracy_score(labels, scores >= metrics.best_threshold(labels, scores))
    accuracies = [balanced_accuracy_score(labels, scores >= level) for level in np.unique(scores)]
    assert_allclose(best, max(accuracies), atol=1e-12)


def test_score_at_the_threshold_means_kin():
    assert metrics.accuracy([1, 0], [0.5, 0.49], 0.5) == 1
    assert metrics.error_rates([1, 0], [0.5, 0.5], 0.5) == (1, 0)


def test_error_rates_by_hand():
    labels, scores = [0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9, 0.4, 0.8]
    assert metrics.error_rates(labels, scores, 0.5) == (0.25, 0.5)
    assert metrics.accuracy(labels, scores, 0.5) == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("labels", "scores", "rate"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], 1),
        ([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], 0.5),
        ([0, 1, 0, 1], [2, 2, 2, 2], 0.5),
        ([0, 0, 0, 0, 1, 1, 1, 1], [1, 2, 3, 5, 4, 6, 7, 8], 0.25),
    ],
)
def test_equal_error_rate_by_hand(labels, scores, rate):
    assert metrics.equal_error_rate(labels, scores) == pytest.approx(rate)


@modestly
@given(LABELS, SCORES)
def test_equal_error_rate_is_that_of_scikit_learns_curve(labels, scores):
    false_accept, true_accept, _ = roc_curve(labels, scores, drop_intermediate=False)
    gap = false_accept - (1 - true_accept)  # rises along the curve, from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    by_hand = false_accept[after - 1] + share * (false_accept[after] - false_accept[after - 1])
    assert_allclose(metrics.equal_error_rate(labels, scores), by_hand, atol=1e-12)


@modestly
@given(LABELS, SCORES)
def test_both_errors_balance_at_the_equal_error_threshold(labels, scores):
    threshold = metrics.equal_error_threshold(labels, scores)
    rate = metrics.equal_error_rate(labels, scores)
    assert scores.min() <= threshold <= scores.max()
    # a step lower more are accepted, a step higher more are rejected
    levels = np.unique(scores)
    accepted, rejected = metrics.error_rates(labels, scores, levels[levels <= threshold][-1])
    assert accepted + 1e-9 >= rate >= rejected - 1e-9
    above = np.nextafter(threshold, np.inf)
    accepted, rejected = metrics.error_rates(labels, scores, above)
    assert accepted - 1e-9 <= rate <= rejected + 1e-9


def test_equal_error_threshold_by_hand():
    # nothing between 2 and 5 is wrong
    assert metrics.equal_error_threshold([0, 0, 1, 1], [1, 2, 5, 7]) == 5
    assert metrics.equal_error_threshold([0, 1, 0, 1], [1, 2, 3, 4]) == 3


def test_equal_errors_of_two_normal_distributions_are_in_the_middle():
    labels, scores = drawn(40_000, shift=1.5)
    threshold, rate = metrics.equal_error_threshold(labels, scores), norm.cdf(-0.75)
    assert_allclose(threshold, 0.75, atol=0.03)
    assert_allclose(metrics.equal_error_rate(labels, scores), rate, atol=0.01)
    assert_allclose(metrics.error_rates(labels, scores, threshold), rate, atol=0.01)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_errors_of_one_class_do_not_balance(labels):
    assert np.isnan(metrics.equal_error_rate(labels, [1, 2, 3]))
    assert np.isnan(metrics.equal_error_threshold(labels, [1, 2, 3]))


# --- intervals of rates over families -----------------------------------------------------------


def equal_error(seed=3):
    """The interval of the equal error rate of 400 pairs, within and across 20 families."""
    labels, scores = drawn()
    a = np.arange(400) // 2 % 20
    b = np.where(labels, a, (a + 7) % 20)
    return metrics.equal_error_interval(labels, scores, a, b, 100, seed)


def rate(seed=3):
    """The interval of a share of 400 pairs, within and across 20 families."""
    outcomes = np.random.default_rng(1).random(400) < 0.3
    a = np.arange(400) // 2 % 20
    b = np.where(np.arange(400) % 2, a, (a + 7) % 20)
    return metrics.rate_interval(outcomes, a, b, 100, seed)


@pytest.mark.parametrize("interval", [equal_error, rate])
def test_interval_of_a_rate_surrounds_it_and_is_the_same_for_the_same_seed_only(interval):
    first, again, another = interval(), interval(), interval(seed=4)
    assert 0 < first.low < first.value < first.high < 1
    assert again == first
    assert another.value == first.value
    assert (another.low, another.high) != (first.low, first.high)


def test_family_drawn_twice_counts_twice_in_a_rate_and_in_the_equal_error_rate():
    labels, scores = drawn(80)
    a, b = np.random.default_rng(5).integers(6, size=(2, 80))
    outcomes, rates, errors = scores > 0.4, [], []
    for weights in weights_by_hand(a, b):
        rates.append(np.repeat(outcomes, weights).mean())
        resampled = np.repeat(labels, weights), np.repeat(scores, weights)
        errors.append(metrics.equal_error_rate(*resampled))
    of_rate = metrics.rate_interval(outcomes, a, b, resamples=50, seed=9)
    of_error = metrics.equal_error_interval(labels, scores, a, b, resamples=50, seed=9)
    assert of_rate.value == outcomes.mean()
    assert of_error.value == metrics.equal_error_rate(labels, scores)
    for interval, samples in ((of_rate, rates), (of_error, errors)):
        expected = np.percentile(samples, [2.5, 97.5])
        assert_allclose([interval.low, interval.high], expected, atol=1e-12)


def test_several_rates_at_once_are_those_of_each():
    outcomes = np.random.default_rng(0).random((40, 3)) < [0.1, 0.5, 0.9]
    a, b = np.random.default_rng(5).integers(6, size=(2, 40))
    table = metrics.rate_intervals(outcomes, a, b, resamples=20)
    assert table.shape == (3, 3)
    for row, column in zip(table.tolist(), outcomes.T, strict=True):
        assert metrics.Interval(*row) == metrics.rate_interval(column, a, b, resamples=20)


def test_families_that_lack_a_kind_leave_the_interval_a_number():
    a = np.arange(90) % 3
    labels = (a == 0).astype(int)  # kin in one family of three: many a resampling has none
    scores = np.random.default_rng(0).normal(labels, 1)
    error = metrics.equal_error_interval(labels, scores, a, a, 100)
    assert 0 <= error.low <= error.value <= error.high <= 1
    # pairs of two families, of which often neither is drawn
    across = metrics.rate_interval(scores > 0.5, np.zeros(90), np.ones(90), 100)
    assert across.low == across.value == across.high == (scores > 0.5).mean()


@pytest.mark.parametrize("share", [0, 1])
def test_rate_that_is_always_the_same_has_an_interval_of_nothing(share):
    families = np.arange(40) % 5
    interval = metrics.rate_interval(np.full(40, share, bool), families, families, 20)
    assert (interval.value, interval.low, interval.high) == (share, share, share)


# --- probabilities ------------------------------------------------------------------------------


def test_reliability_by_hand():
    table = metrics.reliability([0, 1, 1, 1], [0.1, 0.2, 0.7, 1.0], bins=2)
    assert_allclose(table, [[0.15, 0.5, 2], [0.85, 1, 2]])


def test_reliability_leaves_out_empty_bins_and_keeps_both_ends():
    table = metrics.reliability([0, 1], [0.0, 1.0])
    assert_allclose(table, [[0, 0, 1], [1, 1, 1]])


def test_calibration_error_by_hand():
    error = metrics.calibration_error([0, 1, 1, 1], [0.1, 0.2, 0.7, 1.0], bins=2)
    assert error == pytest.approx(0.25)


def test_calibrated_probabilities_have_next_to_no_error():
    rng = np.random.default_rng(0)
    probabilities = rng.random(50_000)
    labels = rng.random(50_000) < probabilities
    assert metrics.calibration_error(labels, probabilities) < 0.01
    assert metrics.calibration_error(labels, probabilities**3) > 0.1


@modestly
@given(LABELS, arrays(np.float64, COUNT, elements=st.floats(0, 1)))
def test_brier_and_reliability_hold_for_any_probabilities(labels, probabilities):
    brier = metrics.brier(labels, probabilities)
    assert_allclose(brier, brier_score_loss(labels, probabilities), atol=1e-12)
    mean, share, count = metrics.reliability(labels, probabilities).T
    assert count.sum() == COUNT and (count > 0).all()
    assert_allclose([mean @ count, share @ count], [probabilities.sum(), labels.sum()], atol=1e-9)
    assert 0 <= metrics.calibration_error(labels, probabilities) <= 1


def test_scores_weigh_as_much_as_they_say_whatever_their_scale():
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    # the log-odds of two equal normals is their distance over their variance
    noise = rng.normal(size=(4000, 2)) * [1.0, 2.0]
    scores = labels[:, None] + noise
    weights = metrics.fusion_weights(labels, scores)
    assert weights == pytest.approx([0.8, 0.2], abs=0.05)
    assert weights.sum() == pytest.approx(1)
    rescaled = metrics.fusion_weights(labels, scores * [1.0, 10.0] + [5.0, -3.0])
    assert rescaled == pytest.approx(weights / [1, 10] / np.sum(weights / [1, 10]), rel=1e-3)


def test_score_that_would_be_subtracted_weighs_nothing():
    rng = np.random.default_rng(1)
    labels = np.arange(600) % 2
    good = labels + rng.normal(size=600)
    assert metrics.fusion_weights(labels, np.column_stack([good, -good + 3]))[1] == 0
    noise = rng.normal(size=600)
    both = np.column_stack([-labels + noise, -labels - noise])
    assert_allclose(metrics.fusion_weights(labels, both), [0.5, 0.5])


def test_scores_that_tell_all_apart_or_say_nothing_have_weights():
    labels = np.array([0, 0, 1, 1])
    scores = np.column_stack([labels * 0.1, labels * 0.1, np.full(4, 0.7)])
    assert_allclose(metrics.fusion_weights(labels, scores), [0.5, 0.5, 0], atol=1e-6)
    assert_allclose(metrics.fusion_weights(labels, np.ones((4, 2))), [0.5, 0.5])


# --- similarity ---------------------------------------------------------------------------------


def test_cosine_by_hand():
    a, b = np.array([[3.0, 4], [1, 0], [1, 1]]), np.array([[4.0, 3], [0, 5], [-2, -2]])
    assert_allclose(metrics.cosine(a, b), [0.96, 0, -1], atol=1e-12)


def test_csls_takes_from_the_cosine_what_each_side_has_with_its_nearest_of_the_cohort():
    a, b = np.array([[3.0, 4], [1, 0]]), np.array([[4.0, 3], [0, 5]])
    cohort = np.array([[1.0, 0], [0, 2], [-1, 0]])  # cosines with a: 0.6, 0.8, −0.6 and 1, 0, −1
    expected = [0.96 - (0.7 + 0.7) / 2, 0 - (0.5 + 0.5) / 2]
    assert_allclose(metrics.csls(a, b, cohort, neighbours=2), expected, atol=1e-12)
    assert_allclose(metrics.csls(b, a, cohort, neighbours=2), expected, atol=1e-12)
    assert_allclose(metrics.csls(a[0], b[0], cohort, 1), 0.96 - 0.8, atol=1e-12)


def test_csls_takes_the_whole_of_a_cohort_that_is_smaller_and_any_shape():
    rng = np.random.default_rng(0)
    a, b, cohort = rng.normal(size=(2, 5, 4)), rng.normal(size=4), rng.normal(size=(6, 4))
    mean = metrics.normalise(cohort).mean(0)
    crowd = metrics.normalise(a) @ mean + metrics.normalise(b) @ mean
    scores = metrics.csls(a, b, cohort)
    assert scores.shape == (2, 5)
    assert_allclose(scores, metrics.cosine(a, b) - crowd / 2, atol=1e-12)


def test_csls_tells_kin_among_faces_that_are_near_everybody():
    rng = np.random.default_rng(1)
    centre = np.r_[4.0, np.zeros(15)]
    cohort = centre + rng.normal(size=(40, 16))
    # half of the people look like most of the cohort
    common = rng.random(600) < 0.5
    a = rng.normal(size=(600, 16)) + common[:, None] * centre
    b = rng.normal(size=(600, 16)) + common[:, None] * centre
    kin = rng.random(600) < 0.5
    b[kin] = 0.65 * b[kin] + 0.35 * a[kin]
    by_cosine = metrics.roc_auc(kin, metrics.cosine(a, b))
    assert metrics.roc_auc(kin, metrics.csls(a, b, cohort)) > by_cosine + 0.05


def test_photo_is_averaged_with_those_whose_keys_are_near_its_own(monkeypatch):
    monkeypatch.setattr(metrics, "NEAR_SOFTNESS", 0.005)  # a hard limit, nearly
    rows = np.array([[1.0, 0], [0, 1], [0.6, 0.8], [-1, 0]])
    keys = np.array([[1.0, 0], [0.8, 0.6], [0, 1], [0, -1]])
    # the second is near the first (0.8) and less near the third (0.6)
    near = metrics.mean_of_near(rows, keys, 0.7)
    assert_allclose(near, [[0.5, 0.5], [0.5, 0.5], [0.6, 0.8], [-1, 0]], atol=1e-7)
    wide = metrics.mean_of_near(rows, keys, 0.55)
    assert_allclose(wide[:3], [[0.5, 0.5], [1.6 / 3, 0.6], [0.3, 0.9]], atol=1e-4)
    # itself always counts
    assert_allclose(metrics.mean_of_near(rows, 0 * keys, 0.5), rows)
    # a chunk at a time, whatever is left for the last
    monkeypatch.setattr(metrics, "NEAR_CHUNK", 3)
    assert_allclose(metrics.mean_of_near(rows, keys, 0.55), wide, rtol=1e-12)


@pytest.mark.parametrize(("steps", "weight"), [(0, 0.5), (2, 0.880797), (-2, 0.119203)])
def test_near_photo_weighs_by_a_logistic_function_of_how_near_it_is(steps, weight):
    rows, keys = np.eye(2), np.array([[1.0, 0], [0.8, 0.6]])
    least = 0.8 - steps * metrics.NEAR_SOFTNESS
    expected = np.array([1, weight]) / (1 + weight)
    assert_allclose(metrics.mean_of_near(rows, keys, least)[0], expected, atol=1e-6)


def test_cosine_of_keys_is_the_weighted_mean_of_both_encoders():
    rng = np.random.default_rng(5)
    identity, own = (metrics.normalise(rng.normal(size=(6, d))) for d in (3, 7))
    keys = metrics.near_keys(identity, own)
    expected = 0.4 * identity @ identity.T + 0.6 * own @ own.T
    assert_allclose(keys @ keys.T, expected, atol=1e-12)


def test_normalised_rows_have_length_one_and_zeros_stay_zeros():
    assert_allclose(metrics.normalise(np.array([[3.0, 4], [0, 0]])), [[0.6, 0.8], [0, 0]])


def test_logistic_fit_finds_the_curve_that_drew_the_labels_whatever_the_classes_weigh():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=50_000)
    labels = rng.random(len(scores)) < 1 / (1 + np.exp(-(3 * scores - 2)))
    shift, slope = metrics.fit_logistic(labels, scores)
    prior = np.log(labels.mean() / (1 - labels.mean()))  # balancing takes the classes' odds out
    assert slope == pytest.approx(3, abs=0.1) and shift == pytest.approx(-2 - prior, abs=0.1)
