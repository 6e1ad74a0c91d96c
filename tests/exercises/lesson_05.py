"""Answers to the exercises of lesson 05, as students write them."""

import numpy as np
from scipy.special import log_softmax, logsumexp
from scipy.special import softmax as scipy_softmax

# --- softmax ------------------------------------------------------------------------------------


def softmax_of_scipy(similarities, temperature):
    return scipy_softmax(similarities / temperature)


def softmax_in_place(similarities, temperature):
    x = np.array(similarities) / temperature
    x -= x.max()
    np.exp(x, out=x)
    return list(x / x.sum())


def softmax_by_differences(similarities, temperature):
    shares = []
    for one in similarities:
        shares.append(1 / sum(np.exp((other - one) / temperature) for other in similarities))
    return tuple(shares)


def softmax_overflows(similarities, temperature):
    powers = np.exp(similarities / temperature)
    return powers / powers.sum()


def softmax_times_temperature(similarities, temperature):
    x = similarities * temperature
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def softmax_without_sum(similarities, temperature):
    x = similarities / temperature
    return np.exp(x - x.max())


def softmax_spoils_its_input(similarities, temperature):
    similarities /= temperature
    similarities -= similarities.max()
    return np.exp(similarities) / np.exp(similarities).sum()


def softmax_shifts_before_dividing(similarities, temperature):
    powers = np.exp(similarities - similarities.max() / temperature)
    return powers / powers.sum()


# --- symmetric_loss -----------------------------------------------------------------------------


def symmetric_by_logsumexp(similarity):
    rows = logsumexp(similarity, axis=1) - np.diag(similarity)
    columns = logsumexp(similarity, axis=0) - np.diag(similarity)
    return 0.5 * (rows.mean() + columns.mean())


def symmetric_by_transposing(similarity):
    def one_way(matrix):
        return -np.mean(np.diagonal(log_softmax(matrix, axis=1)))

    return np.float32((one_way(similarity) + one_way(similarity.T)) / 2)


def symmetric_by_loops(similarity):
    n, losses = len(similarity), []
    for i in range(n):
        losses.append(-log_softmax(similarity[i])[i])
        losses.append(-log_softmax(similarity[:, i])[i])
    return np.array(np.mean(losses))


def symmetric_rows_alone(similarity):
    return np.mean(logsumexp(similarity, axis=1) - np.diag(similarity))


def symmetric_columns_alone(similarity):
    return np.mean(logsumexp(similarity, axis=0) - np.diag(similarity))


def symmetric_sum(similarity):
    return symmetric_rows_alone(similarity) + symmetric_columns_alone(similarity)


def symmetric_without_minus(similarity):
    return -symmetric_by_logsumexp(similarity)


def symmetric_without_diagonal(similarity):
    others = np.where(np.eye(len(similarity), dtype=bool), -np.inf, similarity)
    rows = logsumexp(others, axis=1) - np.diag(similarity)
    columns = logsumexp(others, axis=0) - np.diag(similarity)
    return (rows.mean() + columns.mean()) / 2


def symmetric_masked(similarity):
    return symmetric_by_logsumexp(similarity - 1e9 * np.eye(len(similarity)))


def symmetric_without_softmax(similarity):
    return -np.mean(np.diag(similarity))


def symmetric_overflows(similarity):
    powers = np.exp(similarity)
    rows = np.diag(powers) / powers.sum(1)
    columns = np.diag(powers) / powers.sum(0)
    return -(np.log(rows).mean() + np.log(columns).mean()) / 2


def symmetric_of_each(similarity):
    rows = logsumexp(similarity, axis=1) - np.diag(similarity)
    return (rows + logsumexp(similarity, axis=0) - np.diag(similarity)) / 2


# --- averaged_weights ---------------------------------------------------------------------------


def averaged_by_index(average, weights, decay):
    updated = []
    for layer in range(len(average)):
        updated.append(average[layer] * decay + weights[layer] * (1 - decay))
    return updated


def averaged_by_difference(average, weights, decay):
    return [a + (1 - decay) * (w - a) for a, w in zip(average, weights, strict=True)]


def averaged_as_tuple(average, weights, decay):
    return tuple(map(lambda a, w: (decay * a + (1 - decay) * w).tolist(), average, weights))


def averaged_the_other_way(average, weights, decay):
    return [(1 - decay) * a + decay * w for a, w in zip(average, weights, strict=True)]


def averaged_in_place(average, weights, decay):
    for a, w in zip(average, weights, strict=True):
        a *= decay
        a += (1 - decay) * w
    return average


def averaged_as_one_array(average, weights, decay):
    return decay * np.array(average) + (1 - decay) * np.array(weights)


def averaged_first_layer(average, weights, decay):
    return [decay * average[0] + (1 - decay) * weights[0], weights[1]]


def averaged_plain_mean(average, weights, decay):
    return [(a + w) / 2 for a, w in zip(average, weights, strict=True)]


