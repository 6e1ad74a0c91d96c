"""Answers to the exercises of lesson 03, right and wrong."""

import math

import numpy as np

# --- row_cosines --------------------------------------------------------------------------------


def cosines_of_units(a, b):
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    return (a * b).sum(1)


def cosines_in_a_loop(a, b):
    cosines = []
    for x, y in zip(a, b, strict=True):
        cosines.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    return cosines


def cosines_by_einsum(a, b):
    lengths = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return (np.einsum("nd,nd->n", a, b) / lengths).astype(np.float32)


def cosines_from_the_diagonal(a, b):
    everything = a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    return np.diag(everything)


def dot_products(a, b):
    return (a * b).sum(1)


def divided_by_one_length(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1)


def divided_by_the_batch(a, b):
    return (a * b).sum(1) / (np.linalg.norm(a) * np.linalg.norm(b))


def all_against_all(a, b):
    return a @ b.T


def divided_by_squares(a, b):
    return (a * b).sum(1) / (a**2).sum(1) / (b**2).sum(1)


def cosines_without_sign(a, b):
    return np.abs(cosines_of_units(a, b))


def cosines_of_columns(a, b):
    return (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)


def one_minus_cosine(a, b):
    return 1 - cosines_of_units(a, b)


# --- pair_features ------------------------------------------------------------------------------


def features_of_numpy(a, b):
    return np.concatenate([a + b, np.abs(a - b), a * b, a**2 + b**2, (a - b) ** 2], axis=1)


def features_by_hstack(a, b):
    difference = a - b
    return np.hstack((a + b, abs(difference), a * b, a * a + b * b, difference * difference))


def features_row_by_row(a, b):
    rows = []
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        both = list(zip(x, y, strict=True))
        row = [u + v for u, v in both] + [abs(u - v) for u, v in both] + [u * v for u, v in both]
        rows.append(row + [u * u + v * v for u, v in both] + [(u - v) ** 2 for u, v in both])
    return rows


def features_with_a_sign(a, b):
    return np.concatenate([a + b, a - b, a * b, a**2 + b**2, (a - b) ** 2], axis=1)


def features_below_each_other(a, b):
    return np.concatenate([a + b, np.abs(a - b), a * b, a**2 + b**2, (a - b) ** 2])


def features_with_square_of_sum(a, b):
    return np.concatenate([a + b, np.abs(a - b), a * b, (a + b) ** 2, (a - b) ** 2], axis=1)


def features_in_another_order(a, b):
    return np.concatenate([a + b, a * b, np.abs(a - b), a**2 + b**2, (a - b) ** 2], axis=1)


# --- log_loss -----------------------------------------------------------------------------------


def loss_of_numpy(labels, probabilities):
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))


def loss_of_the_right_answer(labels, probabilities):
    right = np.where(labels == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(right, 1e-7)).mean())


def loss_in_a_loop(labels, probabilities):
    total = 0.0
    for label, p in zip(labels, probabilities, strict=True):
        p = min(max(p, 1e-7), 1 - 1e-7)
        total -= math.log(p) if label else math.log(1 - p)
    return total / len(labels)


def loss_without_minus(labels, probabilities):
    return -loss_of_numpy(labels, probabilities)


def loss_without_clipping(labels, probabilities):
    return -np.mean(labels * np.log(probabilities) + (1 - labels) * np.log(1 - probabilities))


def loss_clipped_at_one_end(labels, probabilities):
    p = np.maximum(probabilities, 1e-7)
    return -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))


def loss_summed(labels, probabilities):
    return loss_of_numpy(labels, probabilities) * len(labels)


def loss_of_kin_alone(labels, probabilities):
    return -np.mean(labels * np.log(np.clip(probabilities, 1e-7, 1)))


def loss_of_each_pair(labels, probabilities):
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return -np.where(labels == 1, np.log(p), np.log(1 - p))


def loss_the_other_way_round(labels, probabilities):
    return loss_of_numpy(1 - labels, probabilities)


def loss_clipped_too_late(labels, probabilities):
    p = np.clip(probabilities, 1e-15, 1 - 1e-15)
    return -np.mean(np.where(labels == 1, np.log(p), np.log(1 - p)))


def loss_to_base_two(labels, probabilities):
    return loss_of_numpy(labels, probabilities) / np.log(2)


# --- middle_threshold ---------------------------------------------------------------------------


