"""Answers to the exercises of lesson 06, as students write them."""

from collections import Counter

import numpy as np
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

# --- roc_point ----------------------------------------------------------------------------------


def point_by_counting(labels, scores, threshold):
    strangers = kin = 0
    for label, score in zip(labels, scores, strict=True):
        if score >= threshold:
            kin += label == 1
            strangers += label == 0
    return [strangers / sum(labels == 0), kin / sum(labels == 1)]


def point_by_products(labels, scores, threshold):
    accepted = np.asarray(scores) >= threshold
    return np.array(
        [(accepted * (1 - labels)).sum() / (1 - labels).sum(), accepted @ labels / labels.sum()]
    )


def point_by_errors(labels, scores, threshold):
    rejected = scores < threshold
    return 1 - np.mean(rejected[labels == 0]), 1 - np.mean(rejected[labels == 1])


def point_strict(labels, scores, threshold):
    accepted = scores > threshold
    return accepted[labels == 0].mean(), accepted[labels == 1].mean()


def point_swapped(labels, scores, threshold):
    return point_by_errors(labels, scores, threshold)[::-1]


def point_with_false_rejects(labels, scores, threshold):
    accepted = scores >= threshold
    return accepted[labels == 0].mean(), 1 - accepted[labels == 1].mean()


def point_of_all_pairs(labels, scores, threshold):
    accepted = scores >= threshold
    return (accepted & (labels == 0)).mean(), (accepted & (labels == 1)).mean()


def point_in_numbers(labels, scores, threshold):
    accepted = scores >= threshold
    return (accepted & (labels == 0)).sum(), (accepted & (labels == 1)).sum()


def point_of_the_accepted(labels, scores, threshold):
    accepted = scores >= threshold
    return (labels[accepted] == 0).mean(), (labels[accepted] == 1).mean()


# --- cheapest_threshold -------------------------------------------------------------------------


def cheapest_by_loops(labels, scores, accept_cost, reject_cost):
    best, lowest = None, float("inf")
    for threshold in scores:
        cost = 0
        for label, score in zip(labels, scores, strict=True):
            if label == 0 and score >= threshold:
                cost += accept_cost
            elif label == 1 and score < threshold:
                cost += reject_cost
        if cost < lowest:
            best, lowest = threshold, cost
    return best


def cheapest_by_a_table(labels, scores, accept_cost, reject_cost):
    accepted = scores[None] >= scores[:, None]  # (thresholds, pairs)
    costs = accept_cost * (accepted & (labels == 0)).sum(1)
    costs = costs + reject_cost * (~accepted & (labels == 1)).sum(1)
    return float(scores[costs.argmin()])


def cheapest_by_min(labels, scores, accept_cost, reject_cost):
    def mean_cost(threshold):
        errors = np.where(labels == 0, (scores >= threshold) * accept_cost, 0.0)
        return (errors + (labels == 1) * (scores < threshold) * reject_cost).mean()

    return min(np.unique(scores), key=mean_cost)


def cheapest_strict(labels, scores, accept_cost, reject_cost):
    candidates = np.unique(scores)
    costs = [
        accept_cost * ((scores > t) & (labels == 0)).sum()
        + reject_cost * ((scores <= t) & (labels == 1)).sum()
        for t in candidates
    ]
    return candidates[np.argmin(costs)]


def cheapest_with_costs_swapped(labels, scores, accept_cost, reject_cost):
    return cheapest_by_min(labels, scores, reject_cost, accept_cost)


def cheapest_by_shares(labels, scores, accept_cost, reject_cost):
    candidates = np.unique(scores)
    costs = [
        accept_cost * (scores[labels == 0] >= t).mean()
        + reject_cost * (scores[labels == 1] < t).mean()
        for t in candidates
    ]
    return candidates[np.argmin(costs)]


