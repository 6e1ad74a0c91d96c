"""Answers to the exercises of lesson 08."""

import numpy as np
import pandas as pd

NAMES = ("same person rejected", "strangers accepted", "relatives accepted")

# --- pair_distances -----------------------------------------------------------------------------


def scaled(a, b):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return 1 - np.einsum("ij,ij->i", a, b), np.sqrt(((a - b) ** 2).sum(1))


def by_the_identity(a, b):
    cosine = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.array([1 - cosine, np.sqrt(np.maximum(2 - 2 * cosine, 0))])


def looped(a, b):
    cosines, lengths = [], []
    for x, y in zip(a, b, strict=True):
        x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
        cosines.append(1 - float(x @ y))
        lengths.append(float(np.linalg.norm(x - y)))
    return [cosines, lengths]


def similarity(a, b):
    cosine, euclidean = scaled(a, b)
    return 1 - cosine, euclidean


def not_scaled(a, b):
    return scaled(a, b)[0], np.linalg.norm(a - b, axis=1)


def dot_product(a, b):
    return 1 - (a * b).sum(1), scaled(a, b)[1]


def squared(a, b):
    cosine, euclidean = scaled(a, b)
    return cosine, euclidean**2


def all_with_all(a, b):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return 1 - a @ b.T, np.sqrt(np.maximum(2 - 2 * a @ b.T, 0))


def one_length(a, b):
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return 1 - (a * b).sum(1), np.linalg.norm(a - b, axis=1)


# --- verification_errors ------------------------------------------------------------------------


def by_means(distance, kind, threshold):
    return {
        NAMES[0]: np.mean(distance[kind == "same"] > threshold),
        NAMES[1]: np.mean(distance[kind == "strangers"] <= threshold),
        NAMES[2]: np.mean(distance[kind == "relatives"] <= threshold),
    }


def by_counting(distance, kind, threshold):
    wrong = dict.fromkeys(["same", "strangers", "relatives"], 0)
    count = dict(wrong)
    for value, name in zip(distance, kind, strict=True):
        count[name] += 1
        wrong[name] += (value > threshold) if name == "same" else (value <= threshold)
    return dict(zip(NAMES, (wrong[name] / count[name] for name in wrong), strict=True))


def by_pandas(distance, kind, threshold):
    accepted = pd.Series(distance <= threshold).groupby(kind).mean()
    return {
        NAMES[0]: 1 - accepted["same"],
        NAMES[1]: accepted["strangers"],
        NAMES[2]: accepted["relatives"],
    }


def of_all_pairs(distance, kind, threshold):
    return {
        NAMES[0]: np.mean((distance > threshold) & (kind == "same")),
        NAMES[1]: np.mean((distance <= threshold) & (kind == "strangers")),
        NAMES[2]: np.mean((distance <= threshold) & (kind == "relatives")),
    }


def same_accepted(distance, kind, threshold):
    errors = by_means(distance, kind, threshold)
    return {**errors, NAMES[0]: 1 - errors[NAMES[0]]}


def below_only(distance, kind, threshold):
    return by_means(distance, kind, threshold - 1e-9)


def others_together(distance, kind, threshold):
    errors, other = by_means(distance, kind, threshold), kind != "same"
    share = np.mean(distance[other] <= threshold)
    return {**errors, NAMES[1]: share, NAMES[2]: share}


def three_numbers(distance, kind, threshold):
    return tuple(by_means(distance, kind, threshold).values())


# --- door_lock ----------------------------------------------------------------------------------


def tried_all(distance, kind, most):
    strangers = distance[kind == "strangers"]
    return max(t for t in distance if np.mean(strangers <= t) <= most)


def searched(distance, kind, most):
    strangers = np.sort(distance[kind == "strangers"])
    values = np.sort(distance)
    shares = np.searchsorted(strangers, values, side="right") / len(strangers)
    return values[shares <= most][-1]


def looped_lock(distance, kind, most):
    best = None
    for threshold in sorted(distance):
        accepted = sum(
            value <= threshold
            for value, name in zip(distance, kind, strict=True)
            if name == "strangers"
        )
        if accepted / list(kind).count("strangers") <= most:
            best = threshold
    return float(best)


def all_others(distance, kind, most):
    others = distance[kind != "same"]
    allowed = [t for t in distance if np.mean(others <= t) <= most]
    return max(allowed)


def below_most(distance, kind, most):
    strangers = distance[kind == "strangers"]
    return max(t for t in distance if np.mean(strangers <= t) < most)


def strangers_values(distance, kind, most):
    strangers = distance[kind == "strangers"]
    return max(t for t in strangers if np.mean(strangers <= t) <= most)


def quantile(distance, kind, most):
    return np.quantile(distance[kind == "strangers"], most)


