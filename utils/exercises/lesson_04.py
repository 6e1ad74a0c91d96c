"""The exercises of lesson 04: the article's model."""

from typing import Any

import numpy as np

from .verdicts import MistakeError, exercise, expect, numbers, require


def close(answer: Any, other: Any, tolerance: float = 1e-4) -> bool:
    """Whether two arrays of one shape are nearly the same; used to recognise a mistake."""
    return bool(np.allclose(np.asarray(answer, np.float64), other, rtol=0, atol=tolerance))


# --- section 1 ----------------------------------------------------------------------------------


@exercise
def vggface_input(answer):
    """RGB photos to blue, green, red minus the mean colour."""
    # two photos of 2×3 pixels: one colour each, and one pixel that differs
    faces = np.empty((2, 2, 3, 3), np.uint8)
    faces[0], faces[1], faces[1, 0, 2] = (200, 100, 50), (10, 20, 30), (255, 0, 128)
    given = faces.copy()
    fed = numbers(answer(given), (2, 2, 3, 3), "photos in, photos out: the shape stays")
    require((given == faces).all(), "the photos themselves were changed; work on a copy")

    # the first pixel shows most mistakes
    pixel = fed[0, 0, 0]
    require(np.abs(fed).max() > 2, "the range is 0 to 255, so nothing is divided")
    require(
        not close(pixel, [108.5047, -3.8827, -81.0912]),
        "the photos are red, green, blue, and the network takes blue first: reverse the last axis",
    )
    require(
        not close(pixel, [-81.0912, -3.8827, 108.5047]),
        "the means are listed as blue, green, red: subtract them after the channels changed "
        "places",
    )
    require(
        not close(pixel, [215, 253, 68], 1.1),
        "uint8 has no negative numbers: below 0 it goes on at 255; subtract in floating point",
    )
    require(
        not close(pixel, [0, 0, 0]),
        "subtract the mean colour of the network's training photos, not of the photo itself",
    )
    require(
        not close(pixel, [-81.4953, -83.8827, -101.0912]),
        "`faces[::-1]` reverses the list of photos; the channels are the last axis",
    )
    require(
        not close(pixel, [50, 100, 200]),
        "subtract the mean colour of the network's training photos",
    )
    expect(pixel, [-41.4953, -3.8827, 68.9088], "a pixel of 200 red, 100 green and 50 blue", 1e-4)
    expect(
        fed[1, 0, 2],
        [36.5047, -103.8827, 123.9088],
        "only the channels change places, not the pixels and not the photos",
        1e-4,
    )
    expect(fed[1, 1, 0], [-61.4953, -83.8827, -121.0912], "a dark pixel goes below 0", 1e-4)


# --- section 3 ----------------------------------------------------------------------------------


def toy_towers() -> list[Any]:
    """A tower of 4×4 pixels to 8 numbers, and one of 6×6 pixels to 200."""
    import keras

    towers = []
    for pixels, size in ((4, 8), (6, 200)):
        photo = keras.Input((pixels, pixels, 3))
        embedding = keras.layers.Dense(size)(keras.layers.Flatten()(photo))
        towers.append(keras.Model(photo, embedding))
    return towers


