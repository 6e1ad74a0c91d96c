"""Figures that more than one lesson draws. Each returns its matplotlib figure."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from . import files, images
from .data.audit import Audit, same_photo_share
from .data.datasets import Dataset
from .faces.detection import Face
from .scoring import metrics

if TYPE_CHECKING:  # brings TensorFlow
    from .answers.explanation import Regions

KIN, STRANGER, NEUTRAL = "#c2571a", "#2a6f97", "#6c757d"
SIDE = 112  # pixels of a photo in a figure
GAP = 4  # pixels of white between the two photos of a pair
# The course from left to right: a group of lessons, and what each of them is about.
COURSE = {
    "data": {"01": "audit", "02": "pairs"},
    "models": {"03": "first\nmodel", "04": "article's\nmodel", "05": "fine-\ntuning"},
    "scores": {"06": "evaluation"},
    "faces": {"07": "detection", "08": "verification"},
    "apps": {"09": "Streamlit", "10": "Flask"},
    "together": {"11": "album"},
}
# The sketch of a Streamlit page: lines that an element takes, colours of messages.
ELEMENT_HEIGHTS = {
    **dict.fromkeys(
        ("text_input", "selectbox", "slider", "radio", "file_uploader", "metric"), 1.6
    ),
    "title": 1.4,
    "image": 4.5,
}
LINE_HEIGHT = 0.55  # of each further line of a text
MESSAGES = {"success": "#dff5e3", "info": "#dfeefb", "warning": "#fff4d6", "error": "#fde2e1"}
FIXED_TEXTS = {"file_uploader": "drop a file here", "table": "a table", "dataframe": "a table"}
PALE = 0.25  # log-odds: when no region carries so much, all of them stay pale


def show_as_jpeg(quality: int = 88) -> None:
    """Let notebooks show figures as JPEG: with photos in them, PNG takes five times the space."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": quality})


def slider(
    draw: Callable[[Any], Figure], values: Sequence[Any], label: str, start: Any = None
) -> None:
    """Show a figure, and below it a slider that draws it anew.

    The figure at the start is an ordinary picture: HTML pages and GitHub show it, and the slider
    appears where a kernel runs.

    Args:
        draw: from one of the values to a figure.
        values: that the slider stops at.
        label: left of the slider.
        start: the first of them to draw. None: the one in the middle.
    """
    import ipywidgets
    from IPython.display import display

    start = values[len(values) // 2] if start is None else start
    control = ipywidgets.SelectionSlider(
        options=values, value=start, description=label, continuous_update=False
    )
    control.layout.width, control.style.description_width = "32em", "initial"
    figure = draw(start)
    handle = display(figure, display_id=True)
    plt.close(figure)  # or the cell would show it a second time

    def redraw(change: dict[str, Any]) -> None:
        figure = draw(change["new"])
        handle.update(figure)
        plt.close(figure)

    control.observe(redraw, names="value")
    display(control)


# --- photos -------------------------------------------------------------------------------------


def photos(
    pictures: Sequence[str | Path | np.ndarray],
    titles: Sequence[str] = (),
    columns: int = 6,
    size: float = 1.6,
) -> Figure:
    """Pictures in a grid.

    Args:
        pictures: paths or RGB uint8 arrays.
        titles: above the pictures, for as many as there are titles.
        columns: pictures in a row, at most.
        size: inches of a picture.
    """
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, _rows(len(pictures), columns))
    height = size + (0.25 if len(titles) else 0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * size, rows * height), squeeze=False
    )
    # a picture in each axis, nothing in those left over
    for number, axis in enumerate(axes.flat):
        axis.axis("off")
        if number < len(pictures):
            axis.imshow(_picture(pictures[number]))
            if number < len(titles):
                axis.set_title(titles[number], fontsize=8)
    figure.tight_layout(pad=0.3)
    return figure