def smallest(distance, kind, most):
    strangers = distance[kind == "strangers"]
    return min(t for t in distance if np.mean(strangers <= t) <= most)


def strictly_below(distance, kind, most):
    strangers = distance[kind == "strangers"]
    return max(t for t in distance if np.mean(strangers < t) <= most)


# --- identify -----------------------------------------------------------------------------------


def by_argmin(probe, gallery, names, threshold):
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    distances = 1 - unit @ (probe / np.linalg.norm(probe))
    best = distances.argmin()
    return names[best] if distances[best] <= threshold else "unknown"


def by_loop(probe, gallery, names, threshold):
    best, name = np.inf, "unknown"
    for row, person in zip(gallery, names, strict=True):
        distance = 1 - row @ probe / np.linalg.norm(row) / np.linalg.norm(probe)
        if distance <= threshold and distance < best:
            best, name = distance, person
    return name


def by_min(probe, gallery, names, threshold):
    def distance(number):
        lengths = np.linalg.norm(gallery[number]) * np.linalg.norm(probe)
        return 1 - np.dot(gallery[number], probe) / lengths

    best = min(range(len(names)), key=distance)
    return np.array(names)[best].item() if not distance(best) > threshold else "unknown"


def euclidean(probe, gallery, names, threshold):
    distances = np.linalg.norm(gallery - probe, axis=1)
    best = distances.argmin()
    return names[best] if distances[best] <= 10 * threshold else "unknown"


def dot_only(probe, gallery, names, threshold):
    best = int(np.argmax(gallery @ probe))
    return names[best] if by_argmin(probe, gallery, names, threshold) != "unknown" else "unknown"


def furthest(probe, gallery, names, threshold):
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    distances = 1 - unit @ (probe / np.linalg.norm(probe))
    worst = distances.argmax()
    return names[worst] if distances[worst] <= threshold else "unknown"


def no_unknown(probe, gallery, names, threshold):
    return by_argmin(probe, gallery, names, 2)


def at_is_unknown(probe, gallery, names, threshold):
    return by_argmin(probe, gallery, names, threshold - 1e-9)


def first_near_enough(probe, gallery, names, threshold):
    for row, person in zip(gallery, names, strict=True):
        if 1 - row @ probe / np.linalg.norm(row) / np.linalg.norm(probe) <= threshold:
            return person
    return "unknown"


def a_number(probe, gallery, names, threshold):
    name = by_argmin(probe, gallery, names, threshold)
    return names.index(name) if name in names else -1


# --- choose_and_measure -------------------------------------------------------------------------


def _accepted(table, kind, threshold):
    return (table["distance"][table["kind"] == kind] <= threshold).mean()


def _row(measured_on, threshold):
    return {
        "threshold": threshold,
        NAMES[0]: 1 - _accepted(measured_on, "same", threshold),
        NAMES[1]: _accepted(measured_on, "strangers", threshold),
        NAMES[2]: _accepted(measured_on, "relatives", threshold),
    }


def _gap(table, other, threshold):
    return abs(1 - _accepted(table, "same", threshold) - _accepted(table, other, threshold))


def by_pandas_tables(chosen_on, measured_on, others=("strangers", "relatives")):
    rows = {}
    for other in others:
        values = sorted(set(chosen_on["distance"]))
        gaps = [round(_gap(chosen_on, other, value), 9) for value in values]
        rows[other] = _row(measured_on, values[gaps.index(min(gaps))])
    return rows


def by_sorted_arrays(chosen_on, measured_on):
    rows = {}
    values = np.unique(chosen_on["distance"].to_numpy())

    def share(table, kind, thresholds):
        distances = np.sort(table.loc[table["kind"] == kind, "distance"].to_numpy())
        return np.searchsorted(distances, thresholds, side="right") / len(distances)

    for other in ("relatives", "strangers"):
        gap = np.abs(1 - share(chosen_on, "same", values) - share(chosen_on, other, values))
        threshold = values[np.flatnonzero(gap <= gap.min() + 1e-9)[0]]
        shares = [
            share(measured_on, kind, threshold) for kind in ("same", "strangers", "relatives")
        ]
        numbers = (threshold, 1 - shares[0], *shares[1:])
        rows[other] = dict(zip(("threshold", *NAMES), numbers, strict=True))
    return rows


def by_plain_loops(chosen_on, measured_on):
    def rate(table, kind, threshold):
        values = [v for k, v in zip(table["kind"], table["distance"], strict=True) if k == kind]
        return sum(v <= threshold for v in values) / len(values)

    answer = {}
    for other in ("strangers", "relatives"):
        best, chosen = 2.0, 0.0
        for threshold in sorted(chosen_on["distance"]):
            gap = abs(1 - rate(chosen_on, "same", threshold) - rate(chosen_on, other, threshold))
            if gap < best - 1e-9:
                best, chosen = gap, threshold
        answer[other] = {
            "threshold": chosen,
            NAMES[0]: 1 - rate(measured_on, "same", chosen),
            NAMES[1]: rate(measured_on, "strangers", chosen),
            NAMES[2]: rate(measured_on, "relatives", chosen),
        }
    return answer


