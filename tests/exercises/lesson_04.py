"""Answers to the exercises of lesson 04, right and wrong."""

import keras
import numpy as np
from keras import layers, ops

MEAN = np.array([91.4953, 103.8827, 131.0912])  # blue, green, red

# --- vggface_input ------------------------------------------------------------------------------


def input_by_slicing(faces):
    return faces[..., ::-1] - MEAN


def input_by_channels(faces):
    red, green, blue = (faces[..., channel].astype(np.float32) for channel in range(3))
    return np.stack([blue - 91.4953, green - 103.8827, red - 131.0912], axis=-1)


def input_pixel_by_pixel(faces):
    fed = np.zeros(faces.shape)
    for place in np.ndindex(faces.shape[:3]):
        red, green, blue = faces[place].tolist()
        fed[place] = [blue - MEAN[0], green - MEAN[1], red - MEAN[2]]
    return fed.tolist()


def input_by_keras(faces):
    return ops.flip(ops.cast(faces, "float32"), axis=-1) - MEAN.astype(np.float32)


def input_not_reversed(faces):
    return faces - MEAN


def input_with_reversed_mean(faces):
    return faces[..., ::-1] - MEAN[::-1]


def input_of_fractions(faces):
    return faces[..., ::-1] / 255 - MEAN / 255


def input_without_mean(faces):
    return faces[..., ::-1].astype(np.float32)


def input_mirrored(faces):
    return (faces[:, :, ::-1] - MEAN[::-1])[..., ::-1]


def input_of_uint8(faces):
    return faces[..., ::-1] - MEAN.astype(np.uint8)


def input_minus_its_own_mean(faces):
    return (faces - faces.mean((1, 2), keepdims=True))[..., ::-1]


def input_with_photos_reversed(faces):
    return faces[::-1] - MEAN


def input_in_place(faces):
    faces[:] = faces[..., ::-1].copy()
    return faces - MEAN


# --- four_inputs --------------------------------------------------------------------------------


def wired_in_a_loop(towers):
    inputs, vectors = [], []
    for tower in towers:
        for _ in range(2):
            inputs.append(keras.Input(tower.input_shape[1:]))
            vectors.append(tower(inputs[-1]))
    return keras.Model(inputs, vectors)


