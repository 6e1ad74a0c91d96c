"""Pairs whose lists name the relation: the benchmarks KinFaceW and RFIW."""

import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DatasetError
from . import datasets

# A row of the table of pairs: photo_a, photo_b, is_related, relation, fold.
Row = tuple[str, str, int, str, int]
# The relations by the codes that KinFaceW and RFIW give them.
RELATIONS = {
    "bb": "brothers",
    "ss": "sisters",
    "sibs": "siblings",
    "fs": "father-son",
    "fd": "father-daughter",
    "ms": "mother-son",
    "md": "mother-daughter",
    "gfgs": "grandfather-grandson",
    "gfgd": "grandfather-granddaughter",
    "gmgs": "grandmother-grandson",
    "gmgd": "grandmother-granddaughter",
}
# KinFaceW's relations, in the order of its papers' tables, and the folder of each one's photos.
KINFACEW = {"fs": "father-son", "fd": "father-dau", "ms": "mother-son", "md": "mother-dau"}
_KINFACEW_SETS = ("KinFaceW-I", "KinFaceW-II")
_KINFACEW_FOLDS = range(1, 6)
_KINFACEW_PHOTO = re.compile(r"\w[\w.-]*\.(?i:jpe?g)")
_KINFACEW_MEMBER = re.compile(
    rf"(?:(?:{'|'.join(_KINFACEW_SETS)})/)?"
    rf"(?:images/(?:{'|'.join(KINFACEW.values())})/{_KINFACEW_PHOTO.pattern}"
    rf"|meta_data/(?:{'|'.join(KINFACEW)})_pairs\.mat)"
)
# What a column may be called in the first line of an RFIW list; further columns are passed over.
RFIW_COLUMNS = {
    "photo_a": ("p1",),
    "photo_b": ("p2",),
    "relation": ("ptype", "relation"),
    "is_related": ("labels", "label"),
}
_RFIW_NAMES = {name for names in RFIW_COLUMNS.values() for name in names}
# Where the same columns stand in a list without such a line, by the number of fields in its lines;
# of five, the first is the pair's number.
_RFIW_PLACES = {4: [0, 1, 2, 3], 5: [1, 2, 3, 4]}


@dataclass(frozen=True)
class RelationPairs:
    """A published list of pairs that names each pair's relation; photos stay on disk.

    Attributes:
        root: the folder that the photos' paths start from.
        pairs: one row a pair, in the list's order: photo_a, photo_b (str, relative to ``root``),
            is_related (int: 1 for kin, 0 for strangers), relation (str, a value of ``RELATIONS``;
            of strangers the one they are set against), fold (int; 0 in a list without folds).
    """

    root: Path
    pairs: pd.DataFrame

    def paths(self, column: str) -> list[Path]:
        """Absolute paths of the photos in a column, photo_a or photo_b."""
        return [(self.root / name).absolute() for name in self.pairs[column]]


# --- KinFaceW -----------------------------------------------------------------------------------


def load_kinfacew(source: str | Path) -> RelationPairs:
    """The pairs of KinFaceW-I or -II, from the published archive or its extracted folder.

    An archive is extracted once into the cache. photo_a shows the parent, photo_b the child; the
    folds are the published five, 1 to 5. Most kin of KinFaceW-II were cropped from one photograph,
    which alone tells them from strangers (Bordallo López, Boutellaa and Hadid, Comments on the
    "Kinship Face in the Wild" Data Sets, TPAMI 38, 2016).

    Source: Lu, Zhou, Tan, Shang and Zhou, Neighborhood Repulsed Metric Learning for Kinship
    Verification, TPAMI 36, 2014 (first at CVPR 2012).

    Raises:
        DatasetError: missing, half downloaded, without one of the four relations, a list that
            cannot be read or has other cells, or a photo that is not there.
    """
    return datasets.open_source(
        source,
        archive="KinFaceW's archive",
        content="the pairs of KinFaceW",
        extract=_extract_kinfacew,
        index=_index_kinfacew,
    )


def _extract_kinfacew(archive: Path) -> Path:
    return datasets.extract_once(archive, "-kinfacew", _write_kinfacew)


def _write_kinfacew(archive: zipfile.ZipFile, target: Path) -> None:
    for info in archive.infolist():
        if _KINFACEW_MEMBER.fullmatch(info.filename):
            datasets.write_member(archive, info, target / info.filename)