def chosen_on_both(chosen_on, measured_on):
    return by_pandas_tables(pd.concat([chosen_on, measured_on]), measured_on)


def measured_where_chosen(chosen_on, measured_on):
    return by_pandas_tables(chosen_on, chosen_on)


def one_threshold(chosen_on, measured_on):
    row = by_pandas_tables(chosen_on, measured_on)["relatives"]
    return {"strangers": row, "relatives": row}


def largest_of_ties(chosen_on, measured_on):
    rows = {}
    for other in ("strangers", "relatives"):
        values = sorted(set(chosen_on["distance"]), reverse=True)
        gaps = [round(_gap(chosen_on, other, value), 9) for value in values]
        rows[other] = _row(measured_on, values[gaps.index(min(gaps))])
    return rows


def without_absolute_value(chosen_on, measured_on):
    rows = {}
    for other in ("strangers", "relatives"):
        values = np.unique(chosen_on["distance"])
        gaps = [
            1 - _accepted(chosen_on, "same", value) - _accepted(chosen_on, other, value)
            for value in values
        ]
        rows[other] = _row(measured_on, values[int(np.argmin(gaps))])
    return rows


def in_the_given_order(chosen_on, measured_on):
    rows = {}
    for other in ("strangers", "relatives"):
        part = chosen_on[chosen_on["kind"].isin(["same", other])]
        labels = (part["kind"] == "same").to_numpy()
        rejected = 1 - np.cumsum(labels) / labels.sum()  # as if the table were sorted
        accepted = np.cumsum(~labels) / (~labels).sum()
        place = int(np.argmin(np.abs(rejected - accepted)))
        rows[other] = _row(measured_on, part["distance"].iloc[place])
    return rows


def row_by_row(chosen_on, measured_on):
    """As if no two pairs had the same distance."""
    rows = {}
    for other in ("strangers", "relatives"):
        part = chosen_on[chosen_on["kind"].isin(["same", other])].sort_values(
            ["distance", "kind"], ascending=[True, False]
        )
        labels = (part["kind"] == "same").to_numpy()
        gaps = np.abs(1 - np.cumsum(labels) / labels.sum() - np.cumsum(~labels) / (~labels).sum())
        rows[other] = _row(measured_on, part["distance"].iloc[int(np.argmin(gaps.round(9)))])
    return rows


RIGHT = {
    "pair_distances": [scaled, by_the_identity, looped],
    "verification_errors": [by_means, by_counting, by_pandas],
    "door_lock": [tried_all, searched, looped_lock],
    "identify": [by_argmin, by_loop, by_min],
    "choose_and_measure": [by_pandas_tables, by_sorted_arrays, by_plain_loops],
}
WRONG = {
    "pair_distances": [
        (similarity, "0 in the same direction"),
        (dot_product, "a·b / (‖a‖·‖b‖)"),
        (not_scaled, "after scaling each row to length 1"),
        (squared, "the root of 2 times"),
        (all_with_all, "one cosine distance for each row"),
        (one_length, "however long the two are"),
    ],
    "verification_errors": [
        (of_all_pairs, "pairs of this kind"),
        (same_accepted, "count the rejected ones"),
        (below_only, "exactly at the threshold is accepted"),
        (others_together, "of three pairs of strangers"),
        (three_numbers, "return a dictionary"),
    ],
    "door_lock": [
        (all_others, "Only strangers count"),
        (strangers_values, "each value in `distance` may be the threshold"),
        (below_most, "exactly one third"),
        (quantile, "is the largest below 0.12"),
        (smallest, "is the largest below 0.12"),
        (strictly_below, "is the largest below 0.12"),
    ],
    "identify": [
        (euclidean, "the angle decides"),
        (dot_only, "in the direction of Cy"),
        (no_unknown, 'return "unknown"'),
        (at_is_unknown, "exactly the threshold is accepted"),
        (first_near_enough, "the nearest one is the answer"),
        (a_number, "Return the name"),
        (furthest, "smallest cosine distance"),
    ],
    "choose_and_measure": [
        (chosen_on_both, "Only pairs of `chosen_on` count"),
        (measured_where_chosen, "on `measured_on`"),
        (one_threshold, "thresholds of their own"),
        (largest_of_ties, "so the smaller one"),
        (without_absolute_value, "against relatives"),
        (in_the_given_order, "against strangers"),
        (row_by_row, "at 0.07, where a pair of one person and one of strangers lie"),
    ],
}