def middle_by_median(labels, scores, thresholds):
    accuracy = np.array([np.mean((scores >= t) == labels) for t in thresholds])
    return np.median(thresholds[accuracy == accuracy.max()])


def middle_of_a_sorted_list(labels, scores, thresholds):
    count = {}
    for threshold in sorted(thresholds):
        count[threshold] = sum((scores >= threshold) == (labels == 1))
    best = [threshold for threshold in count if count[threshold] == max(count.values())]
    half = len(best) // 2
    return best[half] if len(best) % 2 else (best[half - 1] + best[half]) / 2


def middle_by_broadcasting(labels, scores, thresholds):
    right = ((scores >= thresholds[:, None]) == labels).sum(1)
    best = thresholds[right == right.max()]
    return (best.min() + best.max()) / 2


def first_of_the_best(labels, scores, thresholds):
    accuracy = [np.mean((scores >= t) == labels) for t in thresholds]
    return thresholds[int(np.argmax(accuracy))]


def middle_of_above(labels, scores, thresholds):
    accuracy = np.array([np.mean((scores > t) == labels) for t in thresholds])
    return np.median(thresholds[accuracy == accuracy.max()])


def highest_accuracy(labels, scores, thresholds):
    return max(np.mean((scores >= t) == labels) for t in thresholds)


def middle_by_place(labels, scores, thresholds):
    accuracy = np.array([np.mean((scores >= t) == labels) for t in thresholds])
    best = np.flatnonzero(accuracy == accuracy.max())
    return thresholds[int(np.median(best))]


def accuracy_of_each(labels, scores, thresholds):
    return np.array([np.mean((scores >= t) == labels) for t in thresholds])


# --- train_by_hand ------------------------------------------------------------------------------


def trained_with_a_column_of_ones(features, labels, steps, rate):
    x = np.column_stack([features, np.ones(len(features))])
    weights, mean, square = np.zeros(x.shape[1]), 0, 0
    for step in range(1, steps + 1):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (p - labels) / len(labels)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        root = np.sqrt(square / (1 - 0.999**step)) + 1e-7
        weights = weights - rate * mean / (1 - 0.9**step) / root
    return weights[:-1], weights[-1]


def trained_with_two_states(features, labels, steps, rate):
    weights, bias = np.zeros(features.shape[1]), 0.0
    state = {"w": [0.0, 0.0], "b": [0.0, 0.0]}

    def step_of(key, gradient, step):
        mean, square = state[key]
        state[key] = [0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2]
        mean, square = state[key][0] / (1 - 0.9**step), state[key][1] / (1 - 0.999**step)
        return rate * mean / (np.sqrt(square) + 1e-8)

    for step in range(1, steps + 1):
        error = 1 / (1 + np.exp(-(features @ weights + bias))) - labels
        weights = weights - step_of("w", (error[:, None] * features).mean(0), step)
        bias = bias - step_of("b", error.mean(), step)
    return [weights, bias]