# --- cohort_score -------------------------------------------------------------------------------


def cohort_by_partition(a, b, cohort, nearest=10):
    def crowding(side):
        cosines = side @ cohort.T
        return np.partition(cosines, -nearest, axis=1)[:, -nearest:].mean(1)

    return np.einsum("ij,ij->i", a, b) - crowding(a) / 2 - crowding(b) / 2


def cohort_by_loops(a, b, cohort, nearest=10):
    scores = []
    for x, y in zip(a, b, strict=True):
        of_x = sorted([x @ member for member in cohort], reverse=True)[:nearest]
        of_y = sorted([y @ member for member in cohort], reverse=True)[:nearest]
        scores.append(x @ y - (sum(of_x) + sum(of_y)) / (2 * nearest))
    return scores


def cohort_of_stacked_sides(a, b, cohort, nearest=10):
    cosines = -np.sort(-(np.stack([a, b]) @ cohort.T), axis=-1)
    return (a * b).sum(-1) - cosines[..., :nearest].mean(-1).mean(0)


def _crowding(side, cohort, nearest):
    return np.sort(side @ cohort.T, axis=1)[:, -nearest:].mean(1)


def cohort_sum_of_sides(a, b, cohort, nearest=10):
    return (a * b).sum(1) - _crowding(a, cohort, nearest) - _crowding(b, cohort, nearest)


def cohort_of_one_side(a, b, cohort, nearest=10):
    return (a * b).sum(1) - _crowding(a, cohort, nearest)


def cohort_added(a, b, cohort, nearest=10):
    return (a * b).sum(1) + (_crowding(a, cohort, nearest) + _crowding(b, cohort, nearest)) / 2


def cohort_of_the_farthest(a, b, cohort, nearest=10):
    sides = [np.sort(side @ cohort.T, axis=1)[:, :nearest].mean(1) for side in (a, b)]
    return (a * b).sum(1) - (sides[0] + sides[1]) / 2


def cohort_of_all(a, b, cohort, nearest=10):
    return (a * b).sum(1) - ((a @ cohort.T).mean(1) + (b @ cohort.T).mean(1)) / 2


def cohort_of_the_paper(a, b, cohort, nearest=10):
    return 2 * cohort_by_partition(a, b, cohort, nearest)


def cohort_of_ten(a, b, cohort, nearest=10):
    return cohort_by_partition(a, b, cohort, 2)


def cohort_of_all_pairs(a, b, cohort, nearest=10):
    return a @ b.T - (_crowding(a, cohort, nearest) + _crowding(b, cohort, nearest)) / 2


# --- supervised_contrastive ---------------------------------------------------------------------


def _log_shares(embeddings, temperature, scaled=True, without_itself=True):
    vectors = np.array(embeddings, float)
    if scaled:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T / temperature
    if without_itself:
        similarity = similarity - 1e12 * np.eye(len(vectors))
    return log_softmax(similarity, axis=1)


def supervised_by_loops(embeddings, families, temperature):
    log_shares, losses = _log_shares(embeddings, temperature), []
    for i, family in enumerate(families):
        mine = [log_shares[i, j] for j, f in enumerate(families) if f == family and j != i]
        if mine:
            losses.append(-np.mean(mine))
    return sum(losses) / len(losses)


def supervised_with_masked_array(embeddings, families, temperature):
    relatives = np.equal.outer(families, families)
    np.fill_diagonal(relatives, False)
    masked = np.ma.masked_array(_log_shares(embeddings, temperature), ~relatives)
    return float(-masked.mean(axis=1).mean())


def supervised_with_deleted_diagonal(embeddings, families, temperature):
    n = len(embeddings)
    x = np.asarray(embeddings, float)
    x = x / np.sqrt((x**2).sum(1))[:, None]
    off = ~np.eye(n, dtype=bool)
    logits = (x @ x.T / temperature)[off].reshape(n, n - 1)
    same = (families[:, None] == families)[off].reshape(n, n - 1)
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    chooses = same.any(1)
    return np.float64(-((log_p * same).sum(1)[chooses] / same.sum(1)[chooses]).mean())


def _mean_over(log_shares, families):
    relatives = (families[:, None] == families) & ~np.eye(len(families), dtype=bool)
    sums, counts = np.where(relatives, log_shares, 0).sum(1), relatives.sum(1)
    return -(sums[counts > 0] / counts[counts > 0]).mean()


def supervised_with_diagonal(embeddings, families, temperature):
    return _mean_over(_log_shares(embeddings, temperature, without_itself=False), families)


def supervised_without_scaling(embeddings, families, temperature):
    return _mean_over(_log_shares(embeddings, temperature, scaled=False), families)


def supervised_without_temperature(embeddings, families, temperature):
    return _mean_over(_log_shares(embeddings, 1), families)