def pair_gallery(
    dataset: Dataset, table: pd.DataFrame, titles: Sequence[str] = (), columns: int = 3
) -> Figure:
    """Pairs of photos side by side.

    Args:
        dataset: where the photos lie.
        table: pairs with photo_a and photo_b, relative to the data's root.
        titles: above the pairs.
        columns: pairs in a row, at most.
    """
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    pairs = []
    for a, b in table[["photo_a", "photo_b"]].itertuples(index=False):
        first, second = _picture(dataset.root / a), _picture(dataset.root / b)
        pairs.append(np.hstack([first, gap, second]))
    figure = photos(pairs, titles, columns)
    height = 1.85 if len(titles) else 1.6  # a title needs room above its pair
    figure.set_size_inches(columns * 2.6, _rows(len(pairs), columns) * height)
    figure.tight_layout(pad=0.4, w_pad=1.6)  # pairs farther apart than the photos of one pair
    return figure


def _rows(count: int, columns: int) -> int:
    """Rows that so many pictures fill, the last one perhaps in part."""
    return -(-count // columns)


def _picture(source: str | Path | np.ndarray) -> np.ndarray:
    """An RGB uint8 array as it is, or a photo from its file, ``(SIDE, SIDE, 3)``."""
    return source if isinstance(source, np.ndarray) else images.read_resized(source, SIDE)


def faces(photo: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """A copy of a photo with each face's box, landmarks, number and confidence drawn on it.

    Args:
        photo: RGB uint8 ``(height, width, 3)``.
        faces: in the photo, numbered from 1 in this order.
    """
    picture = Image.fromarray(photo)
    draw = ImageDraw.Draw(picture)
    unit = max(1.0, max(picture.size) / 640)  # lines and letters grow with the photo
    for number, face in enumerate(faces, start=1):
        _draw_box(draw, face, unit)
        _draw_landmarks(draw, face, unit)
        _draw_label(draw, face, f"{number}: {face.confidence:.2f}", unit)
    return np.asarray(picture)


def _draw_box(draw: ImageDraw.ImageDraw, face: Face, unit: float) -> None:
    x, y, width, height = face.box
    line = round(max(unit, width / 60))
    draw.rectangle((x, y, x + width, y + height), outline=KIN, width=line)


def _draw_landmarks(draw: ImageDraw.ImageDraw, face: Face, unit: float) -> None:
    """A white dot for each landmark."""
    radius = max(1.5 * unit, face.box[2] / 40)
    for x, y in face.landmarks:
        corners = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(corners, fill="white", outline=KIN)


def _draw_label(draw: ImageDraw.ImageDraw, face: Face, text: str, unit: float) -> None:
    """White letters on a ground of their own, above the box or, at the upper border, in it."""
    x, y, _, _ = face.box
    font = ImageFont.load_default(12 * unit)
    left, top, right, bottom = draw.textbbox((x, y), text, font)
    base = max(0, y - (bottom - top) - 4 * unit)
    ground = (x, base, x + right - left + 6 * unit, base + bottom - top + 4 * unit)
    draw.rectangle(ground, fill=KIN)
    draw.text((x + 3 * unit, base + 2 * unit - (top - y)), text, fill="white", font=font)


# --- families -----------------------------------------------------------------------------------


def family(dataset: Dataset, name: str) -> Figure:
    """A family's graph: a photo for each person, a line for each pair listed as kin."""
    import networkx as nx

    # the people in a circle, joined as the data says
    part = dataset.of_families([name])
    graph = nx.Graph()
    graph.add_nodes_from(sorted(part.people))
    graph.add_edges_from(part.kin[["p1", "p2"]].itertuples(index=False))
    position = nx.circular_layout(graph)
    figure, axis = plt.subplots(figsize=(6, 5))
    nx.draw_networkx_edges(graph, position, ax=axis, edge_color=KIN, width=2)

    # each person's first photo over the ends of the lines, the name below
    first = part.photos.groupby("person")["path"].first()
    for person, (x, y) in position.items():
        extent = (x - 0.22, x + 0.22, y - 0.22, y + 0.22)
        axis.imshow(_picture(dataset.root / first[person]), extent=extent, zorder=3)
        axis.text(x, y - 0.3, person.partition("/")[2], ha="center", fontsize=9, zorder=4)
    axis.set(xlim=(-1.35, 1.35), ylim=(-1.4, 1.3), aspect="equal")
    axis.set_title(f"{name}: a line joins two people listed as kin")
    axis.axis("off")
    return figure


def family_rows(dataset: Dataset, name: str, photos_each: int = 6) -> Figure:
    """A family with a row for each person: the name, who is listed as kin, some photos.

    Args:
        dataset: photos and kin of the family.
        name: of the family.
        photos_each: photos of each person, at most.
    """
    part = dataset.of_families([name])
    people = list(part.photos.groupby("person")["path"])
    height = 1.2 * len(people) + 0.25  # inches, with the title
    figure, axes = plt.subplots(
        len(people), photos_each + 1, figsize=(1.15 * photos_each + 2.4, height)
    )
    for row, (person, paths) in zip(np.atleast_2d(axes), people, strict=True):
        for axis in row:
            axis.axis("off")
        # words on the left, then as many photos as there are
        member = person.partition("/")[2]
        row[0].text(0, 0.62, member, fontsize=10, weight="bold")
        row[0].text(0, 0.3, _kin_of(part.kin, person), fontsize=8, color=KIN)
        for axis, path in zip(row[1:], paths, strict=False):
            axis.imshow(_picture(dataset.root / path))
    figure.suptitle(f"{name}: one row a person", fontsize=10)
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 1 - 0.25 / height))
    return figure


