"""How good and how private the synthetic families are, in numbers."""

import numpy as np
import pandas as pd

from ..data import datasets
from ..data.datasets import Dataset
from ..errors import DatasetError
from ..faces import detection
from ..faces.backbones import Backbone
from ..faces.embeddings import embed_photos
from ..images import read_many
from . import metrics
from .metrics import cosine, normalise

CASES = 4000  # pairs of photos drawn of each kind
QUANTILES = (0, 1, 5, 25, 50, 75, 95)  # in percent


def measure(dataset: Dataset, backbone: Backbone, seed: int = 0) -> dict[str, float]:
    """Whether faces are found, and how well frozen embeddings tell the cases apart (ROC AUC).

    Same person and kin are both compared with strangers of other families; pairs cut from one
    photograph are left out. The same numbers on the real data say what to expect.

    Args:
        dataset: photos and kin.
        backbone: what embeds the photos.
        seed: of the draws.

    Raises:
        DatasetError: no person or no kin with photos from two photographs.
    """
    rng = np.random.default_rng(seed)
    photos = dataset.photos.reset_index(drop=True)
    embeddings = embed_photos(backbone, dataset.paths(photos["path"]))  # (photos, d)

    # rows of photos, (pairs, 2) each; kin and strangers are drawn after the same person
    kin_people = list(dataset.kin[["p1", "p2"]].itertuples(index=False, name=None))
    same = _similarity(embeddings, _draw(_with_themselves(photos), photos, rng))
    kin = _similarity(embeddings, _draw(kin_people, photos, rng))
    strangers = _similarity(embeddings, _draw_strangers(photos, rng))
    return {
        "faces_found_percent": faces_found(dataset, rng),
        "same_person_auc": _auc(same, strangers),
        "kin_auc": _auc(kin, strangers),
        "cosine_same_person": round(float(same.mean()), 3),
        "cosine_kin": round(float(kin.mean()), 3),
        "cosine_strangers": round(float(strangers.mean()), 3),
    }


def faces_found(dataset: Dataset, rng: np.random.Generator, count: int = 300) -> float:
    """Percentage of crops, drawn at random, in which MTCNN finds a face.

    Args:
        dataset: photos to draw from.
        rng: what draws them.
        count: crops to search, at most.
    """
    paths = dataset.photos["path"].to_numpy()
    drawn = paths[rng.permutation(len(paths))[:count]]
    crops = read_many(dataset.paths(drawn), datasets.PHOTO_SIZE)  # (count, size, size, 3)
    with_face = [face is not None for face in detection.detect_in_crops(list(crops))]
    return round(100 * float(np.mean(with_face)), 1)


def privacy(synthetic_data: Dataset, real: Dataset, backbone: Backbone) -> dict:
    """Is a synthetic person closer to some real one than real strangers are to each other?

    For each person the first photo is embedded. The distance (1 − cosine) of each synthetic person
    to the nearest real person is set beside that of each real person to the nearest real person of
    another family. ``same_person_distance`` is the median distance of two photos of one real
    person: closer than that is as close as a person usually is to themselves.

    Args:
        synthetic_data: the synthetic families.
        real: the families from which they might have been copied.
        backbone: what embeds the photos.
    """
    # one embedding a person: (people, d)
    synthetic_people = _first_embeddings(synthetic_data, backbone)
    real_people = _first_embeddings(real, backbone)

    # distance to the nearest: (synthetic people,) and (real people,)
    to_real = 1 - (synthetic_people @ real_people.T).max(1)
    cosines = real_people @ real_people.T
    family = real.photos.groupby("person")["family"].first().to_numpy()
    cosines[family[:, None] == family[None]] = -1  # as far as can be: never the nearest
    to_stranger = 1 - cosines.max(1)

    limit = _same_person_distance(real, backbone)
    return {
        "synthetic_people": len(synthetic_people),
        "real_people": len(real_people),
        "same_person_distance": round(limit, 3),
        "nearest_real_to_synthetic": _quantiles(to_real),
        "nearest_stranger_to_real": _quantiles(to_stranger),
        "synthetic_under_distance_percent": _percent_under(limit, to_real),
        "real_strangers_under_distance_percent": _percent_under(limit, to_stranger),
    }


# --- pairs --------------------------------------------------------------------------------------


def _draw(
    people: list[tuple[str, str]], photos: pd.DataFrame, rng: np.random.Generator
) -> np.ndarray:
    """Rows of photos, int64 ``(pairs, 2)``: pairs of these people, from two photographs."""
    rows = photos.groupby("person").indices
    photograph = (photos["family"] + photos["photo_id"]).to_numpy()
    pairs = []
    for index in rng.integers(len(people), size=CASES) if people else ():
        a, b = (rows[person][rng.integers(len(rows[person]))] for person in people[index])
        if photograph[a] != photograph[b]:
            pairs.append((a, b))
    if not pairs:
        raise DatasetError(
            "There are too few photos to compare: no two from different photographs."
        )
    return np.array(pairs)


def _with_themselves(photos: pd.DataFrame) -> list[tuple[str, str]]:
    """Each person of several photos, paired with themselves."""
    rows = photos.groupby("person").indices
    return [(person, person) for person in rows if len(rows[person]) > 1]


def _draw_strangers(photos: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Rows of photos, int64 ``(pairs, 2)``: of two families each."""
    pairs = rng.integers(len(photos), size=(2 * CASES, 2))
    family = photos["family"].to_numpy()[pairs]  # (2 * CASES, 2)
    return pairs[family[:, 0] != family[:, 1]]


# --- numbers ------------------------------------------------------------------------------------


def _similarity(embeddings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """``(pairs,)``: cosine of two rows each."""
    return cosine(embeddings[pairs[:, 0]], embeddings[pairs[:, 1]])


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """ROC AUC of two lists of scores."""
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return round(metrics.roc_auc(labels, np.concatenate([positive, negative])), 3)


def _first_embeddings(dataset: Dataset, backbone: Backbone) -> np.ndarray:
    """``(people, d)`` of length 1: each person's first photo."""
    first = dataset.photos.groupby("person")["path"].first()
    return normalise(embed_photos(backbone, dataset.paths(first)))


def _same_person_distance(dataset: Dataset, backbone: Backbone, seed: int = 0) -> float:
    """Median distance (1 − cosine) of two photos of one person."""
    rng = np.random.default_rng(seed)
    photos = dataset.photos.reset_index(drop=True)
    pairs = _draw(_with_themselves(photos), photos, rng)
    embeddings = embed_photos(backbone, dataset.paths(photos["path"]))
    return float(np.quantile(1 - _similarity(embeddings, pairs), 0.5))


def _quantiles(values: np.ndarray) -> dict[str, float]:
    """Percentage to quantile."""
    return {f"{q}%": round(float(np.quantile(values, q / 100)), 3) for q in QUANTILES}


def _percent_under(limit: float, distances: np.ndarray) -> float:
    """Percentage of distances below a limit."""
    return round(100 * float((distances < limit).mean()), 1)