def cheapest_place(labels, scores, accept_cost, reject_cost):
    accepted = scores[None] >= scores[:, None]
    costs = accept_cost * (accepted & (labels == 0)).sum(1)
    return np.argmin(costs + reject_cost * (~accepted & (labels == 1)).sum(1))


def cheapest_cost(labels, scores, accept_cost, reject_cost):
    accepted = scores[None] >= scores[:, None]
    costs = accept_cost * (accepted & (labels == 0)).sum(1)
    return (costs + reject_cost * (~accepted & (labels == 1)).sum(1)).min()


# --- expected_calibration_error -----------------------------------------------------------------


def calibration_by_bincount(labels, probabilities, bins=10):
    numbers = np.clip(np.floor(np.asarray(probabilities) * bins).astype(int), 0, bins - 1)
    gaps = np.bincount(numbers, np.asarray(probabilities) - labels, bins)
    return np.abs(gaps).sum() / len(labels)


def calibration_by_edges(labels, probabilities, bins=10):
    total, edges = 0, np.linspace(0, 1, bins + 1)
    for k in range(bins):
        inside = (probabilities >= edges[k]) & (probabilities < edges[k + 1])
        if k == bins - 1:
            inside |= probabilities == 1
        if inside.any():
            gap = abs(probabilities[inside].mean() - labels[inside].mean())
            total += inside.sum() * gap
    return np.float32(total / len(labels))


def calibration_by_digitize(labels, probabilities, bins=10):
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    place = np.digitize(probabilities, inner)
    parts = [
        abs(np.sum(probabilities[place == k]) - np.sum(labels[place == k])) for k in range(bins)
    ]
    return sum(parts) / len(probabilities)


def _numbers(probabilities, bins):
    return np.minimum((probabilities * bins).astype(int), bins - 1)


def calibration_unweighted(labels, probabilities, bins=10):
    place = _numbers(probabilities, bins)
    gaps = [
        abs(probabilities[place == k].mean() - labels[place == k].mean()) for k in np.unique(place)
    ]
    return np.mean(gaps)


def calibration_over_all_bins(labels, probabilities, bins=10):
    place = _numbers(probabilities, bins)
    gaps = [
        abs(probabilities[place == k].mean() - labels[place == k].mean()) for k in np.unique(place)
    ]
    return np.sum(gaps) / bins


def calibration_without_abs(labels, probabilities, bins=10):
    place = _numbers(probabilities, bins)
    return sum(
        (labels[place == k].mean() - probabilities[place == k].mean()) * (place == k).mean()
        for k in np.unique(place)
    )