def _kin_of(kin: pd.DataFrame, person: str) -> str:
    """Who is listed as kin of a person, in words."""
    relatives = [*kin.loc[kin["p1"] == person, "p2"], *kin.loc[kin["p2"] == person, "p1"]]
    numbers = sorted(int(relative.partition("/MID")[2]) for relative in relatives)
    lines = [numbers[start : start + 4] for start in range(0, len(numbers), 4)]
    words = ",\n".join(", ".join(map(str, line)) for line in lines)
    return f"kin of {words}" if words else "kin of nobody"


def families(
    dataset: Dataset, names: Sequence[str], photos_each: int = 2, columns: int = 9
) -> np.ndarray:
    """A picture with one row for each family, RGB uint8.

    Args:
        dataset: photos of the families.
        names: of the families.
        photos_each: photos of each person.
        columns: photos in a row; what is over is left out, what is missing is white.
    """
    rows = []
    for name in names:
        members = dataset.photos[dataset.photos["family"] == name]
        paths = members.groupby("person")["path"].head(photos_each)[:columns]
        row = np.full((SIDE, columns * SIDE, 3), 255, np.uint8)
        for number, path in enumerate(paths):
            row[:, number * SIDE : (number + 1) * SIDE] = _picture(dataset.root / path)
        rows.append(row)
    return np.vstack(rows)


