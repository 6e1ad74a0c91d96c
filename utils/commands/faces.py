"""Verbs on faces and their encoders: detect, embed, weights."""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CourseError
from ..faces.backbones import REGISTRY
from .shared import (
    BACKBONE,
    ENGINE,
    embeddings_of,
    engine_of,
    open_with_backbone,
    with_folders,
)
from .values import new_file, new_folder
from .verbs import DATA, Result, option, output, verb

if TYPE_CHECKING:
    from ..faces.backbones import Backbone
    from ..faces.detection import Face

CROP_SIDE = 224  # pixels of a face that `detect --out` writes


def pixels(text: str) -> int:
    """A number of pixels, 1 at least."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels such as 40")
    return int(text)


@verb(
    "detect",
    "find the faces in photos",
    ["detect holiday.jpg party.png --out faces"],
    [
        option(
            "photos",
            nargs="+",
            type=Path,
            metavar="PHOTO",
            help="a photo, or a folder: all photos in it",
        ),
        output(
            "--out",
            type=new_folder,
            metavar="DIR",
            help="write each photo with its faces drawn, each face by itself, and faces.json",
        ),
        option(
            "--min-face",
            type=pixels,
            metavar="PIXELS",
            help="about the smallest face to look for; a large photo is then searched in tiles, "
            "which takes longer (default: 20, and in a photo of more than 1280 pixels a side 1/64 "
            "of its longer side)",
        ),
        *ENGINE,
    ],
)
def detect(options: argparse.Namespace) -> Result:
    """Faces of each photo; one that cannot be read is named, and does not stop the others."""
    from tqdm import tqdm

    from .. import files

    # every photo has names of its own for what is written
    photos = with_folders(options.photos, options.out)
    names = file_names(photos, options.out)
    out = options.out.absolute() if options.out else None
    if options.engine:
        photos = [path.absolute() for path in photos]  # programs elsewhere have other folders
    detected = functools.partial(_detected, options.min_face, out)
    with engine_of(options) as engine:
        rows = list(
            tqdm(
                engine.map(detected, zip(photos, names, strict=True)),
                total=len(names),
                unit="photo",
                desc="Detecting",
                disable=len(names) == 1,
            )
        )
    # what went wrong is counted: the exit status says so too
    failed = sum("error" in row for row in rows)
    facts = {"photos": rows, "failed": failed}
    if options.out:
        files.write_json(options.out / "faces.json", facts)
    return Result(facts, "\n".join(map(_faces_line, rows)), failed=failed > 0)


def _detected(min_face: int | None, out: Path | None, photo_and_name: tuple[Path, str]) -> dict:
    """The faces of one photo, and the files written for it; or what is wrong with it.

    Args:
        min_face: about the smallest face to look for, in pixels; None: what one search finds.
        out: the folder to write to. None: nothing is written.
        photo_and_name: the photo, and what the names of its files begin with.
    """
    from .. import images
    from ..faces import detection

    path, name = photo_and_name
    try:
        if path.is_dir():
            images.photos_in(path, out)  # says that there are none
        photo = images.read(path)
    except CourseError as error:
        return {"photo": str(path), "error": str(error)}
    faces = detection.detect(photo, min_face)
    row: dict = {"photo": str(path), "faces": [face.to_dict() for face in faces]}
    # a photo that is shrunk before the search must show larger faces
    least = detection.least_face(photo, min_face)
    if least != max(min_face or 0, detection.MTCNN_MIN_FACE):
        row["least_face"] = least
    return {**row, "files": _write_faces(out, name, photo, faces)} if out else row


def file_names(photos: Sequence[Path], out: Path | None) -> list[str]:
    """What the files of each photo begin with: its stem, with a number where that is taken.

    Taken is what another photo has, and what would write over a photo that is still to be read.

    Args:
        photos: the photos to be searched.
        out: the folder to write to; None: nothing is written.
    """
    inside = [path for path in photos if out and path.resolve().parent == out.resolve()]
    names: list[str] = []
    for path in photos:
        # count upwards until nobody has this name
        name, number = path.stem, 2
        while name in names or any(photo.stem.startswith(f"{name}_face") for photo in inside):
            name, number = f"{path.stem}-{number}", number + 1
        names.append(name)
    return names


def _write_faces(folder: Path, name: str, photo: np.ndarray, faces: "Sequence[Face]") -> list[str]:
    """Write the photo with its faces drawn and each face by itself, as JPEG; the files' names."""
    from .. import files, images, plots
    from ..faces import alignment

    # file name to picture
    pictures = {f"{name}_faces.jpg": plots.faces(photo, faces)}
    for number, face in enumerate(faces, start=1):
        pictures[f"{name}_face{number}.jpg"] = alignment.crop(photo, face, CROP_SIDE)
    for file, picture in pictures.items():
        files.write_bytes(folder / file, images.to_jpeg(picture))
    return list(pictures)