def _index_kinfacew(folder: Path) -> RelationPairs:
    root = _kinfacew_root(folder)
    # first look for all files, so that one message names all that are missing
    missing = []
    for code, photos in KINFACEW.items():
        for name in (f"images/{photos}", _kinfacew_list(code)):
            if not (root / name).exists():
                missing.append(f"{name} ({RELATIONS[code]})")
    if missing:
        raise DatasetError(f"{root} lacks {', '.join(missing)}; extract the whole archive again.")
    # one row a pair, and beside it where it was read from
    origins, rows = [], []
    for code in KINFACEW:
        path = root / _kinfacew_list(code)
        for number, cells in enumerate(_kinfacew_cells(path), start=1):
            origin = f"{path}, row {number}"
            origins.append(origin)
            rows.append(_kinfacew_row(origin, code, cells))
    return _relation_pairs(root, origins, rows)


def _kinfacew_list(code: str) -> str:
    return f"meta_data/{code}_pairs.mat"


def _kinfacew_root(folder: Path) -> Path:
    """The folder with images/ and meta_data/: the one given, or the only KinFaceW in it."""
    # the archive holds a folder KinFaceW-I or KinFaceW-II
    inner = [folder / name for name in _KINFACEW_SETS if (folder / name).is_dir()]
    if len(inner) > 1:
        raise DatasetError(
            f"{folder} holds {' and '.join(_KINFACEW_SETS)}; name the folder of one of them."
        )
    # or the folder that was named is the one itself
    root = inner[0] if inner else folder
    for name in ("images", "meta_data"):
        if not (root / name).is_dir():
            raise DatasetError(
                f"{root} has no folder {name}/; name KinFaceW's archive or the folder that "
                "holds images/ and meta_data/."
            )
    return root


def _kinfacew_cells(path: Path) -> np.ndarray:
    """The cells of a list, object ``(pairs, 4)``: fold, kin or not, photos of parent and child."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    # What loadmat raises on broken content, found by feeding it such files.
    matlab_errors = (
        MatReadError,
        zlib.error,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        NotImplementedError,
        MemoryError,
    )
    try:
        variables = loadmat(path, variable_names=["pairs"])
    except matlab_errors as error:
        raise DatasetError(
            f"{path} is not a MATLAB file that can be read; extract it again."
        ) from error
    if "pairs" not in variables:
        raise DatasetError(
            f"{path} has no variable pairs; extract it again from KinFaceW's archive."
        )
    cells = variables["pairs"]
    if not _is_table_of_cells(cells):
        raise DatasetError(
            f"{path}: pairs is not a table of cells with four columns (fold, kin, parent, child); "
            "extract it again from KinFaceW's archive."
        )
    return cells


def _is_table_of_cells(value: object) -> bool:
    """Whether loadmat gave a table of MATLAB's cells with four columns and at least one row."""
    if not isinstance(value, np.ndarray) or value.dtype != object or value.ndim != 2:
        return False
    return len(value) > 0 and value.shape[1] == 4


def _kinfacew_row(origin: str, code: str, cells: np.ndarray) -> Row:
    """A pair from its four cells, which are checked; ``origin`` says where they were read."""
    # anything may stand in a cell of a damaged or edited list
    fold, label, *names = map(_cell_value, cells)
    if fold not in _KINFACEW_FOLDS:
        raise DatasetError(
            f"{origin}: the fold is {fold!r}, expected 1 to 5; extract the list again."
        )
    if label not in (0, 1):
        raise DatasetError(
            f"{origin}: the label is {label!r}, expected 0 or 1; extract the list again."
        )
    for name in names:
        if not isinstance(name, str) or not _KINFACEW_PHOTO.fullmatch(name):
            raise DatasetError(
                f"{origin}: {name!r} is not a photo such as {code}_001_1.jpg; "
                "extract the list again."
            )
    # the list names files; their folder follows from the relation
    parent, child = (f"images/{KINFACEW[code]}/{name}" for name in names)
    return parent, child, int(label), RELATIONS[code], int(fold)


def _cell_value(cell: object) -> Any:
    """The one number or text in a cell as loadmat gives it; None when it holds something else."""
    if isinstance(cell, np.ndarray) and cell.size == 1 and cell.dtype.kind in "iufU":
        return cell.item()
    return None


# --- RFIW ---------------------------------------------------------------------------------------