def audit_overview(audit: Audit, dataset: Dataset) -> Figure:
    """Histograms: photos a person, people a family, kin pairs a family, shared photographs."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.5))
    people, members, kin, shared = axes.flat
    photos_each = dataset.photos["person"].value_counts()
    _counts(people, photos_each, 20, "photos of a person", "people")
    people_each = dataset.photos.groupby("family")["person"].nunique()
    _counts(members, people_each, 20, "people in a family", "families")
    kin_each = dataset.kin["family"].value_counts()
    _counts(kin, kin_each, 30, "kin pairs in a family", "families")

    # on a logarithmic axis: most kin pairs share no photograph at all
    share = 100 * same_photo_share(dataset)
    shared.hist(share, bins=20, range=(0, 100), color=KIN, rwidth=0.85)
    shared.set(xlabel="photo pairs cut from one photograph (%)", ylabel="kin pairs", yscale="log")

    facts = audit.sections["photos"]
    figure.suptitle(f"{facts['training_photos']} photos of {facts['people_with_photos']} people")
    figure.tight_layout()
    return figure


def _counts(axis: Axes, values: pd.Series, most: int, label: str, ylabel: str) -> None:
    """A bar for each whole number, all from ``most`` up in the last."""
    values = values.clip(upper=most)
    bins = np.arange(values.max() + 1) + 0.5  # a whole number lies in the middle of its bar
    axis.hist(values, bins=bins.tolist(), color=STRANGER, rwidth=0.85)
    axis.set(xlabel=f"{label} ({most}: {most} or more)", ylabel=ylabel)


# --- scores -------------------------------------------------------------------------------------


def roc(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """ROC and precision–recall curves. ``curves``: name to (labels, scores)."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4))
    for name, (labels, scores) in curves.items():
        # a point for each threshold
        false_accept, true_accept, _ = roc_curve(labels, scores)
        auc = metrics.roc_auc(labels, scores)
        left.plot(false_accept, true_accept, label=f"{name}: AUC {auc:.3f}")
        precision, recall, _ = precision_recall_curve(labels, scores)
        right.plot(recall, precision, label=name)
    left.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", label="guessing")
    left.set(xlabel="strangers accepted (share)", ylabel="kin accepted (share)", title="ROC")
    left.legend(loc="lower right", fontsize=9)
    right.set(xlabel="kin found (recall)", ylabel="found that are kin (precision)")
    right.set(title="Precision–recall", ylim=(0.4, 1.02))
    right.legend(loc="lower left", fontsize=9)
    figure.tight_layout()
    return figure


def score_histogram(
    labels: np.ndarray,
    scores: np.ndarray,
    threshold: float | None = None,
    xlabel: str = "score",
    axis: Axes | None = None,
) -> Figure | SubFigure:
    """Scores of kin and of strangers, and the threshold.

    Args:
        labels: ``(pairs,)``, 1 for kin, 0 for strangers.
        scores: ``(pairs,)``.
        threshold: where to draw a line; None: nowhere.
        xlabel: what the scores are.
        axis: where to draw; None: in a new figure.
    """
    axis = axis or plt.subplots(figsize=(6.4, 3.6))[1]
    labels = np.asarray(labels).astype(bool)
    bins = np.linspace(np.min(scores), np.max(scores), 41).tolist()
    axis.hist(scores[~labels], bins, alpha=0.65, color=STRANGER, label="strangers", density=True)
    axis.hist(scores[labels], bins, alpha=0.65, color=KIN, label="kin", density=True)
    if threshold is not None:
        axis.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.2f}")
    axis.set(xlabel=xlabel, ylabel="density of pairs")
    axis.legend(fontsize=9)
    return axis.figure


def reliability(curves: dict[str, tuple[np.ndarray, np.ndarray]], bins: int = 10) -> Figure:
    """Reliability diagram: claimed probability against the share that is kin.

    Args:
        curves: name to (labels, probabilities), each ``(pairs,)``.
        bins: of equal width over [0, 1].
    """
    tables = {name: metrics.reliability(*curve, bins) for name, curve in curves.items()}
    return reliability_tables(tables)


def reliability_tables(tables: dict[str, np.ndarray]) -> Figure:
    """The same from tables ``(bins, 3)`` that :func:`metrics.reliability` gave."""
    figure, axis = plt.subplots(figsize=(4.6, 4.4))
    axis.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", label="perfect")
    for name, table in tables.items():
        mean, share, _ = np.transpose(table)
        # a share of 1 is a whole dot
        label = f"{name}: error {metrics.table_error(table):.3f}"
        axis.plot(mean, share, marker="o", clip_on=False, label=label)
    axis.set(xlabel="claimed probability of kin", ylabel="share that is kin")
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.legend(fontsize=9)  # where it covers no dots
    figure.tight_layout()
    return figure


# --- explanations -------------------------------------------------------------------------------