def supervised_sum_over_relatives(embeddings, families, temperature):
    relatives = (families[:, None] == families) & ~np.eye(len(families), dtype=bool)
    return -np.where(relatives, _log_shares(embeddings, temperature), 0).sum(1).mean()


def supervised_log_of_the_sum(embeddings, families, temperature):
    relatives = (families[:, None] == families) & ~np.eye(len(families), dtype=bool)
    shares = np.where(relatives, np.exp(_log_shares(embeddings, temperature)), 0).sum(1)
    return -np.log(shares).mean()


def supervised_mean_over_all_photos(embeddings, families, temperature):
    relatives = (families[:, None] == families) & ~np.eye(len(families), dtype=bool)
    sums = np.where(relatives, _log_shares(embeddings, temperature), 0).sum(1)
    return -(sums / np.maximum(relatives.sum(1), 1)).mean()


def supervised_mean_over_pairs(embeddings, families, temperature):
    relatives = (families[:, None] == families) & ~np.eye(len(families), dtype=bool)
    return -_log_shares(embeddings, temperature)[relatives].mean()


def supervised_drops_who_is_alone(embeddings, families, temperature):
    names, counts = np.unique(families, return_counts=True)
    kept = np.isin(families, names[counts > 1])
    return _mean_over(_log_shares(embeddings[kept], temperature), families[kept])


def supervised_without_minus(embeddings, families, temperature):
    return -_mean_over(_log_shares(embeddings, temperature), families)


def supervised_of_two_halves(embeddings, families, temperature):
    n = len(embeddings)
    log_shares = _log_shares(embeddings, temperature)
    return -log_shares[np.arange(n), (np.arange(n) + n // 2) % n].mean()


def supervised_overflows(embeddings, families, temperature):
    vectors = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    powers = np.exp(vectors @ vectors.T / temperature) * (1 - np.eye(len(vectors)))
    return _mean_over(np.log(powers / powers.sum(1, keepdims=True)), families)


RIGHT = {
    "softmax": [softmax_of_scipy, softmax_in_place, softmax_by_differences],
    "symmetric_loss": [symmetric_by_logsumexp, symmetric_by_transposing, symmetric_by_loops],
    "averaged_weights": [averaged_by_index, averaged_by_difference, averaged_as_tuple],
    "cohort_score": [cohort_by_partition, cohort_by_loops, cohort_of_stacked_sides],
    "supervised_contrastive": [
        supervised_by_loops,
        supervised_with_masked_array,
        supervised_with_deleted_diagonal,
    ],
}
WRONG = {
    "softmax": [
        (softmax_overflows, "then subtract the largest exponent"),
        (softmax_times_temperature, "divide the similarities by the temperature"),
        (softmax_without_sum, "must sum to 1"),
        (softmax_spoils_its_input, "do not change the array"),
        (softmax_shifts_before_dividing, "divide the similarities by the temperature"),
    ],
    "symmetric_loss": [
        (symmetric_rows_alone, "the second ones must choose as well"),
        (symmetric_columns_alone, "the first ones must choose as well"),
        (symmetric_sum, "not sums"),
        (symmetric_without_minus, "minus the logarithm"),
        (symmetric_without_diagonal, "stay in"),
        (symmetric_masked, "stay in"),
        (symmetric_without_softmax, "comes first"),
        (symmetric_overflows, "overflow"),
        (symmetric_of_each, "return one number"),
    ],
    "averaged_weights": [
        (averaged_the_other_way, "share of the old average that stays"),
        (averaged_in_place, "leave the average that was given"),
        (averaged_as_one_array, "ValueError"),
        (averaged_first_layer, "every layer"),
        (averaged_plain_mean, "decay * old"),
    ],
    "cohort_score": [
        (cohort_sum_of_sides, "not their sum"),
        (cohort_of_one_side, "not of the first alone"),
        (cohort_added, "subtracted, not added"),
        (cohort_of_the_farthest, "not the farthest"),
        (cohort_of_all, "not all"),
        (cohort_of_the_paper, "twice the score"),
        (cohort_of_ten, "`nearest` says how many"),
        (cohort_of_all_pairs, "one number for each pair"),
    ],
    "supervised_contrastive": [
        (supervised_with_diagonal, "leave out the diagonal"),
        (supervised_without_scaling, "scale the embeddings to length 1"),
        (supervised_without_temperature, "divide the cosines by the temperature"),
        (supervised_sum_over_relatives, "mean over a photo's relatives, not the sum"),
        (supervised_log_of_the_sum, "outside the logarithm"),
        (supervised_mean_over_all_photos, "over the photos that have a relative"),
        (supervised_mean_over_pairs, "then over the photos"),
        (supervised_drops_who_is_alone, "still is a stranger"),
        (supervised_without_minus, "minus the mean of the logarithms"),
        (supervised_of_two_halves, "any order"),
        (supervised_overflows, "overflow"),
    ],
}