def load_rfiw(list_file: str | Path, photos: str | Path) -> RelationPairs:
    """The pairs of a list of the challenge Recognizing Families in the Wild, track 1.

    The track is about verification. A line is a pair, its fields separated by commas or spaces::

        0 F0001/MID1/P00001_face1.jpg F0001/MID2/P00003_face0.jpg fs 1

    that is its number (which may be left out), two photos, a code of ``RELATIONS``, and 1 for kin
    or 0 for strangers. Or the first line names the columns, in any order, as in ``RFIW_COLUMNS``.
    Such lists have no folds.

    Source: Robinson, Yin, Khan, Shao, Xia, Stopa, Timoner, Turk, Chellappa and Fu, Recognizing
    Families In the Wild (RFIW): The 4th Edition, FG 2020.

    Args:
        list_file: the list, UTF-8 text.
        photos: the folder that the list's paths start from.

    Raises:
        DatasetError: the list or the folder is missing, the list is not text or has no pair, or,
            with its line, another number of fields, an unknown code, another label, or a missing
            photo.
    """
    list_file, photos = Path(list_file).expanduser(), Path(photos).expanduser()
    if not photos.is_dir():
        raise DatasetError(
            f"{photos} is not a folder; name the one that the paths in {list_file} start from."
        )
    # a first line that holds a column's name is not a pair
    lines = _list_lines(list_file)
    has_header = bool(lines) and not _RFIW_NAMES.isdisjoint(lines[0][1])
    pair_lines = lines[1:] if has_header else lines
    if not pair_lines:
        raise DatasetError(f"{list_file} lists no pair; copy it from the challenge's data.")
    # where the four columns stand is the same in every line
    origin, fields = lines[0]
    places = _header_places(origin, fields) if has_header else _usual_places(origin, fields)
    origins, rows = [], []
    for origin, fields in pair_lines:
        origins.append(origin)
        rows.append(_rfiw_row(origin, *(fields[place] for place in places)))
    return _relation_pairs(photos, origins, rows)


def _list_lines(path: Path) -> list[tuple[str, list[str]]]:
    """The lines that are not blank: where each stands, and its fields, as many in every line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(
            f"The list {path} cannot be read ({error.strerror}); check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not a list of pairs in UTF-8 text; copy it again."
        ) from error
    # blank lines are no pairs, but count in the number that a message gives
    lines = [
        (f"{path}, line {number}", _fields(line))
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    # a line with fewer or more fields would be read by the wrong columns
    for origin, fields in lines:
        if len(fields) != len(lines[0][1]):
            raise DatasetError(
                f"{origin}: {len(fields)} fields, expected {len(lines[0][1])} as in the lines "
                "above; mend the line."
            )
    return lines


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(",")] if "," in line else line.split()


def _usual_places(origin: str, fields: list[str]) -> list[int]:
    """Where photo_a, photo_b, relation and is_related stand in a list without names of columns."""
    if len(fields) not in _RFIW_PLACES:
        raise DatasetError(
            f"{origin}: {len(fields)} fields, expected two photos, a relation and a label, "
            "or the columns' names; choose another list."
        )
    return _RFIW_PLACES[len(fields)]


def _header_places(origin: str, header: list[str]) -> list[int]:
    """Where the same four stand in a list whose first line names its columns."""
    places, missing = [], []
    for names in RFIW_COLUMNS.values():
        present = [name for name in names if name in header]
        if present:
            # of two names for one column the last counts
            places.append(header.index(present[-1]))
        else:
            missing.append(" or ".join(names))
    if missing:
        raise DatasetError(f"{origin}: no column is called {', '.join(missing)}; name it so.")
    return places


def _rfiw_row(origin: str, photo_a: str, photo_b: str, code: str, label: str) -> Row:
    if code not in RELATIONS:
        raise DatasetError(
            f"{origin}: {code!r} is not a relation; expected one of {', '.join(RELATIONS)}."
        )
    if label not in ("0", "1"):
        raise DatasetError(f"{origin}: the label is {label!r}, expected 0 or 1; mend the line.")
    return photo_a, photo_b, int(label), RELATIONS[code], 0


# --- both ---------------------------------------------------------------------------------------


def _relation_pairs(root: Path, origins: list[str], rows: list[Row]) -> RelationPairs:
    """The rows as pairs, once every photo is there; ``origins`` says where each row stands."""
    pairs = pd.DataFrame(rows, columns=["photo_a", "photo_b", "is_related", "relation", "fold"])
    # each photo is looked for once, however many its pairs
    names = {*pairs["photo_a"], *pairs["photo_b"]}
    missing = {name for name in names if not _is_photo_below(root, name)}
    for origin, photo_a, photo_b in zip(origins, pairs["photo_a"], pairs["photo_b"], strict=True):
        for name in (photo_a, photo_b):
            if name in missing:
                raise DatasetError(
                    f"{origin}: the photo {name} is not in {root}; check that it is whole and "
                    "the folder that the paths start from."
                )
    return RelationPairs(root, pairs)


def _is_photo_below(root: Path, name: str) -> bool:
    """Whether a photo is there, and not outside of the folder by an absolute path or by ``..``."""
    path = Path(name)
    return not path.anchor and ".." not in path.parts and os.path.isfile(root / path)