def regions(crops: np.ndarray, regions: "Regions") -> Figure:
    """The two faces with their regions coloured by what each carries, and the same as bars.

    Args:
        crops: uint8 RGB ``(2, size, size, 3)``, as they were explained.
        regions: what each region carries.
    """
    figure, axes = plt.subplots(
        1, 3, figsize=(9.6, 3.2), gridspec_kw={"width_ratios": [1, 1, 1.25]}
    )
    *photo_axes, bars = axes
    for axis, picture in zip(photo_axes, region_pictures(crops, regions), strict=True):
        axis.imshow(picture)
        axis.axis("off")

    # bars are drawn from the bottom up, so the first region comes last; twice the standard error
    names = list(regions.carried)[::-1]
    values = [regions.carried[name] for name in names]
    errors = [2 * regions.spread[name] for name in names]
    bars.barh(names, values, xerr=errors, color=list(map(_colour, values)), ecolor=NEUTRAL)
    bars.axvline(0, color=NEUTRAL, linewidth=1)
    bars.set(xlabel="log-odds of kinship that the region carries")
    figure.tight_layout()
    return figure


def region_pictures(crops: np.ndarray, regions: "Regions") -> np.ndarray:
    """The two faces with their regions coloured: the more a region carries, the stronger.

    Args:
        crops: uint8 RGB ``(2, size, size, 3)``, as they were explained.
        regions: what each region carries.

    Returns:
        Pictures of the same shape.
    """
    values = np.array(list(regions.carried.values()))  # (regions,)
    strength = np.abs(values) / max(np.abs(values).max(), PALE)  # in [0, 1]
    pictures = crops.astype(float)
    for number, value in enumerate(values):
        colour = 255 * np.array(to_rgb(_colour(value)))
        # how much of each pixel the colour covers: (2, size, size, 1)
        cover = 0.75 * strength[number] * regions.masks[:, number, ..., None]
        pictures = pictures * (1 - cover) + colour * cover
    return pictures.round().astype(np.uint8)


def _colour(value: float) -> str:
    """The colour of what speaks for kinship, or against it."""
    return KIN if value > 0 else STRANGER


# --- training -----------------------------------------------------------------------------------