def _faces_line(row: dict) -> str:
    """What is said of one photo: its number of faces, and a line for each."""
    if "error" in row:
        return f"error: {row['error']}"
    lines = []
    for number, face in enumerate(row["faces"], start=1):
        x, y, width, height = face["box"]
        place = f"{width:.0f}×{height:.0f} pixels at ({x:.0f}, {y:.0f})"
        lines.append(f"  {number}. {place}, confidence {face['confidence']:.3f}")
    counted = {0: "no face", 1: "1 face"}.get(len(lines), f"{len(lines)} faces")
    # what else may be in the photo
    if row.get("least_face"):
        counted += (
            f" (in a photo of this size, faces below {row['least_face']} pixels may be missed; "
            "--min-face looks for them)"
        )
    elif "least_face" in row:
        counted += " (it is too narrow to be searched; cut out the part that shows the face)"
    return "\n".join([f"{row['photo']}: {counted}", *lines])


@verb(
    "embed",
    "embed all training photos into the cache",
    ["embed --out embeddings.npz", "embed --workers 4"],
    [
        DATA,
        BACKBONE,
        output("--out", type=new_file(), help="also write paths and embeddings to this .npz file"),
        *ENGINE,
    ],
)
def embed(options: argparse.Namespace) -> Result:
    """Fill the embedding cache."""
    from .. import files

    # whether there are other programs is known before the long work
    with engine_of(options) as engine:
        dataset, backbone = open_with_backbone(options)
        paths = dataset.photos["path"].to_numpy(str)
        if options.out:
            # so is the room: a path and numbers of four bytes for each photo
            size = paths.nbytes + len(paths) * 4 * backbone.embedding_size
            files.check_output(options.out, size)
        embeddings = embeddings_of(dataset, backbone, engine)  # (photos, d)
    if options.out:
        with files.atomic(options.out) as temporary, open(temporary, "wb") as file:
            np.savez(file, path=paths, embedding=embeddings)
    facts = {
        "photos": len(embeddings),
        "backbone": backbone.name,
        "embedding_size": backbone.embedding_size,
        "out": str(options.out) if options.out else None,
    }
    return Result(facts, f"{facts['photos']} photos embedded with {backbone.name}")


@verb(
    "weights",
    "fetch the weights of other face networks, or list where they come from",
    ["weights", "weights edgeface facenet"],
    [
        option(
            "names",
            nargs="*",
            metavar="NAME",
            help=f"of {', '.join(REGISTRY)}; none: list them",
        ),
    ],
)
def weights(options: argparse.Namespace) -> Result:
    """Fetch and verify the named networks' weights; without a name, say which are here."""
    from ..faces import backbones

    if options.names:
        networks = [backbones.get(name) for name in options.names]  # all names are right first
        rows = [_fetched(backbone, not options.json) for backbone in networks]
        lines = [
            f"{row['name']:18}{row['file']} ({row['megabytes']} MB, {row['seconds']} s)"
            for row in rows
        ]
    else:
        rows = [_weights_at_hand(backbones.get(name)) for name in REGISTRY]
        lines = [_WEIGHTS_LINE.format("encoder", "from", "licence", "MB", "file")]
        for row in rows:
            file = row["file"] or _reason(row["problem"])
            facts = (row["name"], row["source"], row["licence"], row["megabytes"], file)
            lines.append(_WEIGHTS_LINE.format(*facts))
    return Result({"weights": rows}, "\n".join(lines))


_WEIGHTS_LINE = "{:18}{:31}{:25}{:>5}  {}"  # of the list: name, source, licence, MB, file


def _fetched(backbone: "Backbone", progress: bool) -> dict:
    """Bring a network's weights here; where they are, how large, and the seconds that it took."""
    import time

    from .. import files

    start = time.perf_counter()
    path = backbone.fetch(progress)
    seconds = time.perf_counter() - start
    return {
        "name": backbone.name,
        "file": str(path),
        "sha256": files.sha256(path),
        "megabytes": _megabytes(path.stat().st_size),
        "seconds": round(seconds, 1),
    }


def _megabytes(size: int) -> float:
    return round(size / 1e6, 1)


def _weights_at_hand(backbone: "Backbone") -> dict:
    """Where a network's weights come from, and where they are, or why they are not here."""
    from .. import files
    from ..errors import WeightsError
    from ..faces.backbones.origins import ORIGINS

    origin = ORIGINS[backbone.name]
    row = {
        "name": backbone.name,
        "source": origin.source,
        "licence": origin.licence,
        "megabytes": _megabytes(origin.size),
    }
    try:
        path = backbone.weights_path()
    except WeightsError as error:
        return {**row, "file": None, "problem": str(error)}
    # the size of the file itself, where it is here
    size = _megabytes(path.stat().st_size)
    return {**row, "megabytes": size, "file": str(path), "sha256": files.sha256(path)}


def _reason(problem: str) -> str:
    """The first half of an error's sentence: what is wrong, without the advice."""
    return "not here" if "are not here;" in problem else problem.partition(";")[0]