def toy_photos(count: int) -> list[np.ndarray]:
    """Random photos for the inputs: tower 1 photos a, photos b, tower 2 photos a, photos b."""
    rng = np.random.default_rng(4)
    shapes = [(count, pixels, pixels, 3) for pixels in (4, 4, 6, 6)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def require_inputs(model: Any) -> None:
    """Raise MistakeError unless it is a Keras model of the four inputs of two toy towers."""
    import keras

    require(isinstance(model, keras.Model), "return a Keras model: `keras.Model(inputs, outputs)`")
    sizes = [tensor.shape[1] for tensor in model.inputs]
    require(
        len(sizes) == 4,
        f"two towers and two photos need four inputs; this model has {len(sizes)}",
    )
    require(
        sizes == [4, 4, 6, 6],
        "the inputs are tower 1 photo a, tower 1 photo b, tower 2 photo a, tower 2 photo b, each "
        f"with its tower's size; these have {sizes} pixels, the towers 4 and 6",
    )


def require_shared(model: Any, towers: list[Any]) -> None:
    """Raise MistakeError unless the towers themselves are in the model, once each."""
    weights = {id(weight) for weight in model.weights}
    of_towers = {id(weight) for tower in towers for weight in tower.weights}
    require(
        of_towers <= weights,
        "the towers have weights already, and those must be in the model: call the tower itself, "
        "not a copy",
    )


@exercise
def four_inputs(answer):
    """Towers to one model of all photos, each tower shared by photos a and b."""
    towers, photos = toy_towers(), toy_photos(3)
    model = answer(towers)
    require_inputs(model)
    require_shared(model, towers)
    require(
        len({id(tensor) for tensor in model.inputs}) == 4,
        "each photo needs an input of its own: a new `keras.Input` for each",
    )
    own = sum(tower.count_params() for tower in towers)
    require(
        model.count_params() == own,
        "a and b must share a tower's weights: call the same tower twice, build none anew",
    )

    # four embeddings, in the order of the inputs
    outputs = model(photos)
    require(
        isinstance(outputs, list | tuple) and len(outputs) == 4,
        "the outputs are four embeddings, one for each input",
    )
    names = ["tower 1 photo a", "tower 1 photo b", "tower 2 photo a", "tower 2 photo b"]
    for number, name in enumerate(names):
        right = np.asarray(towers[number // 2](photos[number]))
        got = numbers(outputs[number], right.shape, f"output {number + 1} is {name}")
        expect(got, right, f"output {number + 1} is the embedding of {name}", 1e-4)
    for_any = "it should work for one tower too, with two inputs: go through the towers in a loop"
    try:
        alone = answer(towers[:1])
    except MistakeError as mistake:
        raise MistakeError(f"{for_any} ({mistake})") from mistake
    require(len(alone.inputs) == 2, for_any)


# --- section 5 ----------------------------------------------------------------------------------


@exercise
def stopping_epoch(answer):
    """After which epoch early stopping ends a training."""
    # patience is used up, exactly, before the best epoch of all
    losses = [5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 2.0]
    stop = answer(np.array(losses), 3)
    require(not close(stop, 3), "epoch 3 is the best; training stops only `patience` epochs later")
    require(not close(stop, 5), "epochs are counted from 1")
    require(
        not close(stop, 7),
        "of 5, 4, 3, 3.5, 3.2, 3.1, 2 the epochs 4, 5 and 6 are three in a row without a loss "
        "below the 3 of epoch 3: with a patience of 3 training ends after epoch 6, not one later",
    )
    expect(stop, 6, "of 5, 4, 3, 3.5, 3.2, 3.1, 2 epochs 4, 5 and 6 are no better than 3")
    expect(answer(np.array(losses), 4), 7, "where patience is never used up, all epochs are run")
    expect(
        answer(np.array([5.0, 6.0, 4.0, 5.0, 3.0, 4.0, 5.0, 2.0]), 2),
        7,
        "a better epoch sets the count back to 0: 5, 6, 4, 5, 3, 4, 5, 2 with a patience of 2",
    )
    expect(
        answer(np.array([5.0, 3.0, 4.0, 3.5, 3.2, 1.0]), 3),
        5,
        "compare with the best epoch so far, not with the one before: 5, 3, 4, 3.5, 3.2, 1",
    )
    equal, ends_late = np.array([3.0, 2.0, 2.0, 2.0, 1.0]), np.array([2.0, 1.0, 3.0, 3.0])
    expect(answer(equal, 2), 4, "an equal loss is no gain: 3, 2, 2, 2, 1")
    expect(answer(ends_late, 2), 4, "patience may end with the last epoch: 2, 1, 3, 3")
    expect(answer(np.array([-0.7, -0.8, -0.75, -0.6]), 1), 3, "losses may be negative")


# --- section 6 ----------------------------------------------------------------------------------


@exercise
def both_orders(answer):
    """The mean of a model's answers in both orders."""

    def score(first, second):
        return first[:, 0] * second[:, 1] + 0.25 * first[:, 1]

    a, b = np.array([[0.2, 0.8], [0.6, 0.0]]), np.array([[0.4, 0.4], [0.1, 1.0]])
    answers = numbers(answer(score, a, b), (2,), "one answer for each pair, not one for all")
    # score(a, b) and score(b, a)
    one, other = [0.28, 0.60], [0.42, 0.25]
    require(
        not close(answers, one) and not close(answers, other),
        "this is the answer in one order; ask the model in the other order too",
    )
    require(
        not close(answers, [0.70, 0.85]), "the mean of both answers, not their sum: divide by 2"
    )
    largest, least = np.maximum(one, other), np.minimum(one, other)
    require(
        not close(answers, largest) and not close(answers, least),
        "the mean of both answers: the larger or the smaller one is symmetric, but biased",
    )
    middle = score((a + b) / 2, (a + b) / 2)
    require(not close(answers, middle), "average the answers, not the photos: ask the model twice")
    require(
        not close(answers, (score(a, a) + score(b, b)) / 2),
        "`score(a, a)` compares a photo with itself; the two orders are (a, b) and (b, a)",
    )
    expect(answers, [0.35, 0.425], "the mean of score(a, b) and score(b, a)")
    swapped = answer(score, b, a)
    expect(swapped, [0.35, 0.425], "the answer must be the same when the photos change places")


# --- the larger exercise ------------------------------------------------------------------------

PROJECTIONS = 6 * (200 + 1) * 128  # of the six features of the wide toy tower
DENSE = (816 + 1) * 500 + (500 + 1) * 100 + (100 + 1) * 25 + (25 + 1)


@exercise
def symmetric_pair_model(answer):
    """The whole pair model, whose answer does not depend on the order of the photos."""
    towers = toy_towers()
    model = answer(towers)
    require_inputs(model)
    require(
        len(model.outputs) == 1 and model.outputs[0].shape == (None, 1),
        "one output of one number a pair: `Dense(1, activation='sigmoid')`",
    )
    require_shared(model, towers)
    above = model.count_params() - sum(tower.count_params() for tower in towers)
    _require_layers(above)
    _require_answers(model)
    _require_ours(model, towers)


def _require_layers(above: int) -> None:
    """Raise MistakeError unless the layers above the toy towers have as many weights as ours."""
    known = {
        (48 + 1200 + 1) * 500 + DENSE - 817 * 500: "features of more than 128 numbers are "
        "projected: `Dense(128)`, for each of the six",
        (200 + 1) * 128 + DENSE: "each of the six features has a projection of its own: a new "
        "`Dense(128)` for every one",
        8 * 128 * 6 + 128 * 6 + PROJECTIONS + DENSE + 720 * 500: "only features of more than 128 "
        "numbers are projected",
    }
    if above != PROJECTIONS + DENSE:
        general = (
            "above two towers of 8 and 200 numbers: six features a tower, those of 200 numbers "
            "each projected to 128, then dense layers of 500, 100, 25 and 1, which have "
            f"{PROJECTIONS + DENSE:,} weights together; these have {above:,}"
        )
        require(False, known.get(above, general))


def _require_answers(model: Any) -> None:
    """Raise MistakeError unless the answers are symmetric probabilities of all four photos."""
    photos = toy_photos(40)
    # a and b of either tower change places
    a, b, c, d = photos
    one, other = (np.asarray(model(inputs)) for inputs in (photos, [b, a, d, c]))
    require(
        close(one, other, 1e-5),
        "the answer changes when the photos change places: use |a − b| and (a − b)², not a − b "
        "and b − a",
    )
    large = np.asarray(model([1000 * photo for photo in photos]))
    require(
        large.min() >= 0 and large.max() <= 1,
        "the answer is a probability, from 0 to 1: the last layer has a sigmoid",
    )
    # other photos at one input at a time
    for number in range(4):
        changed = [photo[::-1] if place == number else photo for place, photo in enumerate(photos)]
        require(
            not close(one, model(changed), 1e-7),
            f"input {number + 1} has no part in the answer",
        )
    first, second = (np.asarray(model(photos, training=True)) for _ in range(2))
    require(
        not close(first, second, 1e-7),
        "a dropout of 0.1 follows each of the layers of 500, 100 and 25",
    )
    rates = _dropouts(model)
    require(
        set(rates) <= {0.1} and len(rates) in (0, 1, 3),  # one may be called three times
        "a dropout of 0.1 follows each of the layers of 500, 100 and 25; this model's rates are "
        f"{', '.join(map(str, rates))}",
    )


def _dropouts(model: Any) -> list[float]:
    """The rates of the dropout layers of a model, and of the models in it."""
    import keras

    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            rates += _dropouts(layer)
    return rates


def _require_ours(model: Any, towers: list[Any]) -> None:
    """Raise MistakeError where the course's network answers otherwise with the same weights."""
    from ..training import networks

    head = networks.pair_head({"one": 8, "two": 200}, "symmetric")
    of_towers = {id(weight) for tower in towers for weight in tower.weights}
    above = [np.asarray(weight) for weight in model.weights if id(weight) not in of_towers]
    # layers that were made in another order cannot be compared
    shapes = [weight.shape for weight in above]
    if shapes != [weight.shape for weight in head.weights]:
        return
    head.set_weights(above)
    photos = toy_photos(5)
    vectors = [towers[number // 2](photo) for number, photo in enumerate(photos)]
    expect(
        np.asarray(model(photos)),
        np.asarray(head(vectors)),
        "with the same weights `networks.pair_network` answers otherwise; are these the six "
        "features of the exercise, in its order, is the projection without activation, and have "
        "the layers of 500, 100 and 25 a relu",
        1e-3,
    )
