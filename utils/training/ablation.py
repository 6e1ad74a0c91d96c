"""What each choice in fine-tuning is worth: the same training with one thing changed.

A row is trained three times, with seed and fold 0, 1 and 2: fold and seed change together, and
every row sees the same three, so rows may be compared run by run. Held-out families take no part.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from .. import files
from ..data import datasets
from ..data.datasets import Dataset
from ..errors import ModelError
from ..faces import embeddings
from ..faces.backbones import Backbone
from ..files import read_json, write_json
from ..scoring import evaluation, metrics
from .callbacks import WatchedFold, busy
from .encoder import FinetuneSettings, family_means, fit_encoder
from .head import fit_head
from .models import Encoder, FaceEmbedder, pair_similarity

SEEDS = (0, 1, 2)
FOLDS = 5
BASE = "ours"
# Name of a row to the settings in which it differs from BASE.
ROWS: dict[str, dict[str, Any]] = {
    BASE: {},
    "half as many steps": {"steps": 200},
    "32 pairs a step": {"pairs": 32},
    "temperature 0.1": {"temperature": 0.1},
    "no augmentation": {"augmentation_strength": 0.0},
    "upper half of the layers alone": {"trainable": "upper-half"},
    "pair classification": {"loss": "pairs"},
    "family classification": {"loss": "families"},
    "learning rate 2e-4": {"learning_rate": 2e-4},
    "no averaging of weights": {"averaging": 0.0},
}
# Rows that are measured with the encoders of BASE, or need none.
DERIVED = (
    "frozen encoder, cosine",
    "frozen encoder, cosine against a cohort",
    "frozen encoder, head",
    "ours without the mirror image",
    "ours without the cohort",
    "ours, head on its embeddings",
    "ours and the frozen head, mean rank",
)


# --- measuring ----------------------------------------------------------------------------------


def run(
    dataset: Dataset,
    backbone: Backbone,
    out: Path,
    rows: list[str] | None = None,
    settings: FinetuneSettings | None = None,
    seeds: tuple[int, ...] = SEEDS,
    verbose: int | str = 0,
) -> dict[str, Any]:
    """Train and measure what ``out`` lacks; a run that was killed goes on.

    Args:
        dataset: the photos and the kin.
        backbone: where every training starts.
        out: JSON file of what was measured, written anew after each training.
        rows: of ``ROWS``. None: all.
        settings: those of ``BASE``. None: the defaults.
        seeds: the runs of each row.
        verbose: what Keras's ``fit`` prints; 0: nothing.

    Returns:
        What ``out`` holds: "settings", and "rows" with the numbers of each row by seed.

    Raises:
        ModelError: no such row, or ``out`` was measured with other settings.
        BusyError: another program is measuring into ``out``.
    """
    names = check_rows(rows)
    settings = settings or FinetuneSettings()
    # two programs would overwrite each other's rows
    with files.lock(out, busy(out)):
        files.remove_leftovers(out)
        result = _measured_so_far(out, settings)
        # all rows with one seed before the next, so that a killed run has rows to compare
        for seed in seeds:
            for name in names:
                if str(seed) in result["rows"].get(name, {}):
                    continue  # measured before
                row = _train(dataset, backbone, name, seed, settings, verbose)
                for measured, numbers in _measure(row):
                    result["rows"].setdefault(measured, {})[str(seed)] = numbers
                write_json(out, result)
    return result


def check_rows(names: list[str] | None) -> list[str]:
    """The rows of these names, None for all. Raises ModelError: there is no such row."""
    if names is None:
        return list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise ModelError(f"There is no row {unknown[0]!r}; choose of: {', '.join(ROWS)}.")
    return names


def _measured_so_far(out: Path, settings: FinetuneSettings) -> dict[str, Any]:
    """What ``out`` holds, which must have been measured with these settings."""
    # as JSON has them
    base = dataclasses.asdict(settings)
    if not out.is_file():
        return {"settings": base, "rows": {}}
    try:
        result = read_json(out)
        before, _ = result["settings"], result["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{out} holds no measurements of an ablation; name another file."
        ) from error
    # rows of other settings cannot be compared with these
    if before != base:
        raise ModelError(f"{out} was measured with other settings; name another file.")
    return result


@dataclass(frozen=True, eq=False)
class TrainedRow:
    """A row of the table for one seed: an encoder, and the fold that it is measured on.

    Attributes:
        name: of ``ROWS``.
        seed: of the training.
        fold: which of the folds is watched.
        dataset: the photos and the kin.
        encoder: what was trained.
        seconds: that the training took.
        watched: the pairs of the fold, and the families of the training.
    """

    name: str
    seed: int
    fold: int
    dataset: Dataset
    encoder: Encoder
    seconds: int
    watched: WatchedFold

    def aucs(self, scores: np.ndarray) -> dict[str, float]:
        """AUC of scores ``(n,)`` over the fold's pairs, and without those of one photograph."""
        return evaluation.aucs(self.watched.labels, scores, self.watched.same_photo)

    def faces(self) -> np.ndarray:
        """All photos in the encoder's size: uint8 RGB ``(photos, size, size, 3)``."""
        size = self.encoder.backbone.input_size
        return datasets.decoded(self.dataset, [size], progress=False)[0]


def _train(
    dataset: Dataset,
    backbone: Backbone,
    name: str,
    seed: int,
    settings: FinetuneSettings,
    verbose: int | str,
) -> TrainedRow:
    """Train a row.

    Args:
        dataset: the photos and the kin.
        backbone: where it starts.
        name: of ``ROWS``.
        seed: of the training; the fold changes with it.
        settings: those of ``BASE``.
        verbose: what Keras's ``fit`` prints.
    """
    fold, start = seed % FOLDS, time.perf_counter()
    settings = dataclasses.replace(settings, **ROWS[name])
    # the end is what counts, so the fold is looked at once
    settings = dataclasses.replace(settings, check_every=settings.steps)
    encoder, _ = fit_encoder(dataset, backbone, fold, seed, settings, verbose=verbose)
    seconds = round(time.perf_counter() - start)
    watched = WatchedFold.of(dataset, fold, settings.fold_pairs)
    return TrainedRow(name, seed, fold, dataset, encoder, seconds, watched)


