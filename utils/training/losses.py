"""What an encoder is fine-tuned to do: losses on a batch of embeddings of relatives.

A batch holds the two photos of ``n`` pairs of kin, photo ``i`` and photo ``n + i``, and a number
for the family of each. Embeddings have length 1. A loss may have weights of its own, which are
trained with the encoder.
"""

from typing import Any

import keras
from keras import layers, ops

from ..errors import ModelError

# Subtracted from the similarity of a photo to itself, so that it counts for nothing.
SELF_PENALTY = 1e9


class Contrastive(layers.Layer):
    """Each photo should find its relative among all other photos of the batch.

    The supervised contrastive loss (Khosla et al., NeurIPS 2020, their L_out): minus the mean,
    over the photos of the same family, of the log-softmax of the similarities. With one pair a
    family it is the NT-Xent loss (Chen et al., ICML 2020).

    Args:
        families: number of families in training; not used here.
        temperature: divides the cosines; the smaller, the more the hardest strangers count.
        hardest: share of a photo's strangers that count, in (0, 1]: those nearest to it. 1: all.
        options: of a Keras layer.
    """

    def __init__(
        self, families: int = 0, temperature: float = 0.1, hardest: float = 1.0, **options
    ):
        super().__init__(**options)
        self.temperature, self.hardest = temperature, hardest

    def call(self, embeddings, families):
        """The mean loss over a batch, a scalar.

        Args:
            embeddings: float32 ``(2 n, d)``, of length 1.
            families: int ``(2 n,)``, the family of each photo.
        """
        itself = ops.eye(ops.shape(embeddings)[0])  # (2 n, 2 n)
        cosines = embeddings @ ops.transpose(embeddings)
        similarity = cosines / self.temperature - SELF_PENALTY * itself
        relatives = _same_family(families) - itself
        if self.hardest < 1:
            similarity -= SELF_PENALTY * self._easy(similarity, relatives + itself)
        # how likely each relative of a photo is to be picked among all others: (2 n,)
        log_probability = ops.sum(relatives * ops.log_softmax(similarity, axis=-1), -1)
        return -ops.mean(log_probability / ops.sum(relatives, -1))

    def _easy(self, similarity, family):
        """1.0 where a photo is a stranger who is not among the nearest: ``(2 n, 2 n)``.

        Args:
            similarity: of each photo to each, ``(2 n, 2 n)``.
            family: 1.0 where two photos are of one family.
        """
        strangers = ops.stop_gradient(similarity - SELF_PENALTY * family)
        # the least similarity that counts: with two photos a family 2 n - 2 are strangers
        count = similarity.shape[0] or ops.shape(similarity)[0]
        nearest = ops.cast(ops.ceil(self.hardest * ops.cast(count - 2, "float32")), "int32")
        nearest = ops.maximum(nearest, 1)  # also where there is no stranger at all
        least = ops.take(ops.sort(strangers, -1), [count - nearest], axis=-1)  # (2 n, 1)
        return ops.cast(strangers < least, "float32") * (1 - family)


class PairClassification(layers.Layer):
    """Of any two photos of the batch: are they relatives?

    Binary cross-entropy of a logistic function of the cosine, as in the article but over all pairs
    of the batch; relatives and strangers weigh the same. Slope and shift are trained as well.

    Args:
        families: number of families in training; not used here.
        temperature: the slope starts at 1 / temperature.
        options: of a Keras layer.
    """

    def __init__(self, families: int = 0, temperature: float = 0.1, **options):
        super().__init__(**options)
        start = keras.initializers.Constant
        self.slope = self.add_weight((), initializer=start(1 / temperature), name="slope")
        self.shift = self.add_weight((), initializer=start(-0.9 / temperature), name="shift")

    def call(self, embeddings, families):
        """The mean loss over a batch, a scalar.

        Args:
            embeddings: float32 ``(2 n, d)``, of length 1.
            families: int ``(2 n,)``, the family of each photo.
        """
        logits = self.slope * (embeddings @ ops.transpose(embeddings)) + self.shift  # (2 n, 2 n)
        # 1 for a pair that counts: not a photo with itself
        apart = 1 - ops.eye(ops.shape(embeddings)[0])
        relatives = _same_family(families) * apart
        strangers = apart - relatives
        # the mean over relatives, and the mean over strangers
        missed = ops.sum(relatives * ops.softplus(-logits)) / ops.sum(relatives)
        mistaken = ops.sum(strangers * ops.softplus(logits)) / ops.sum(strangers)
        return (missed + mistaken) / 2


class FamilyClassification(layers.Layer):
    """Which family is a photo of? Cross-entropy of a softmax over the families of training.

    The logits are the cosines to one direction a family, divided by the temperature (NormFace:
    Wang et al., ACM Multimedia 2017). The directions are trained as well, and not kept afterwards.

    Args:
        families: number of families in training.
        temperature: divides the cosines.
        options: of a Keras layer.
    """

    def __init__(self, families: int, temperature: float = 0.1, **options):
        super().__init__(**options)
        self.families, self.temperature = families, temperature

    def build(self, embeddings_shape, families_shape=None):
        """One direction a family: ``(families, d)``."""
        shape = (self.families, embeddings_shape[-1])
        self.directions = self.add_weight(shape, "random_normal", name="directions")

    def call(self, embeddings, families):
        """The mean loss over a batch, a scalar.

        Args:
            embeddings: float32 ``(2 n, d)``, of length 1.
            families: int ``(2 n,)``, the family of each photo.
        """
        directions = ops.normalize(self.directions, axis=-1)
        logits = embeddings @ ops.transpose(directions) / self.temperature  # (2 n, families)
        entropy = keras.losses.sparse_categorical_crossentropy(families, logits, from_logits=True)
        return ops.mean(entropy)


def _same_family(families):
    """1.0 where two photos are of one family, also of a photo with itself: ``(2 n, 2 n)``."""
    return ops.cast(families[:, None] == families[None], "float32")


LOSSES = {
    "contrastive": Contrastive,
    "pairs": PairClassification,
    "families": FamilyClassification,
}


def get(name: str, families: int, temperature: float, hardest: float = 1.0) -> layers.Layer:
    """A loss by name, in single precision under any policy.

    Args:
        name: one of ``LOSSES``.
        families: how many there are in training; their numbers in a batch are below it.
        temperature: divides the cosines.
        hardest: share of the strangers that count, which the contrastive loss alone knows.

    Raises:
        ModelError: no such loss, or a share that it does not know.
    """
    if name not in LOSSES:
        raise ModelError(f"There is no loss {name!r}; choose one of: {', '.join(LOSSES)}.")
    options: dict[str, Any] = {"dtype": "float32", "name": "loss"}
    if hardest < 1:
        if name != "contrastive":
            raise ModelError(f"The loss {name!r} takes all strangers; leave out hardest.")
        options["hardest"] = hardest
    return LOSSES[name](families, temperature, **options)
