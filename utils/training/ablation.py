"""What each choice in fine-tuning is worth: the same training with one thing changed, on inner folds.

A row is trained three times, with seed and fold 0, 1 and 2: fold and seed change together, and every row
sees the same three, so rows may be compared run by run. Held-out families take no part.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ..data import pairs
from ..data.datasets import Dataset
from ..errors import ModelError
from ..faces import embeddings
from ..faces.backbones import Backbone
from ..files import read_json, write_json
from ..scoring import metrics
from . import training
from .models import KinshipEncoder
from .training import FinetuneSettings

SEEDS = (0, 1, 2)
BASE = "ours"
ROWS: dict[str, dict] = {
    BASE: {},
    "half as many steps": {"steps": 200},
    "32 pairs a step": {"pairs": 32},
    "temperature 0.1": {"temperature": 0.1},
    "no augmentation": {"augmented": 0.0},
    "upper half of the layers alone": {"trainable": "upper-half"},
    "pair classification": {"loss": "pairs"},
    "family classification": {"loss": "families"},
    "learning rate 2e-4": {"learning_rate": 2e-4},
    "no averaging of weights": {"averaging": 0.0},
}
# Rows that are measured with the encoders of BASE, or need none.
DERIVED = ("frozen encoder, cosine", "frozen encoder, cosine against a cohort", "frozen encoder, head",
           "ours without the mirror image", "ours without the cohort", "ours, head on its embeddings",
           "ours and the frozen head, mean rank")


def run(dataset: Dataset, backbone: Backbone, out: Path, rows: list[str] | None = None,
        how: FinetuneSettings | None = None, seeds: tuple[int, ...] = SEEDS, verbose: int | str = 0) -> dict:
    """Train and measure what ``out`` lacks; a run that was killed goes on.

    Args:
        out: JSON file of what was measured, written anew after each training.
        rows: of ``ROWS``; None: all. how: the settings of ``BASE``; None: the defaults.

    Raises:
        ModelError: no such row, or ``out`` was measured with other settings.
    """
    wanted, how = list(ROWS) if rows is None else rows, how or FinetuneSettings()
    if unknown := [row for row in wanted if row not in ROWS]:
        raise ModelError(f"There is no row {unknown[0]!r}; choose of: {', '.join(ROWS)}.")
    base = dataclasses.asdict(how)
    try:
        result = read_json(out) if out.is_file() else {"settings": base, "rows": {}}
        before, _ = result["settings"], result["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{out} holds no measurements of an ablation; name another file.") from error
    if before != base:
        raise ModelError(f"{out} was measured with other settings; name another file.")
    for seed in seeds:
        for row in wanted:
            measured = result["rows"].setdefault(row, {})
            if str(seed) in measured:
                continue
            for name, figures in _measure(dataset, backbone, row, seed, how, verbose):
                result["rows"].setdefault(name, {})[str(seed)] = figures
            write_json(out, result)
    return result


def _measure(dataset: Dataset, backbone: Backbone, row: str, seed: int, how: FinetuneSettings,
             verbose: int) -> Iterator[tuple[str, dict]]:
    """Name and figures of a row, and of the derived ones with ``BASE``."""
    fold, start = seed % 5, time.perf_counter()
    how = dataclasses.replace(how, **ROWS[row])
    how = dataclasses.replace(how, check_every=how.steps)  # its end is what counts
    encoder, _ = training.fit_encoder(dataset, backbone, fold, seed, how, verbose=verbose)
    seconds = round(time.perf_counter() - start)
    watched = training.fold_protocol(dataset, pairs.folds_for(dataset), fold, how.fold_pairs)
    a, b = pairs.photo_rows(watched, dataset)
    faces = training.decoded(dataset, [backbone])[0]
    rows = np.arange(len(faces)) if row == BASE else np.union1d(a, b)  # a head learns from all photos
    found = np.full((len(faces), encoder.embedding_size), np.nan, np.float32)
    found[rows] = encoder.embed(faces[rows])
    yield row, _figures(watched, encoder.similarity(found[a], found[b])) | {"seconds": seconds}
    if row == BASE:
        plain = encoder.embed(faces[np.union1d(a, b)], mirrored=False)
        place = np.searchsorted(np.union1d(a, b), [a, b])
        yield "ours without the mirror image", _figures(watched, encoder.similarity(*plain[place]))
        yield "ours without the cohort", _figures(watched, metrics.cosine(found[a], found[b]))
        yield from _with_heads(dataset, encoder, found, fold, seed, watched)


def _with_heads(dataset: Dataset, encoder: KinshipEncoder, ours: np.ndarray, fold: int, seed: int,
                watched: pd.DataFrame) -> Iterator[tuple[str, dict]]:
    """The frozen encoder, and heads on either's embeddings ``(photos, d)``."""
    backbone = encoder.backbone
    frozen = embeddings.embed_photos(backbone, dataset.paths(dataset.photos["path"]), progress=False)
    a, b = pairs.photo_rows(watched, dataset)
    folds = pairs.folds_for(dataset)
    unchanged = KinshipEncoder(backbone.build(), {}, backbone)
    unchanged.cohort = training.cohort(unchanged, dataset, list(folds.loc[folds["fold"] != fold, "family"]))
    frozen_head, own_head = (
        training.fit_head(dataset, each, backbone, fold, seed, verbose=0)[0].score(each[a], each[b])
        for each in (frozen, ours))
    mean_rank = rankdata(frozen_head) + rankdata(encoder.similarity(ours[a], ours[b]))
    for name, scores in (("frozen encoder, cosine", metrics.cosine(frozen[a], frozen[b])),
                         ("frozen encoder, cosine against a cohort", unchanged.similarity(frozen[a], frozen[b])),
                         ("frozen encoder, head", frozen_head), ("ours, head on its embeddings", own_head),
                         ("ours and the frozen head, mean rank", mean_rank)):
        yield name, _figures(watched, scores)


def _figures(watched: pd.DataFrame, scores: np.ndarray) -> dict[str, float]:
    """AUC over all pairs of the fold, and without those cut from one photograph."""
    labels, apart = watched["is_related"].to_numpy(), watched["same_photo"].to_numpy() == 0
    return {"auc": round(metrics.roc_auc(labels, scores), 4),
            "auc_cross_photo": round(metrics.roc_auc(labels[apart], scores[apart]), 4)}


def table(result: dict) -> pd.DataFrame:
    """Mean and standard deviation over the runs of each row, and of its difference to ``BASE``, for people."""
    base = result["rows"].get(BASE, {})
    lines = []
    for name in [*DERIVED, *ROWS]:
        runs = result["rows"].get(name, {})
        if not runs:
            continue
        auc, cross = (np.array([figures[key] for figures in runs.values()]) for key in ("auc", "auc_cross_photo"))
        gains = [figures["auc"] - base[seed]["auc"] for seed, figures in runs.items() if seed in base]
        seconds = [figures["seconds"] for figures in runs.values() if "seconds" in figures]
        lines.append({"": name, "AUC": f"{auc.mean():.3f} ± {auc.std(ddof=len(auc) > 1):.3f}",
                      "without same-photo pairs": f"{cross.mean():.3f}",
                      "against ours": "" if name == BASE or not gains else
                      f"{np.mean(gains):+.3f} ± {np.std(gains, ddof=len(gains) > 1):.3f}",
                      "runs": len(runs), "minutes": f"{np.mean(seconds) / 60:.1f}" if seconds else ""})
    return pd.DataFrame(lines).set_index("")
