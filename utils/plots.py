"""Figures that more than one lesson draws. Each returns its matplotlib figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont

from . import images
from .data.audit import Audit, same_photo_share
from .data.datasets import Dataset
from .faces.detection import Face
from .scoring import metrics

if TYPE_CHECKING:  # brings TensorFlow
    from .answers.explanation import Explanation

KIN, STRANGER, NEUTRAL = "#c2571a", "#2a6f97", "#6c757d"


def show_as_jpeg(quality: int = 88) -> None:
    """Let notebooks show figures as JPEG: with photographs in them, PNG takes five times the space."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": quality})


def photos(pictures: Sequence, titles: Sequence[str] = (), columns: int = 6, size: float = 1.6):
    """Pictures in a grid. ``pictures``: paths or RGB uint8 arrays; ``size``: inches each."""
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    height = size + (0.25 if len(titles) else 0)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * height), squeeze=False)
    for number, axis in enumerate(axes.flat):
        axis.axis("off")
        if number < len(pictures):
            axis.imshow(_picture(pictures[number]))
            if number < len(titles):
                axis.set_title(titles[number], fontsize=8)
    figure.tight_layout(pad=0.3)
    return figure


def pair_gallery(dataset: Dataset, table: pd.DataFrame, titles: Sequence[str] = (), columns: int = 3):
    """Pairs of photos side by side. ``table`` has photo_a and photo_b, relative to the data's root."""
    joined = [np.hstack([_picture(dataset.root / a), np.full((112, 4, 3), 255, np.uint8),
                         _picture(dataset.root / b)])
              for a, b in table[["photo_a", "photo_b"]].itertuples(index=False)]
    figure = photos(joined, titles, columns)
    figure.set_size_inches(columns * 2.6, -(-len(joined) // columns) * 1.6)
    figure.tight_layout(pad=0.4)
    return figure


def _picture(source) -> np.ndarray:
    return source if isinstance(source, np.ndarray) else images.read_resized(source, 112)


def faces(photo: np.ndarray, found: Sequence[Face]) -> np.ndarray:
    """A copy of an RGB uint8 photo with each face's box, landmarks, number and confidence drawn on it."""
    picture = Image.fromarray(photo)
    draw = ImageDraw.Draw(picture)
    unit = max(1.0, max(picture.size) / 640)
    font = ImageFont.load_default(12 * unit)
    for number, face in enumerate(found, start=1):
        x, y, width, height = face.box
        line = round(max(unit, width / 60))
        draw.rectangle((x, y, x + width, y + height), outline=KIN, width=line)
        for px, py in face.landmarks:
            radius = max(1.5 * unit, width / 40)
            draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill="white", outline=KIN)
        text = f"{number}: {face.confidence:.2f}"
        left, top, right, bottom = draw.textbbox((x, y), text, font)
        base = max(0, y - (bottom - top) - 4 * unit)
        draw.rectangle((x, base, x + right - left + 6 * unit, base + bottom - top + 4 * unit), fill=KIN)
        draw.text((x + 3 * unit, base + 2 * unit - (top - y)), text, fill="white", font=font)
    return np.asarray(picture)


def family(dataset: Dataset, name: str):
    """A family's graph: a photo for each person, a line for each pair listed as kin."""
    import networkx as nx

    part = dataset.of_families([name])
    graph = nx.Graph()
    graph.add_nodes_from(sorted(part.people))
    graph.add_edges_from(part.kin[["p1", "p2"]].itertuples(index=False))
    position = nx.circular_layout(graph)
    first = part.photos.groupby("person")["path"].first()
    figure, axis = plt.subplots(figsize=(6, 5))
    nx.draw_networkx_edges(graph, position, ax=axis, edge_color=KIN, width=2)
    for person, (x, y) in position.items():
        axis.imshow(_picture(dataset.root / first[person]), extent=(x - .22, x + .22, y - .22, y + .22), zorder=3)
        axis.text(x, y - .3, person.partition("/")[2], ha="center", fontsize=9, zorder=4)
    axis.set(xlim=(-1.35, 1.35), ylim=(-1.4, 1.3), aspect="equal")
    axis.set_title(f"{name}: a line joins two people listed as kin")
    axis.axis("off")
    return figure


def families(dataset: Dataset, names: Sequence[str], photos_each: int = 2, columns: int = 9) -> np.ndarray:
    """A picture with one row for each family: two photos of each person, RGB uint8."""
    rows = []
    for name in names:
        paths = dataset.photos[dataset.photos["family"] == name].groupby("person")["path"].head(photos_each)
        faces = [_picture(dataset.root / path) for path in paths[:columns]]
        blank = [np.full_like(faces[0], 255)] * (columns - len(faces))
        rows.append(np.hstack(faces + blank))
    return np.vstack(rows)


def audit_overview(audit: Audit, dataset: Dataset):
    """Four histograms: photos a person, people a family, kin pairs a family, shared photographs."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.5))
    per_person = dataset.photos["person"].value_counts()
    members = dataset.photos.groupby("family")["person"].nunique()
    kin = dataset.kin["family"].value_counts()
    share = 100 * same_photo_share(dataset)
    for axis, values, label, what in (
            (axes[0, 0], per_person.clip(upper=20), "photos of a person (20: 20 or more)", "people"),
            (axes[0, 1], members.clip(upper=20), "people in a family (20: 20 or more)", "families"),
            (axes[1, 0], kin.clip(upper=30), "kin pairs in a family (30: 30 or more)", "families")):
        axis.hist(values, bins=np.arange(values.max() + 1) + 0.5, color=STRANGER, rwidth=0.85)
        axis.set(xlabel=label, ylabel=what)
    axes[1, 1].hist(share, bins=20, range=(0, 100), color=KIN, rwidth=0.85)
    axes[1, 1].set(xlabel="photo pairs cut from one photograph (%)", ylabel="kin pairs", yscale="log")
    facts = audit.sections["photos"]
    figure.suptitle(f"{facts['training_photos']} photos of {facts['people_with_photos']} people")
    figure.tight_layout()
    return figure


def roc(curves: dict[str, tuple[np.ndarray, np.ndarray]]):
    """ROC and precision–recall curves. ``curves``: name to (labels, scores)."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4))
    for name, (labels, scores) in curves.items():
        false_accept, true_accept, _ = roc_curve(labels, scores)
        left.plot(false_accept, true_accept, label=f"{name}: AUC {metrics.roc_auc(labels, scores):.3f}")
        precision, recall, _ = precision_recall_curve(labels, scores)
        right.plot(recall, precision, label=name)
    left.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", label="guessing")
    left.set(xlabel="strangers accepted (share)", ylabel="kin accepted (share)", title="ROC")
    right.set(xlabel="kin found (recall)", ylabel="found that are kin (precision)", title="Precision–recall",
              ylim=(0.4, 1.02))
    left.legend(loc="lower right", fontsize=9)
    right.legend(loc="lower left", fontsize=9)
    figure.tight_layout()
    return figure


def score_histogram(labels: np.ndarray, scores: np.ndarray, threshold: float | None = None,
                    xlabel: str = "score", axis=None):
    """Scores of kin and of strangers, and the threshold."""
    axis = axis or plt.subplots(figsize=(6.4, 3.6))[1]
    labels = np.asarray(labels).astype(bool)
    bins = np.linspace(np.min(scores), np.max(scores), 41)
    axis.hist(scores[~labels], bins, alpha=0.65, color=STRANGER, label="strangers", density=True)
    axis.hist(scores[labels], bins, alpha=0.65, color=KIN, label="kin", density=True)
    if threshold is not None:
        axis.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.2f}")
    axis.set(xlabel=xlabel, ylabel="density of pairs")
    axis.legend(fontsize=9)
    return axis.figure