def wired_by_comprehension(towers):
    inputs = [keras.Input(tower.input_shape[1:]) for tower in towers for _ in "ab"]
    vectors = [towers[number // 2](photo) for number, photo in enumerate(inputs)]
    return keras.Model(inputs=inputs, outputs=vectors)


def wired_by_pairs(towers):
    pairs = [(layers.Input(t.input_shape[1:]), layers.Input(t.input_shape[1:])) for t in towers]
    outputs = []
    for tower, (a, b) in zip(towers, pairs, strict=True):
        outputs += [tower(a), tower(b)]
    return keras.Model([photo for pair in pairs for photo in pair], tuple(outputs))


def wired_with_two_inputs(towers):
    inputs = [keras.Input(tower.input_shape[1:]) for tower in towers]
    vectors = [tower(photo) for tower, photo in zip(towers, inputs, strict=True) for _ in "ab"]
    return keras.Model(inputs, vectors)


def wired_to_the_towers_own_inputs(towers):
    inputs = [tower.input for tower in towers for _ in "ab"]
    return keras.Model(inputs, [tower.output for tower in towers for _ in "ab"])


def wired_for_two_towers(towers):
    return wired_in_a_loop([towers[0], towers[1]])


def wired_photo_by_photo(towers):
    inputs = [keras.Input(tower.input_shape[1:]) for _ in "ab" for tower in towers]
    vectors = [towers[number % len(towers)](photo) for number, photo in enumerate(inputs)]
    return keras.Model(inputs, vectors)


def wired_with_copies(towers):
    inputs, vectors = [], []
    for tower in towers:
        copy = keras.models.clone_model(tower)
        for network in (tower, keras.Model(copy.inputs, copy.outputs)):
            inputs.append(keras.Input(tower.input_shape[1:]))
            vectors.append(network(inputs[-1]))
    return keras.Model(inputs, vectors)


def wired_with_copies_alone(towers):
    return wired_in_a_loop([keras.models.clone_model(tower) for tower in towers])


def wired_to_photo_a_alone(towers):
    inputs = [keras.Input(tower.input_shape[1:]) for tower in towers for _ in "ab"]
    vectors = [towers[number // 2](inputs[2 * (number // 2)]) for number in range(len(inputs))]
    return keras.Model(inputs, vectors)


def wired_to_a_list(towers):
    return [tower(keras.Input(tower.input_shape[1:])) for tower in towers]


def wired_together(towers):
    model = wired_in_a_loop(towers)
    return keras.Model(model.inputs, layers.Concatenate()(model.outputs))


# --- stopping_epoch -----------------------------------------------------------------------------


def stop_by_waiting(losses, patience):
    best, waited = float("inf"), 0
    for epoch, loss in enumerate(losses, start=1):
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == patience:
            return epoch
    return len(losses)


def stop_by_the_best_epoch(losses, patience):
    for epoch in range(1, len(losses) + 1):
        best = int(np.argmin(losses[:epoch])) + 1  # the first of equals
        if epoch - best >= patience:
            return np.int64(epoch)
    return len(losses)


def stop_by_accumulation(losses, patience):
    losses = np.asarray(losses)
    lowest = np.minimum.accumulate(losses)
    since = [
        epoch - int(np.flatnonzero(losses == lowest[epoch])[0]) for epoch in range(len(losses))
    ]
    ended = np.flatnonzero(np.array(since) >= patience)
    return float(ended[0] + 1) if len(ended) else len(losses)


def best_epoch(losses, patience):
    return int(np.argmin(losses[: stop_by_waiting(losses, patience)])) + 1


def stop_one_later(losses, patience):
    return stop_by_waiting(losses, patience + 1)


def stop_counted_from_zero(losses, patience):
    return stop_by_waiting(losses, patience) - 1


def stop_without_resetting(losses, patience):
    best, waited = float("inf"), 0
    for epoch, loss in enumerate(losses, start=1):
        if loss < best:
            best = loss
        else:
            waited += 1
        if waited == patience:
            return epoch
    return len(losses)


def stop_by_the_epoch_before(losses, patience):
    waited = 0
    for epoch in range(1, len(losses)):
        waited = 0 if losses[epoch] < losses[epoch - 1] else waited + 1
        if waited == patience:
            return epoch + 1
    return len(losses)


def stop_where_equal_is_a_gain(losses, patience):
    best, waited = float("inf"), 0
    for epoch, loss in enumerate(losses, start=1):
        best, waited = (loss, 0) if loss <= best else (best, waited + 1)
        if waited == patience:
            return epoch
    return len(losses)


def stop_or_nothing(losses, patience):
    stop = stop_by_waiting(losses, patience)
    return stop if stop < len(losses) else None


# --- both_orders --------------------------------------------------------------------------------


def mean_of_two(score, a, b):
    return (score(a, b) + score(b, a)) / 2


def mean_of_a_stack(score, a, b):
    return np.mean([score(a, b), score(b, a)], axis=0)


def mean_pair_by_pair(score, a, b):
    pairs = zip(score(a, b), score(b, a), strict=True)
    return [0.5 * float(one) + 0.5 * float(other) for one, other in pairs]


def one_order(score, a, b):
    return score(a, b)


def sum_of_orders(score, a, b):
    return score(a, b) + score(b, a)


def larger_of_orders(score, a, b):
    return np.maximum(score(a, b), score(b, a))


def mean_of_photos(score, a, b):
    return score((a + b) / 2, (a + b) / 2)


def photos_with_themselves(score, a, b):
    return (score(a, a) + score(b, b)) / 2


def mean_of_everything(score, a, b):
    return np.mean([score(a, b), score(b, a)])


# --- symmetric_pair_model -----------------------------------------------------------------------


def features_of(a, b):
    root = ops.sign(a * b) * ops.sqrt(ops.abs(a * b) + 1e-9)
    return [a + b, ops.abs(a - b), (a - b) ** 2, a * b, a**2 + b**2, root]


def dense_layers(features, activation="sigmoid", dropout=0.1):
    x = layers.Concatenate()(features)
    for units in (500, 100, 25):
        x = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(x))
    return layers.Dense(1, activation=activation)(x)


def wide_to_128(values):
    return [layers.Dense(128)(value) if value.shape[-1] > 128 else value for value in values]


def model_of(towers, features=features_of, project=wide_to_128, top=dense_layers):
    inputs, together = [], []
    for tower in towers:
        a, b = (keras.Input(tower.input_shape[1:]) for _ in "ab")
        inputs += [a, b]
        together += project(features(tower(a), tower(b)))
    return keras.Model(inputs, top(together))


def whole_model(towers):
    return model_of(towers)


def model_on_wired_towers(towers):
    wired = wired_in_a_loop(towers)
    together = []
    for a, b in zip(wired.outputs[::2], wired.outputs[1::2], strict=True):
        together += wide_to_128(features_of(a, b))
    return keras.Model(wired.inputs, dense_layers(together))


def model_with_a_head_inside(towers):
    vectors = [keras.Input((tower.output_shape[-1],)) for tower in towers for _ in "ab"]
    together = []
    for number in range(len(towers)):
        together += wide_to_128(features_of(*vectors[2 * number : 2 * number + 2]))
    head = keras.Model(vectors, dense_layers(together))
    wired = wired_by_comprehension(towers)
    return keras.Model(wired.inputs, head(wired.outputs))


def model_of_the_article(towers):
    def features(a, b):
        root = ops.sign(a * b) * ops.sqrt(ops.abs(a * b) + 1e-9)
        return [a + b, a - b, b - a, a * b, a**2 + b**2, root]

    return model_of(towers, features)


def model_with_copies(towers):
    return model_of([keras.models.clone_model(tower) for tower in towers])


def model_without_projection(towers):
    return model_of(towers, project=list)


def model_with_one_projection(towers):
    def project(values):
        one = layers.Dense(128)
        return [one(value) if value.shape[-1] > 128 else value for value in values]

    return model_of(towers, project=project)


def model_that_projects_all(towers):
    return model_of(towers, project=lambda values: [layers.Dense(128)(value) for value in values])


def model_without_sigmoid(towers):
    return model_of(towers, top=lambda features: dense_layers(features, activation=None))


def model_without_dropout(towers):
    return model_of(towers, top=lambda features: dense_layers(features, dropout=0))


def model_with_much_dropout(towers):
    return model_of(towers, top=lambda features: dense_layers(features, dropout=0.5))


def model_in_the_articles_order(towers):
    def features(a, b):
        total, absolute, squared, product, *others = features_of(a, b)
        return [total, absolute, product, squared, *others]

    return model_of(towers, features)


def model_of_five_features(towers):
    return model_of(towers, lambda a, b: features_of(a, b)[:5])


def model_with_another_root(towers):
    def features(a, b):
        return [*features_of(a, b)[:5], ops.sqrt(ops.abs(a * b))]

    return model_of(towers, features)


RIGHT = {
    "vggface_input": [input_by_slicing, input_by_channels, input_pixel_by_pixel, input_by_keras],
    "four_inputs": [wired_in_a_loop, wired_by_comprehension, wired_by_pairs],
    "stopping_epoch": [stop_by_waiting, stop_by_the_best_epoch, stop_by_accumulation],
    "both_orders": [mean_of_two, mean_of_a_stack, mean_pair_by_pair],
    "symmetric_pair_model": [whole_model, model_on_wired_towers, model_with_a_head_inside],
}

WRONG = {
    "vggface_input": [
        (input_not_reversed, "reverse the last axis"),
        (input_with_reversed_mean, "the means are listed as blue, green, red"),
        (input_of_fractions, "nothing is divided"),
        (input_without_mean, "subtract the mean colour"),
        (input_mirrored, "not the pixels"),
        (input_in_place, "work on a copy"),
        (input_of_uint8, "no negative numbers"),
        (input_minus_its_own_mean, "not of the photo itself"),
        (input_with_photos_reversed, "the channels are the last axis"),
    ],
    "four_inputs": [
        (wired_with_two_inputs, "four inputs; this model has 2"),
        (wired_photo_by_photo, "tower 1 photo a, tower 1 photo b"),
        (wired_with_copies, "share a tower's weights"),
        (wired_with_copies_alone, "not a copy"),
        (wired_to_photo_a_alone, "output 2 is the embedding of tower 1 photo b"),
        (wired_to_a_list, "return a Keras model"),
        (wired_together, "four embeddings"),
        (wired_to_the_towers_own_inputs, "an input of its own"),
        (wired_for_two_towers, "work for one tower too"),
    ],
    "stopping_epoch": [
        (best_epoch, "epoch 3 is the best"),
        (stop_one_later, "not one later"),
        (stop_counted_from_zero, "counted from 1"),
        (stop_without_resetting, "sets the count back to 0"),
        (stop_by_the_epoch_before, "three in a row"),
        (stop_where_equal_is_a_gain, "an equal loss is no gain"),
        (stop_or_nothing, "returns nothing"),
    ],
    "both_orders": [
        (one_order, "in one order"),
        (sum_of_orders, "not their sum"),
        (larger_of_orders, "biased"),
        (mean_of_photos, "average the answers, not the photos"),
        (photos_with_themselves, "a photo with itself"),
        (mean_of_everything, "one answer for each pair"),
    ],
    "symmetric_pair_model": [
        (model_of_the_article, "use |a − b| and (a − b)²"),
        (model_with_copies, "not a copy"),
        (model_without_projection, "features of more than 128 numbers are projected"),
        (model_with_one_projection, "a projection of its own"),
        (model_that_projects_all, "only features of more than 128 numbers"),
        (model_without_sigmoid, "from 0 to 1"),
        (model_without_dropout, "a dropout of 0.1"),
        (model_with_much_dropout, "this model's rates are 0.5"),
        (model_in_the_articles_order, "in its order"),
        (model_of_five_features, "six features a tower"),
        (model_with_another_root, "with the same weights"),
    ],
}
