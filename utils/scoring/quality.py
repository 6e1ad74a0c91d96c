"""How good and how private the synthetic families are, in figures."""

import numpy as np
import pandas as pd

from ..data import synthetic
from ..data.datasets import Dataset
from ..errors import DatasetError
from ..faces import detection
from ..faces.backbones import Backbone
from ..faces.embeddings import embed_photos
from ..images import read_many
from . import metrics
from .metrics import cosine, normalise

CASES = 4000


def measure(dataset: Dataset, backbone: Backbone, seed: int = 0) -> dict:
    """Whether faces are found, and how well frozen embeddings tell the cases apart (ROC AUC).

    Same person and kin are both compared with strangers of other families; pairs cut from one
    photograph are left out. The same figures on the real data say what to expect.

    Raises:
        DatasetError: no person or no kin with photos from two photographs.
    """
    rng = np.random.default_rng(seed)
    embeddings = embed_photos(backbone, dataset.paths(dataset.photos["path"]))
    photos = dataset.photos.reset_index(drop=True)
    rows = photos.groupby("person").indices
    same = _draw([(p, p) for p in rows if len(rows[p]) > 1], rows, photos, rng)
    kin = _draw(list(dataset.kin[["p1", "p2"]].itertuples(index=False, name=None)), rows, photos, rng)
    strangers = rng.integers(len(photos), size=(2 * CASES, 2))
    family = photos["family"].to_numpy()
    strangers = strangers[family[strangers[:, 0]] != family[strangers[:, 1]]]
    score = {name: cosine(embeddings[pairs[:, 0]], embeddings[pairs[:, 1]])
             for name, pairs in (("same", same), ("kin", kin), ("strangers", strangers))}
    return {
        "faces_found_percent": faces_found(dataset, rng),
        "same_person_auc": _auc(score["same"], score["strangers"]),
        "kin_auc": _auc(score["kin"], score["strangers"]),
        "cosine_same_person": round(float(score["same"].mean()), 3),
        "cosine_kin": round(float(score["kin"].mean()), 3),
        "cosine_strangers": round(float(score["strangers"].mean()), 3),
    }


def faces_found(dataset: Dataset, rng: np.random.Generator, count: int = 300) -> float:
    """Percentage of (up to ``count`` random) crops in which MTCNN finds a face."""
    names = dataset.photos["path"].to_numpy()
    chosen = names[rng.permutation(len(names))[:count]]
    crops = read_many(dataset.paths(chosen), synthetic.PHOTO_SIZE)
    found = [face is not None for face in detection.detect_in_crops(crops)]
    return round(100 * float(np.mean(found)), 1)


def _draw(people: list[tuple[str, str]], rows: dict, photos: pd.DataFrame, rng) -> np.ndarray:
    """Photo pairs of these pairs of people, never one photo twice nor one photograph twice."""
    source = (photos["family"] + photos["photo_id"]).to_numpy()
    drawn = []
    for index in rng.integers(len(people), size=CASES) if people else ():
        a, b = (rows[name][rng.integers(len(rows[name]))] for name in people[index])
        if source[a] != source[b]:
            drawn.append((a, b))
    if not drawn:
        raise DatasetError("There are too few photos to compare: no two from different photographs.")
    return np.array(drawn)


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return round(metrics.roc_auc(labels, np.concatenate([positive, negative])), 3)


def privacy(synthetic_data: Dataset, real: Dataset, backbone: Backbone) -> dict:
    """Is a synthetic person closer to some real one than real strangers are to each other?

    For each person the first photo is embedded. The distance (1 − cosine) of each synthetic person
    to the nearest real person is set beside that of each real person to the nearest real person of
    another family. ``same_person_distance`` is the median distance of two photos of one real person:
    closer than that is as close as a person usually is to themselves.
    """
    made, people = _first_embeddings(synthetic_data, backbone), _first_embeddings(real, backbone)
    family = real.photos.groupby("person")["family"].first().to_numpy()
    to_real = 1 - (made @ people.T).max(1)
    among = people @ people.T
    among[family[:, None] == family[None]] = -1
    strangers = 1 - among.max(1)
    limit = _same_person_distance(real, backbone)
    return {
        "synthetic_people": len(made), "real_people": len(people),
        "same_person_distance": round(limit, 3),
        "nearest_real_to_synthetic": _quantiles(to_real), "nearest_stranger_to_real": _quantiles(strangers),
        "synthetic_under_distance_percent": round(100 * float((to_real < limit).mean()), 1),
        "real_strangers_under_distance_percent": round(100 * float((strangers < limit).mean()), 1),
    }


def _first_embeddings(dataset: Dataset, backbone: Backbone) -> np.ndarray:
    first = dataset.photos.groupby("person")["path"].first()
    return normalise(embed_photos(backbone, dataset.paths(first)))


def _same_person_distance(dataset: Dataset, backbone: Backbone, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    photos = dataset.photos.reset_index(drop=True)
    rows = photos.groupby("person").indices
    pairs = _draw([(p, p) for p in rows if len(rows[p]) > 1], rows, photos, rng)
    embeddings = embed_photos(backbone, dataset.paths(photos["path"]))
    return float(np.quantile(1 - cosine(embeddings[pairs[:, 0]], embeddings[pairs[:, 1]]), 0.5))


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {f"{q}%": round(float(np.quantile(values, q / 100)), 3) for q in (0, 1, 5, 25, 50, 75, 95)}