def reliability(curves: dict[str, tuple[np.ndarray, np.ndarray]], bins: int = 10):
    """Reliability diagram: claimed probability against the share that is kin."""
    return reliability_tables({name: metrics.reliability(*curve, bins) for name, curve in curves.items()})


def reliability_tables(tables: dict[str, np.ndarray]):
    """The same from tables ``(bins, 3)`` that :func:`metrics.reliability` gave."""
    figure, axis = plt.subplots(figsize=(4.6, 4.4))
    axis.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", label="perfect")
    for name, table in tables.items():
        mean, share, _ = np.transpose(table)
        axis.plot(mean, share, marker="o", label=f"{name}: error {metrics.table_error(table):.3f}")
    axis.set(xlabel="claimed probability of kin", ylabel="share that is kin", xlim=(0, 1), ylim=(0, 1))
    axis.legend(fontsize=9, loc="upper left")
    figure.tight_layout()
    return figure


def regions(crops: np.ndarray, explanation: "Explanation"):
    """The two faces with their regions coloured by what each carries, and the same as bars.

    Args:
        crops: uint8 RGB ``(2, size, size, 3)``, as they were explained.
    """
    names, values = list(explanation.carried), list(explanation.carried.values())
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2), gridspec_kw={"width_ratios": [1, 1, 1.25]})
    for axis, picture in zip(axes, region_pictures(crops, explanation), strict=False):
        axis.imshow(picture)
        axis.axis("off")
    spread = [2 * explanation.spread[name] for name in names]
    colours = [KIN if value > 0 else STRANGER for value in values]
    axes[2].barh(names[::-1], values[::-1], xerr=spread[::-1], color=colours[::-1], ecolor=NEUTRAL)
    axes[2].axvline(0, color=NEUTRAL, linewidth=1)
    axes[2].set(xlabel="log-odds of kinship that the region carries")
    figure.tight_layout()
    return figure


