"""Pair networks, and the one file that holds a trained one with all that it needs to be used."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from .backbones import Backbone
from .errors import ModelError
from .files import atomic

FACTS = "kinship.json"


def pair_features(a, b):
    """What two embeddings have in common, the same whichever comes first: ``(batch, 5 d)``.

    Sum, absolute difference, product, sum of squares, squared difference; each is a symmetric
    function of a and b, so swapping the photos cannot change a score.
    """
    return layers.Concatenate(name="pair_features")([
        a + b, ops.abs(a - b), a * b, ops.square(a) + ops.square(b), ops.square(a - b)])


def kinship_head(embedding_size: int, units: tuple[int, ...] = (512,), dropout: float = 0.5,
                 feature_dropout: float = 0.5):
    """A small network on two embeddings ``(batch, embedding_size)``: probability of kin ``(batch, 1)``.

    Embeddings are scaled to length 1, combined by :func:`pair_features`, standardised by batch
    normalisation, and passed through dense layers. In training, ``feature_dropout`` of the features
    and ``dropout`` of each dense layer's outputs are left out by chance: with few families, a
    network that always sees all features learns the families by heart.
    """
    a = keras.Input((embedding_size,), name="embedding_a")
    b = keras.Input((embedding_size,), name="embedding_b")
    unit = layers.UnitNormalization(name="unit_length")
    x = layers.BatchNormalization(name="standardise")(pair_features(unit(a), unit(b)))
    x = layers.Dropout(feature_dropout, name="feature_dropout")(x)
    for number, width in enumerate(units, start=1):
        x = layers.Dense(width, activation="relu", name=f"dense{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout{number}")(x)
    return keras.Model([a, b], layers.Dense(1, activation="sigmoid", name="kin")(x), name="kinship_head")


@dataclass
class KinshipModel:
    """A trained head, and the facts that go with it.

    Attributes:
        model: takes two embeddings, gives the probability of kin.
        facts: backbone, its fingerprint and preprocessing, threshold, and how it was trained.
    """

    model: keras.Model
    facts: dict

    def score(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Probability of kin for each pair of embeddings ``(n, d)``: float32 ``(n,)`` in [0, 1]."""
        parts = [np.asarray(self.model([a[i:i + 4096], b[i:i + 4096]], training=False))[:, 0]
                 for i in range(0, len(a), 4096)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def save(self, path: str | Path) -> None:
        """Write one ``.keras`` file with the facts inside, atomically."""
        with atomic(keras_path(path)) as temporary:
            self.model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(FACTS, json.dumps(self.facts, indent=2))


def load(path: str | Path, backbone: Backbone) -> KinshipModel:
    """Read what :meth:`KinshipModel.save` wrote, without running any code from the file.

    Raises:
        ModelError: missing or damaged, or trained on embeddings of another backbone.
    """
    path = keras_path(path)
    if not path.is_file():
        raise ModelError(f"There is no model {path}; train one with: python -m utils train")
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read(FACTS))
        name, fingerprint = facts["backbone"], facts["fingerprint"]
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is not a whole kinship model; train it again with: "
                         "python -m utils train") from error
    if fingerprint != backbone.fingerprint:
        raise ModelError(f"{path} was trained on embeddings of {name} ({fingerprint}), not of "
                         f"{backbone.name} ({backbone.fingerprint}); name that backbone or train it again.")
    return KinshipModel(model, facts)


def keras_path(path: str | Path) -> Path:
    """``path``, if a model can be saved there. Raises ModelError: it does not end in ``.keras``."""
    path = Path(path)
    if path.suffix != ".keras":
        raise ModelError(f"{path} must end in .keras.")
    return path