def calibration_of_lower_bins(labels, probabilities, bins=10):
    place = np.digitize(probabilities, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    return np.abs(np.bincount(place, probabilities - labels)).sum() / len(labels)


def calibration_from_the_middle(labels, probabilities, bins=10):
    place = _numbers(probabilities, bins)
    middle = (place + 0.5) / bins
    return np.abs(np.bincount(place, middle - labels)).sum() / len(labels)


def calibration_loses_one(labels, probabilities, bins=10):
    edges, total = np.linspace(0, 1, bins + 1), 0
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (probabilities >= low) & (probabilities < high)
        total += abs((probabilities[inside] - labels[inside]).sum())
    return total / len(labels)


def calibration_with_a_bin_of_ones(labels, probabilities, bins=10):
    place = (probabilities * bins).astype(int)
    return np.abs(np.bincount(place, probabilities - labels)).sum() / len(labels)


def calibration_nan(labels, probabilities, bins=10):
    place = _numbers(probabilities, bins)
    total = 0
    for k in range(bins):
        inside = place == k
        total += inside.mean() * abs(
            probabilities[inside].sum() / inside.sum() - labels[inside].mean()
        )
    return total


def calibration_of_ten_bins(labels, probabilities, bins=10):
    return calibration_by_bincount(labels, probabilities)


def calibration_squared(labels, probabilities, bins=10):
    place = _numbers(probabilities, bins)
    return sum(
        (place == k).mean() * (probabilities[place == k].mean() - labels[place == k].mean()) ** 2
        for k in np.unique(place)
    )


def calibration_largest(labels, probabilities, bins=10):
    place = _numbers(probabilities, bins)
    return max(
        abs(probabilities[place == k].mean() - labels[place == k].mean()) for k in np.unique(place)
    )


# --- moved_probability --------------------------------------------------------------------------


def moved_by_scipy(probability, change):
    return expit(logit(probability) + change)


def moved_by_odds(probability, change):
    odds = probability / (1 - probability) * np.exp(change)
    return odds / (1 + odds)


def moved_by_two_logarithms(probability, change):
    log_odds = np.log(probability) - np.log(1 - probability) + change
    return np.exp(log_odds) / (np.exp(log_odds) + 1)


def moved_by_adding(probability, change):
    return probability + change


def moved_to_log_odds(probability, change):
    return np.log(probability / (1 - probability)) + change


def moved_odds(probability, change):
    return probability / (1 - probability) * np.exp(change)


def moved_by_factor(probability, change):
    odds = probability / (1 - probability) * change
    return odds / (1 + odds)


def moved_with_p_as_odds(probability, change):
    odds = probability * np.exp(change)
    return odds / (1 + odds)


def moved_upside_down(probability, change):
    return 1 / (1 + np.exp(np.log(probability / (1 - probability)) + change))


def moved_one_number_only(probability, change):
    import math

    return 1 / (1 + math.exp(-(math.log(probability / (1 - probability)) + change)))


# --- resampled_aucs -----------------------------------------------------------------------------


def aucs_by_loops(labels, scores, families_a, families_b, draws):
    aucs = []
    for draw in draws:
        times = Counter(draw)
        kin, strangers = [], []
        for label, score, a, b in zip(labels, scores, families_a, families_b, strict=True):
            count = times[a] if a == b else times[a] * times[b]
            (kin if label == 1 else strangers).append((score, count))
        won = total = 0.0
        for score, count in kin:
            for other, other_count in strangers:
                couples = count * other_count
                total += couples
                won += couples * ((score > other) + 0.5 * (score == other))
        aucs.append(won / total)
    return aucs


def _times(families, draw):
    return np.array([np.sum(np.asarray(draw) == family) for family in families])


def aucs_by_scikit_learn(labels, scores, families_a, families_b, draws):
    aucs = []
    for draw in draws:
        a, b = _times(families_a, draw), _times(families_b, draw)
        counts = np.where(families_a == families_b, a, a * b)
        used = counts > 0
        aucs.append(roc_auc_score(labels[used], scores[used], sample_weight=counts[used]))
    return tuple(aucs)


def aucs_by_repeating(labels, scores, families_a, families_b, draws):
    aucs = np.empty(len(draws))
    for number, draw in enumerate(draws):
        a, b = _times(families_a, draw), _times(families_b, draw)
        counts = np.where(families_a == families_b, a, a * b)
        many, kin = np.repeat(scores, counts), np.repeat(labels, counts) == 1
        difference = many[kin][:, None] - many[~kin]
        aucs[number] = (np.sign(difference) / 2 + 0.5).mean()
    return aucs


def _weighted(labels, scores, counts, tie=0.5):
    kin = labels == 1
    wins = (scores[kin][:, None] > scores[~kin]) + tie * (scores[kin][:, None] == scores[~kin])
    return counts[kin] @ wins @ counts[~kin] / (counts[kin].sum() * counts[~kin].sum())


def aucs_without_ties(labels, scores, families_a, families_b, draws):
    aucs = []
    for draw in draws:
        a, b = _times(families_a, draw), _times(families_b, draw)
        aucs.append(_weighted(labels, scores, np.where(families_a == families_b, a, a * b), 0))
    return aucs


def aucs_of_who_is_present(labels, scores, families_a, families_b, draws):
    aucs = []
    for draw in draws:
        used = np.isin(families_a, draw) & np.isin(families_b, draw)
        aucs.append(roc_auc_score(labels[used], scores[used]))
    return aucs


def aucs_with_squares(labels, scores, families_a, families_b, draws):
    return [
        _weighted(labels, scores, _times(families_a, draw) * _times(families_b, draw))
        for draw in draws
    ]


def aucs_with_sums(labels, scores, families_a, families_b, draws):
    aucs = []
    for draw in draws:
        a, b = _times(families_a, draw), _times(families_b, draw)
        aucs.append(_weighted(labels, scores, np.where(families_a == families_b, a, a + b)))
    return aucs


def aucs_of_the_first_family(labels, scores, families_a, families_b, draws):
    return [_weighted(labels, scores, _times(families_a, draw)) for draw in draws]


def aucs_unweighted(labels, scores, families_a, families_b, draws):
    return [roc_auc_score(labels, scores) for _ in draws]


def aucs_mean(labels, scores, families_a, families_b, draws):
    return np.mean(aucs_by_loops(labels, scores, families_a, families_b, draws))


RIGHT = {
    "roc_point": [point_by_counting, point_by_products, point_by_errors],
    "cheapest_threshold": [cheapest_by_loops, cheapest_by_a_table, cheapest_by_min],
    "expected_calibration_error": [
        calibration_by_bincount,
        calibration_by_edges,
        calibration_by_digitize,
    ],
    "moved_probability": [moved_by_scipy, moved_by_odds, moved_by_two_logarithms],
    "resampled_aucs": [aucs_by_loops, aucs_by_scikit_learn, aucs_by_repeating],
}
WRONG = {
    "roc_point": [
        (point_strict, "at the threshold is accepted"),
        (point_swapped, "strangers come first"),
        (point_with_false_rejects, "accepted, not rejected"),
        (point_of_all_pairs, "not by all pairs"),
        (point_in_numbers, "not numbers of pairs"),
        (point_of_the_accepted, "the other way round"),
    ],
    "cheapest_threshold": [
        (cheapest_strict, "at the threshold is accepted"),
        (cheapest_with_costs_swapped, "`accept_cost` is that of an accepted stranger"),
        (cheapest_by_shares, "not shares of each kind"),
        (cheapest_place, "not its place"),
        (cheapest_cost, "or its cost"),
    ],
    "expected_calibration_error": [
        (calibration_unweighted, "as often as it has pairs"),
        (calibration_over_all_bins, "an empty one not at all"),
        (calibration_without_abs, "absolute value"),
        (calibration_of_lower_bins, "upper bin"),
        (calibration_from_the_middle, "not its middle"),
        (calibration_loses_one, "is lost here"),
        (calibration_with_a_bin_of_ones, "not to one of its own"),
        (calibration_nan, "an empty bin has no mean"),
        (calibration_largest, "not the largest"),
        (calibration_of_ten_bins, "not always ten"),
        (calibration_squared, "not squared"),
    ],
    "moved_probability": [
        (moved_by_adding, "not to the probability"),
        (moved_to_log_odds, "come back from log-odds"),
        (moved_odds, "this is the odds"),
        (moved_by_factor, "e to the power of the change"),
        (moved_with_p_as_odds, "not p alone"),
        (moved_upside_down, "positive above one half"),
        (moved_one_number_only, "TypeError"),
    ],
    "resampled_aucs": [
        (aucs_without_ties, "ties count half"),
        (aucs_of_who_is_present, "drawn twice counts twice"),
        (aucs_with_squares, "not squared"),
        (aucs_with_sums, "not as their sum"),
        (aucs_of_the_first_family, "the first alone"),
        (aucs_unweighted, "the pairs count differently"),
        (aucs_mean, "one AUC for each draw"),
    ],
}