def region_pictures(crops: np.ndarray, explanation: "Explanation") -> np.ndarray:
    """The two faces with their regions coloured: the more a region carries, the stronger.

    Args:
        crops: uint8 RGB ``(2, size, size, 3)``, as they were explained; the pictures are of the same shape.
    """
    values = np.array(list(explanation.carried.values()))
    strength = np.abs(values) / max(np.abs(values).max(), 0.25)  # what is next to nothing stays pale
    colours = [255 * np.array(to_rgb(KIN if value > 0 else STRANGER)) for value in values]
    pictures = crops.astype(float)
    for region, (share, colour) in enumerate(zip(strength, colours, strict=True)):
        cover = 0.75 * share * explanation.masks[:, region, ..., None]
        pictures = pictures * (1 - cover) + colour * cover
    return pictures.round().astype(np.uint8)


def history(curves: dict[str, Sequence[float]], ylabel: str, xlabel: str = "epoch", axis=None):
    """Training curves by epoch, counted from 1."""
    axis = axis or plt.subplots(figsize=(6.4, 3.6))[1]
    for name, values in curves.items():
        axis.plot(np.arange(1, len(values) + 1), values, marker=".", label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(fontsize=9)
    return axis.figure


def pair_network(network):
    """The article's model as boxes from left to right, with the sizes and numbers that it has.

    Args:
        network: what ``models.pair_network`` gives.
    """
    head = network.get_layer("pair_head")
    towers = [layer for layer in network.layers if hasattr(layer, "layers") and layer is not head]
    figure, axis = plt.subplots(figsize=(11, 0.6 + 2.1 * len(towers)))
    axis.set(xlim=(0, 11), ylim=(-len(towers), 0))
    axis.axis("off")
    middle = -len(towers) / 2
    for number, tower in enumerate(towers):
        y = -number - 0.5
        size, width = tower.input_shape[1], tower.output_shape[1]
        maps = [layer for layer in head.layers if layer.name.startswith(f"{tower.name}_") and layer.weights]
        kinds = 6 if not maps else len(maps)
        for side, shift in (("a", 0.22), ("b", -0.22)):
            _box(axis, 0.9, y + shift, f"photo {side}\n{size}×{size}", NEUTRAL)
            _arrow(axis, (1.55, y + shift), (2.15, y))
            _arrow(axis, (4.05, y), (4.6, y + shift))
            _box(axis, 5.05, y + shift, f"{side}: {width}", STRANGER)
            _arrow(axis, (5.5, y + shift), (6.1, y))
        _box(axis, 3.1, y, f"{tower.name}\n{tower.count_params() / 1e6:.1f} million", STRANGER)
        _box(axis, 6.9, y, f"{kinds} features\nof the pair" + (f"\neach to {maps[0].units}" if maps else ""), KIN)
        _arrow(axis, (7.75, y), (8.3, middle))
    dense = [layer.units for layer in head.layers if layer.name.startswith("dense")]
    _box(axis, 9.0, middle, f"{head.get_layer('features').output.shape[1]} numbers\n"
                            + "\n".join(map(str, dense)), KIN)
    _arrow(axis, (9.65, middle), (10.0, middle))
    _box(axis, 10.45, middle, "p(kin)", KIN)
    return figure


def _box(axis, x: float, y: float, text: str, colour: str) -> None:
    axis.text(x, y, text, ha="center", va="center", fontsize=9, color="white",
              bbox={"boxstyle": "round,pad=0.45", "facecolor": colour, "edgecolor": "none"})


def _arrow(axis, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": NEUTRAL, "lw": 1})


def save(figure, path: str | Path) -> None:
    """Write a figure as PNG and close it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
