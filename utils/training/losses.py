"""What an encoder is fine-tuned to do: losses on a batch of embeddings of relatives.

A batch holds the two photos of ``n`` pairs of kin, photo ``i`` and photo ``n + i``, with a number for
the family of each. Embeddings have length 1. A loss may hold weights of its own, which train along.
"""

import keras
from keras import layers, ops

from ..errors import ModelError

_SELF = 1e9  # taken off the similarity of a photo to itself, so that it counts for nothing


class Contrastive(layers.Layer):
    """Each photo shall find its relative among all other photos of the batch.

    The supervised contrastive loss (Khosla et al., NeurIPS 2020, their L_out): minus the mean, over
    the photos of the same family, of the log-softmax of the similarities. With one pair a family it is
    the NT-Xent loss (Chen et al., ICML 2020).

    Args:
        temperature: divides the cosines; the smaller, the more the hardest strangers count.
    """

    def __init__(self, families: int = 0, temperature: float = 0.1, **options):
        super().__init__(**options)
        self.temperature = temperature

    def call(self, embeddings, families):
        """The mean loss over a batch: embeddings ``(2 n, d)``, families int ``(2 n,)``; a scalar."""
        count = ops.shape(embeddings)[0]
        same = ops.eye(count)
        similarity = embeddings @ ops.transpose(embeddings) / self.temperature - _SELF * same
        relatives = ops.cast(families[:, None] == families[None], "float32") - same
        found = ops.sum(relatives * ops.log_softmax(similarity, axis=-1), -1) / ops.sum(relatives, -1)
        return -ops.mean(found)


class PairClassification(layers.Layer):
    """Of any two photos of the batch: are they relatives?

    Binary cross-entropy of a logistic function of the cosine, as in the article but over all pairs of
    the batch; relatives and strangers weigh the same. Slope and shift train along.
    """

    def __init__(self, families: int = 0, temperature: float = 0.1, **options):
        super().__init__(**options)
        start = keras.initializers.Constant
        self.slope = self.add_weight((), initializer=start(1 / temperature), name="slope")
        self.shift = self.add_weight((), initializer=start(-0.9 / temperature), name="shift")

    def call(self, embeddings, families):
        """The mean loss over a batch: embeddings ``(2 n, d)``, families int ``(2 n,)``; a scalar."""
        logits = self.slope * (embeddings @ ops.transpose(embeddings)) + self.shift
        apart = 1 - ops.eye(ops.shape(embeddings)[0])
        relatives = ops.cast(families[:, None] == families[None], "float32") * apart
        strangers = apart - relatives
        missed = ops.sum(relatives * ops.softplus(-logits)) / ops.sum(relatives)
        mistaken = ops.sum(strangers * ops.softplus(logits)) / ops.sum(strangers)
        return (missed + mistaken) / 2


class FamilyClassification(layers.Layer):
    """Which family is a photo of? Cross-entropy of a softmax over the families of training.

    The logits are the cosines to one direction a family, divided by the temperature (NormFace: Wang et
    al., ACM Multimedia 2017). The directions train along and are thrown away afterwards.
    """

    def __init__(self, families: int, temperature: float = 0.1, **options):
        super().__init__(**options)
        self.families, self.temperature = families, temperature

    def build(self, embeddings_shape, families_shape=None):
        """One direction a family."""
        shape = (self.families, embeddings_shape[-1])
        self.directions = self.add_weight(shape, "random_normal", name="directions")

    def call(self, embeddings, families):
        """The mean loss over a batch: embeddings ``(2 n, d)``, families int ``(2 n,)``; a scalar."""
        cosines = embeddings @ ops.transpose(ops.normalize(self.directions, axis=-1))
        return ops.mean(keras.losses.sparse_categorical_crossentropy(families, cosines / self.temperature,
                                                                    from_logits=True))


LOSSES = {"contrastive": Contrastive, "pairs": PairClassification, "families": FamilyClassification}


def get(name: str, families: int, temperature: float) -> layers.Layer:
    """A loss by name. Raises ModelError: no such loss.

    Args:
        families: how many there are in training; their numbers in a batch are below it.
    """
    if name not in LOSSES:
        raise ModelError(f"There is no loss {name!r}; choose one of: {', '.join(LOSSES)}.")
    return LOSSES[name](families, temperature, dtype="float32", name="loss")