def trained_by_keras(features, labels, steps, rate):
    import keras

    x, y = features.astype("float32"), labels.astype("float32")[:, None]
    model = keras.Sequential([keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros")])
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy")
    model.fit(x, y, epochs=steps, batch_size=len(x), verbose=0)
    weights, bias = model.get_weights()
    return weights[:, 0], bias


def plain_descent(features, labels, steps, rate):
    weights, bias = np.zeros(features.shape[1]), 0.0
    for _ in range(steps):
        error = 1 / (1 + np.exp(-(features @ weights + bias))) - labels
        weights -= rate * features.T @ error / len(labels)
        bias -= rate * error.mean()
    return weights, bias


def uphill(features, labels, steps, rate):
    weights, bias = trained_with_a_column_of_ones(features, labels, steps, rate)
    return -weights, -bias


def without_correction(features, labels, steps, rate):
    weights, bias, mean, square = np.zeros(features.shape[1]), 0.0, 0, 0
    for _ in range(steps):
        error = 1 / (1 + np.exp(-(features @ weights + bias))) - labels
        gradient = features.T @ error / len(labels)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        weights = weights - rate * mean / (np.sqrt(square) + 1e-7)
        bias -= rate * error.mean()
    return weights, bias


def without_bias(features, labels, steps, rate):
    weights, mean, square = np.zeros(features.shape[1]), 0, 0
    for step in range(1, steps + 1):
        gradient = features.T @ (1 / (1 + np.exp(-features @ weights)) - labels) / len(labels)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        root = np.sqrt(square / (1 - 0.999**step)) + 1e-7
        weights = weights - rate * mean / (1 - 0.9**step) / root
    return weights, 0.0


def forgets_its_means(features, labels, steps, rate):
    x = np.column_stack([features, np.ones(len(features))])
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        gradient = x.T @ (1 / (1 + np.exp(-x @ weights)) - labels) / len(labels)
        weights = weights - rate * gradient / (np.abs(gradient) + 1e-7)
    return weights[:-1], weights[-1]


def without_sigmoid(features, labels, steps, rate):
    x = np.column_stack([features, np.ones(len(features))])
    weights, mean, square = np.zeros(x.shape[1]), 0, 0
    for step in range(1, steps + 1):
        gradient = x.T @ (x @ weights - labels) / len(labels)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        root = np.sqrt(square / (1 - 0.999**step)) + 1e-7
        weights = weights - rate * mean / (1 - 0.9**step) / root
    return weights[:-1], weights[-1]


def steps_from_zero(features, labels, steps, rate):
    x = np.column_stack([features, np.ones(len(features))])
    weights, mean, square = np.zeros(x.shape[1]), 0, 0
    with np.errstate(all="ignore"):
        for step in range(steps):
            gradient = x.T @ (1 / (1 + np.exp(-x @ weights)) - labels) / len(labels)
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            root = np.sqrt(square / np.float64(1 - 0.999**step)) + 1e-7
            weights = weights - rate * mean / np.float64(1 - 0.9**step) / root
    return weights[:-1], weights[-1]


def weights_alone(features, labels, steps, rate):
    return trained_with_a_column_of_ones(features, labels, steps, rate)[0].tolist() + [0.0]


RIGHT = {
    "row_cosines": [
        cosines_of_units,
        cosines_in_a_loop,
        cosines_by_einsum,
        cosines_from_the_diagonal,
    ],
    "pair_features": [features_of_numpy, features_by_hstack, features_row_by_row],
    "log_loss": [loss_of_numpy, loss_of_the_right_answer, loss_in_a_loop],
    "middle_threshold": [middle_by_median, middle_of_a_sorted_list, middle_by_broadcasting],
    "train_by_hand": [trained_with_a_column_of_ones, trained_with_two_states, trained_by_keras],
}

WRONG = {
    "row_cosines": [
        (dot_products, "divide by the length of both rows"),
        (divided_by_one_length, "not of one"),
        (divided_by_the_batch, "each row has a length of its own"),
        (all_against_all, "one cosine for each row"),
        (divided_by_squares, "the *root*"),
        (cosines_without_sign, "a cosine of −1"),
        (cosines_of_columns, "along the last axis"),
        (one_minus_cosine, "the cosine itself is asked"),
    ],
    "pair_features": [
        (features_with_a_sign, "change when the photos change places"),
        (features_below_each_other, "side by side"),
        (features_with_square_of_sum, "sum of squares"),
        (features_in_another_order, "number 2 is the absolute difference"),
    ],
    "log_loss": [
        (loss_without_minus, "never negative"),
        (loss_without_clipping, "clip the probabilities"),
        (loss_clipped_at_one_end, "clip the probabilities"),
        (loss_summed, "not the sum"),
        (loss_of_kin_alone, "strangers"),
        (loss_to_base_two, "natural logarithm"),
        (loss_of_each_pair, "one number for all pairs"),
        (loss_the_other_way_round, "not the other way round"),
        (loss_clipped_too_late, "clip at 1e-7"),
    ],
    "middle_threshold": [
        (first_of_the_best, "the middle one"),
        (middle_of_above, "`>=`, not `>`"),
        (highest_accuracy, "its threshold is asked"),
        (middle_by_place, "by size, not by place"),
        (accuracy_of_each, "one number"),
    ],
    "train_by_hand": [
        (plain_descent, "plain gradient descent"),
        (uphill, "against the gradient"),
        (without_correction, "divide both running means"),
        (without_bias, "the bias is trained too"),
        (forgets_its_means, "30 steps"),
        (without_sigmoid, "sigmoid(0) = 0.5"),
        (steps_from_zero, "number 1, and not 0"),
        (weights_alone, "return weights, bias"),
    ],
}