def _measure(row: TrainedRow) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and numbers of a row, and of the derived ones with ``BASE``."""
    encoder, watched, faces = row.encoder, row.watched, row.faces()
    # the photos of the fold alone: (n, d) for each side of its pairs
    if row.name != BASE:
        a, b = watched.sides(encoder.embed(faces[watched.photos]))
        yield row.name, row.aucs(encoder.similarity(a, b)) | {"seconds": row.seconds}
        return
    # a head learns from all photos: (photos, d)
    ours = encoder.embed(faces)
    a, b = ours[watched.a], ours[watched.b]
    yield BASE, row.aucs(encoder.similarity(a, b)) | {"seconds": row.seconds}
    # derived rows, which need no other training of the encoder
    plain = watched.sides(encoder.embed(faces[watched.photos], mirrored=False))
    yield "ours without the mirror image", row.aucs(encoder.similarity(*plain))
    yield "ours without the cohort", row.aucs(metrics.cosine(a, b))
    yield from _measure_frozen(row, faces)
    yield from _measure_heads(row, ours)


def _frozen_embeddings(row: TrainedRow) -> np.ndarray:
    """Embeddings of all photos by the encoder before it was trained: ``(photos, d)``."""
    paths = row.dataset.paths(row.dataset.photos["path"])
    return embeddings.embed_photos(row.encoder.backbone, paths, progress=False)


def _measure_frozen(row: TrainedRow, faces: np.ndarray) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and numbers of the encoder before it was trained.

    Args:
        row: of ``BASE``.
        faces: all photos, uint8 RGB ``(photos, size, size, 3)``.
    """
    frozen, watched, backbone = _frozen_embeddings(row), row.watched, row.encoder.backbone
    a, b = frozen[watched.a], frozen[watched.b]
    yield "frozen encoder, cosine", row.aucs(metrics.cosine(a, b))
    # the cohort of families that the encoder would have learned from
    embedder = FaceEmbedder(backbone.build(), backbone)
    cohort = family_means(embedder, faces, row.dataset, watched.families)
    yield "frozen encoder, cosine against a cohort", row.aucs(pair_similarity(a, b, cohort))


def _measure_heads(row: TrainedRow, ours: np.ndarray) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and numbers of heads on frozen embeddings and on those of the encoder.

    Args:
        row: of ``BASE``.
        ours: embeddings of all photos by its encoder, ``(photos, d)``.
    """
    watched = row.watched
    frozen_scores = _head_scores(row, _frozen_embeddings(row))
    yield "frozen encoder, head", row.aucs(frozen_scores)
    yield "ours, head on its embeddings", row.aucs(_head_scores(row, ours))
    # scores of two kinds have no common scale, but their ranks have
    our_scores = row.encoder.similarity(ours[watched.a], ours[watched.b])
    mean_rank = rankdata(frozen_scores) + rankdata(our_scores)
    yield "ours and the frozen head, mean rank", row.aucs(mean_rank)


def _head_scores(row: TrainedRow, rows: np.ndarray) -> np.ndarray:
    """Scores ``(n,)`` of the fold's pairs by a head that is trained on embeddings.

    Args:
        row: of ``BASE``.
        rows: the embeddings of all photos, ``(photos, d)``.
    """
    backbone = row.encoder.backbone
    head, _ = fit_head(row.dataset, rows, backbone, row.fold, row.seed, verbose=0)
    return head.score(rows[row.watched.a], rows[row.watched.b])


# --- the table ----------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> pd.DataFrame:
    """For people: mean and standard deviation over the runs of each row, and against ``BASE``.

    Args:
        result: what :func:`run` gave.
    """
    measured = result["rows"]
    base = measured.get(BASE, {})
    lines = [_line(name, measured[name], base) for name in [*DERIVED, *ROWS] if measured.get(name)]
    return pd.DataFrame(lines).set_index("")


def _line(
    name: str, runs: dict[str, dict[str, float]], base: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """A line of the table.

    Args:
        name: of the row.
        runs: its numbers by seed.
        base: those of ``BASE`` by seed.
    """
    aucs = [numbers["auc"] for numbers in runs.values()]
    cross_photo = [numbers["auc_cross_photo"] for numbers in runs.values()]
    seconds = [numbers["seconds"] for numbers in runs.values() if "seconds" in numbers]
    # run by run, where BASE has a run with the same seed
    gains = [numbers["auc"] - base[seed]["auc"] for seed, numbers in runs.items() if seed in base]
    return {
        "": name,
        "AUC": _mean_and_deviation(aucs),
        "without same-photo pairs": f"{np.mean(cross_photo):.3f}",
        "against ours": _mean_and_deviation(gains, "+") if gains and name != BASE else "",
        "runs": len(runs),
        "minutes": f"{np.mean(seconds) / 60:.1f}" if seconds else "",
    }


def _mean_and_deviation(numbers: Sequence[float], sign: str = "") -> str:
    """Mean and standard deviation of some runs, for people; of one run the deviation is 0.

    Args:
        numbers: one a run.
        sign: ``"+"`` to write the plus of a mean above 0.
    """
    deviation = np.std(numbers, ddof=1) if len(numbers) > 1 else 0.0
    return f"{np.mean(numbers):{sign}.3f} ± {deviation:.3f}"