def history(
    curves: dict[str, Sequence[float]],
    ylabel: str,
    xlabel: str = "epoch",
    axis: Axes | None = None,
) -> Figure | SubFigure:
    """Training curves by epoch, counted from 1.

    Args:
        curves: name to one number an epoch.
        ylabel: what the numbers are.
        xlabel: what is counted.
        axis: where to draw; None: in a new figure.
    """
    axis = axis or plt.subplots(figsize=(6.4, 3.6))[1]
    for name, values in curves.items():
        axis.plot(np.arange(1, len(values) + 1), values, marker=".", label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 2.5
    axis.legend(fontsize=9)
    return axis.figure


def pair_network(network: Any) -> Figure:
    """The article's model as boxes from left to right, with the sizes and numbers that it has.

    Args:
        network: what ``networks.pair_network`` gives.
    """
    head = network.get_layer("pair_head")
    towers = [layer for layer in network.layers if hasattr(layer, "layers") and layer is not head]
    figure, axis = plt.subplots(figsize=(11, 0.6 + 2.1 * len(towers)))
    axis.set(xlim=(0, 11), ylim=(-len(towers), 0))
    axis.axis("off")

    # one row a tower, all of which lead to the middle
    middle = -len(towers) / 2
    for number, tower in enumerate(towers):
        _tower_row(axis, -number - 0.5, tower, head)
        _arrow(axis, (7.75, -number - 0.5), (8.3, middle))

    # the dense layers, and the answer
    units = [str(layer.units) for layer in head.layers if layer.name.startswith("dense")]
    inputs = f"{head.get_layer('features').output.shape[1]} numbers"
    _box(axis, 9.0, middle, "\n".join([inputs, *units]), KIN)
    _arrow(axis, (9.65, middle), (10.0, middle))
    _box(axis, 10.45, middle, "p(kin)", KIN)
    return figure


def _tower_row(axis: Axes, y: float, tower: Any, head: Any) -> None:
    """Two photos, the tower that embeds both, their embeddings, and the features of the pair."""
    size, width = tower.input_shape[1], tower.output_shape[1]
    for side, shift in (("a", 0.22), ("b", -0.22)):
        _box(axis, 0.9, y + shift, f"photo {side}\n{size}×{size}", NEUTRAL)
        _arrow(axis, (1.55, y + shift), (2.15, y))
        _arrow(axis, (4.05, y), (4.6, y + shift))
        _box(axis, 5.05, y + shift, f"{side}: {width}", STRANGER)
        _arrow(axis, (5.5, y + shift), (6.1, y))
    millions = tower.count_params() / 1e6
    _box(axis, 3.1, y, f"{tower.name}\n{millions:.1f} million", STRANGER)
    _box(axis, 6.9, y, _features_of(tower, head), KIN)


def _features_of(tower: Any, head: Any) -> str:
    """How many features a tower's pair has; wide embeddings have each projected by a layer."""
    prefix = f"{tower.name}_"
    projections = [
        layer for layer in head.layers if layer.name.startswith(prefix) and layer.weights
    ]
    if not projections:
        return "6 features\nof the pair"
    return f"{len(projections)} features\nof the pair\neach to {projections[0].units}"


def _box(axis: Axes, x: float, y: float, text: str, colour: str) -> None:
    """Words in a coloured box around a point."""
    box = {"boxstyle": "round,pad=0.45", "facecolor": colour, "edgecolor": "none"}
    axis.text(x, y, text, ha="center", va="center", fontsize=9, color="white", bbox=box)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow between two points."""
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": NEUTRAL, "lw": 1})


def course_map(lesson: str) -> Figure:
    """The lessons of the course in a row, with the one that is being read in another colour.

    Args:
        lesson: its number, as "02".
    """
    figure, axis = plt.subplots(figsize=(11, 1.3))
    axis.set(xlim=(-0.1, 12.2), ylim=(-0.75, 0.95))
    axis.axis("off")
    # a card for each lesson; a gap between groups
    x = 0.0
    for group, lessons in COURSE.items():
        width = len(lessons)
        axis.text(x + width / 2, 0.68, group, ha="center", va="center", fontsize=9, color=NEUTRAL)
        for number, topic in lessons.items():
            _lesson_box(axis, x, number, topic, KIN if number == lesson else STRANGER)
            x += 1.0
        x += 0.22
    figure.tight_layout(pad=0.1)
    return figure


def _lesson_box(axis: Axes, x: float, number: str, topic: str, colour: str) -> None:
    """The number of a lesson and what it is about, on a coloured card."""
    axis.add_patch(Rectangle((x + 0.04, -0.7), 0.92, 1.1, facecolor=colour, edgecolor="none"))
    axis.text(x + 0.5, 0.18, number, ha="center", va="center", color="white", weight="bold")
    axis.text(x + 0.5, -0.3, topic, ha="center", va="center", fontsize=8.5, color="white")


def page(visitor: Any, pictures: Sequence[np.ndarray] = ()) -> Figure:
    """A Streamlit page as a sketch: its elements in their order, columns side by side.

    Args:
        visitor: an ``AppTest`` that has run.
        pictures: RGB uint8, what stands in the page's images, in their order; an ``AppTest`` knows
            their captions only. Images beyond these are drawn as grey boxes.
    """
    cells: list[tuple[Any, float, float, float]] = []  # (element, left, top, width)
    height = max(_place(visitor.main, 0.0, 10.0, 0.0, cells), 1.0)
    figure, axis = plt.subplots(figsize=(6, 0.42 * height + 0.1))
    axis.set(xlim=(-0.15, 10.05), ylim=(-height, 0.15))
    axis.axis("off")
    remaining = iter(pictures)
    for element, left, top, width in cells:
        if element.type == "image":
            _draw_image(axis, element, next(remaining, None), left, top, width)
        else:
            _draw_element(axis, element, left, top, width)
    figure.tight_layout(pad=0.1)
    return figure


def _place(block: Any, left: float, width: float, top: float, cells: list) -> float:
    """Give each element of a block its place in ``cells``; returns where the next one begins."""
    for child in block.children.values():
        inner = list(getattr(child, "children", {}).values())
        columns = [each for each in inner if each.type == "column"]
        if columns:
            # columns begin at the same height, and the longest says where they end
            share, bottom = width / len(columns), top
            for number, column in enumerate(columns):
                bottom = max(bottom, _place(column, left + number * share, share, top, cells))
            top = bottom
        elif inner:
            top = _place(child, left, width, top, cells)
        else:
            cells.append((child, left, top, width))
            top += ELEMENT_HEIGHTS.get(child.type, 1.0)
            top += LINE_HEIGHT * (len(_lines_of(child, width)) - 1)
    return top


def _draw_element(axis: Axes, element: Any, left: float, top: float, width: float) -> None:
    """Text, a coloured message, or a widget with its label above and its value inside."""
    label, lines = getattr(element, "label", None), _lines_of(element, width)
    text, more = "\n".join(lines), LINE_HEIGHT * (len(lines) - 1)
    if element.type == "button":
        _box_of(axis, left, top + 0.1, 0.3 + 0.17 * len(element.label), "white")
        axis.text(left + 0.15, -top - 0.5, element.label, va="center", fontsize=9)
    elif label is not None:
        axis.text(
            left, -top - 0.3, _one_line(label, width), va="center", fontsize=8, color=NEUTRAL
        )
        _box_of(axis, left, top + 0.6, width - 0.2, "#f0f2f6")
        axis.text(left + 0.15, -top - 1.0, text, va="center", fontsize=9)
    elif element.type in MESSAGES:
        _box_of(axis, left, top + 0.1, width - 0.2, MESSAGES[element.type], 0.8 + more)
        axis.text(left + 0.15, -top - 0.5 - more / 2, text, va="center", fontsize=9)
    else:
        size = 14 if element.type == "title" else 9
        axis.text(left, -top - 0.5 - more / 2, text, va="center", fontsize=size)


def _draw_image(
    axis: Axes, element: Any, picture: np.ndarray | None, left: float, top: float, width: float
) -> None:
    """A picture of the page in its own shape, or a grey box, with its caption below."""
    height = ELEMENT_HEIGHTS["image"]
    bounds = (left, 0.9 - top - height, width - 0.2, height - 1.0)
    box = axis.inset_axes(bounds, transform=axis.transData)
    box.set(xticks=[], yticks=[], facecolor="#e1e4e8", anchor="W")
    if picture is not None:
        box.imshow(picture)
    caption = _one_line((element.captions or [""])[0], width)
    axis.text(left, -top - height + 0.5, caption, va="center", fontsize=8, color=NEUTRAL)


def _text_of(element: Any) -> str:
    """What stands in an element."""
    if element.type in FIXED_TEXTS:
        return FIXED_TEXTS[element.type]
    return "" if element.value is None else str(element.value)


def _box_of(
    axis: Axes, left: float, top: float, width: float, colour: str, height: float = 0.8
) -> None:
    """The frame of a widget or message, if nothing else is said a line high."""
    bottom = (left, -top - height)
    axis.add_patch(Rectangle(bottom, width, height, facecolor=colour, edgecolor=STRANGER, lw=0.6))


def _lines_of(element: Any, width: float) -> list[str]:
    """The text of an element: whole, on several lines; one line in a widget, title or picture."""
    text = _text_of(element) if element.type != "image" else ""
    if getattr(element, "label", None) is not None or element.type == "title":
        return [_one_line(text, width)]
    return textwrap.wrap(text, int(7 * width)) or [""]


def _one_line(text: str, width: float) -> str:
    """As much of a text as a line of this width takes."""
    most = int(7 * width)
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure atomically, in the format that the name ends in, and close it.

    Raises:
        NoRoomError: the disk is full.
    """
    path = Path(path)
    with files.atomic(path if path.suffix else path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=110, bbox_inches="tight")
    plt.close(figure)
