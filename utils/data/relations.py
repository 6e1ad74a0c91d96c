"""Pairs whose lists name the relation: the benchmarks KinFaceW and RFIW."""

import functools
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DatasetError
from ..files import check_machine
from . import archives, layout, sources, tables

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
_KINFACEW_NUMBERED = re.compile(
    rf"((?:{'|'.join(KINFACEW)})_\d+_\d){layout.ENDING}", re.IGNORECASE
)
# The lists as published, or as MATLAB, R and Excel write them.
_KINFACEW_LIST = re.compile(rf"(?:{'|'.join(KINFACEW)})_pairs\.(?:mat|csv|txt)")
_KINFACEW_ENDINGS = (".mat", ".csv", ".txt")
_MATLAB_7_3 = b"MATLAB 7.3 MAT-file"
# What a column may be called in the first line of an RFIW list; further columns are passed over.
RFIW_COLUMNS = {
    "photo_a": ("p1",),
    "photo_b": ("p2",),
    "relation": ("ptype", "relation"),
    "is_related": ("labels", "label"),
}
_RFIW_NAMES = {name for names in RFIW_COLUMNS.values() for name in names}
_RFIW_LABELS = {"0": 0, "1": 1, "false": 0, "true": 1}  # R and Excel write words
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
    return sources.open_source(
        source,
        archive="KinFaceW's archive",
        content="the pairs of KinFaceW",
        extract=_extract_kinfacew,
        locate=_locate_kinfacew,
        index=_index_kinfacew,
    )


def _extract_kinfacew(archive: Path) -> Path:
    write = functools.partial(_write_kinfacew, archive)
    return archives.extract_once(archive, "-kinfacew", write)


def _write_kinfacew(source: Path, archive: zipfile.ZipFile, target: Path) -> None:
    names = archive.namelist()
    folders = _kinfacew_folders(names)
    if not folders:
        raise DatasetError(
            f"{source} does not hold the pairs of KinFaceW: it has no folders images/ and "
            f"meta_data/ with them. Found: {layout.summary(names)}."
        )
    folder = _only_kinfacew(source, folders)
    # the published archive holds a folder KinFaceW-I or KinFaceW-II
    inner = folder[-1] if folder and folder[-1] in _KINFACEW_SETS else ""
    for place, name in folders[folder].items():
        archives.write_member(archive, name, target / inner / place)


def _locate_kinfacew(folder: Path) -> Path:
    """The folder with images/ and meta_data/: the user's, one in it, or one of links to it."""
    folders = _kinfacew_folders(layout.files_below(folder))
    if not folders:
        return folder
    root = _only_kinfacew(folder, folders)
    files = folders[root]
    above = "".join(f"{part}/" for part in root)
    if all(name == above + place for place, name in files.items()):
        return folder / above
    links = {place: str((folder / name).absolute()) for place, name in files.items()}
    return sources.linked(folder, links)


def _kinfacew_folders(names: list[str]) -> dict[layout.Parts, dict[str, str]]:
    """The folders with KinFaceW's files: the name that each has in KinFaceW, to its real name."""
    folders: dict[layout.Parts, dict[str, str]] = {}
    # of two files for one name the one that has exactly this name comes first
    for name in sorted(names, key=lambda name: (name != name.lower(), name)):
        parts = layout.split(name)
        place = _kinfacew_place(parts)
        if place:
            above = parts[: len(parts) - place.count("/") - 1]
            folders.setdefault(above, {}).setdefault(place, name)
    return folders


def _kinfacew_place(parts: layout.Parts) -> str | None:
    """What a file is called in KinFaceW; None: it is none of its photos and lists."""
    lower = [part.lower() for part in parts]
    if lower[-2:-1] == ["meta_data"] and _KINFACEW_LIST.fullmatch(lower[-1]):
        return f"meta_data/{lower[-1]}"
    if lower[-3:-2] == ["images"] and lower[-2] in KINFACEW.values():
        name = _kinfacew_photo(parts[-1])
        return f"images/{lower[-2]}/{name}" if _KINFACEW_PHOTO.fullmatch(name) else None
    return None


def _kinfacew_photo(name: str) -> str:
    """A photo's name as KinFaceW has it, whatever program wrote the file or the list."""
    match = _KINFACEW_NUMBERED.fullmatch(name)
    return f"{match[1].lower()}.jpg" if match else name


def _only_kinfacew(source: Path, folders: Iterable[layout.Parts]) -> layout.Parts:
    """The one of the folders that is meant: that in the fewest others."""
    depth = min(map(len, folders))
    nearest = sorted("/".join(folder) for folder in folders if len(folder) == depth)
    if len(nearest) > 1:
        raise DatasetError(
            f"{source} holds {' and '.join(nearest)}; name the folder of one of them."
        )
    return tuple(nearest[0].split("/")) if depth else ()


def _index_kinfacew(folder: Path) -> RelationPairs:
    root = _kinfacew_root(folder)
    # first look for all files, so that one message names all that are missing
    missing = []
    for code, photos in KINFACEW.items():
        for path in (root / "images" / photos, _kinfacew_list(root, code)):
            if not path.exists():
                missing.append(f"{path.relative_to(root).as_posix()} ({RELATIONS[code]})")
    if missing:
        raise DatasetError(f"{root} lacks {', '.join(missing)}; extract the whole archive again.")
    # one row a pair, and beside it where it was read from
    origins, rows = [], []
    for code in KINFACEW:
        for origin, cells in _kinfacew_lines(_kinfacew_list(root, code)):
            origins.append(origin)
            rows.append(_kinfacew_row(origin, code, cells))
    return _relation_pairs(root, origins, rows)


def _kinfacew_list(root: Path, code: str) -> Path:
    """The list of a relation; the published one where there are several, or none."""
    paths = [root / "meta_data" / f"{code}_pairs{ending}" for ending in _KINFACEW_ENDINGS]
    return next((path for path in paths if path.exists()), paths[0])


def _kinfacew_root(folder: Path) -> Path:
    """The folder with images/ and meta_data/: the one given, or the only KinFaceW in it."""
    # an archive was extracted with its folder KinFaceW-I or KinFaceW-II
    inner = [folder / name for name in _KINFACEW_SETS if (folder / name).is_dir()]
    root = inner[0] if inner else folder
    for name in ("images", "meta_data"):
        if not (root / name).is_dir():
            raise DatasetError(
                f"{root} has no folder {name}/; name KinFaceW's archive or the folder that "
                "holds images/ and meta_data/."
            )
    return root


def _kinfacew_lines(path: Path) -> Iterator[tuple[str, list[Any]]]:
    """Where each pair stands in a list, and its values: fold, kin or not, parent and child."""
    if path.suffix == ".mat":
        for number, cells in enumerate(_kinfacew_cells(path), start=1):
            yield f"{path}, row {number}", [_cell_value(cell) for cell in cells]
        return
    # a table that was made of it; a first row without a fold names the columns
    rows = tables.read_rows(path)
    if rows and not any(cell.isdigit() for cell in rows[0].cells):
        _, rows = tables.split_header(path, rows)
    for row in rows:
        # before the four may stand the row's name
        values = [int(cell) if cell.isdigit() else cell for cell in row.cells[-4:]]
        if len(values) < 4:
            raise DatasetError(
                f"{path}, line {row.line}: {len(values)} fields, expected a fold, kin or not, and "
                "two photos; mend the line."
            )
        yield f"{path}, line {row.line}", values


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
        check_machine(error, path)
        with open(path, "rb") as file:
            newer = file.read(len(_MATLAB_7_3)) == _MATLAB_7_3
        if newer:
            raise DatasetError(
                f"{path} is in MATLAB's format 7.3, which is not read here; load it in MATLAB and "
                "save it again with -v7."
            ) from error
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


def _kinfacew_row(origin: str, code: str, cells: list[Any]) -> Row:
    """A pair from its four values, which are checked; ``origin`` says where they were read."""
    # anything may stand in a cell of a damaged or edited list
    fold, label, *names = cells
    if fold not in _KINFACEW_FOLDS:
        raise DatasetError(
            f"{origin}: the fold is {fold!r}, expected 1 to 5; extract the list again."
        )
    if label not in (0, 1):
        raise DatasetError(
            f"{origin}: the label is {label!r}, expected 0 or 1; extract the list again."
        )
    names = [_kinfacew_photo(name) if isinstance(name, str) else name for name in names]
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

    The track is about verification. A line is a pair, its fields separated by commas, semicolons,
    tabs or spaces::

        0 F0001/MID1/P00001_face1.jpg F0001/MID2/P00003_face0.jpg fs 1

    that is its number (which may be left out), two photos, a code of ``RELATIONS``, and 1 for kin
    or 0 for strangers. Or the first line names the columns, in any order, as in ``RFIW_COLUMNS``.
    Such lists have no folds. They are read in the dialects of :mod:`utils.data.tables`.

    Source: Robinson, Yin, Khan, Shao, Xia, Stopa, Timoner, Turk, Chellappa and Fu, Recognizing
    Families In the Wild (RFIW): The 4th Edition, FG 2020.

    Args:
        list_file: the list, text in UTF-8 or UTF-16.
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
    if not list_file.is_file():
        reason = "it is a folder" if list_file.is_dir() else "No such file or directory"
        raise DatasetError(f"The list {list_file} cannot be read ({reason}); check the path.")
    # a first row that holds a column's name is not a pair
    rows = tables.read_rows(list_file, kind="a list of pairs in UTF-8 text")
    has_header = bool(rows) and not _RFIW_NAMES.isdisjoint(map(str.lower, rows[0].cells))
    pair_rows = rows[1:] if has_header else rows
    if not pair_rows:
        raise DatasetError(f"{list_file} lists no pair; copy it from the challenge's data.")
    # where the four columns stand is the same in every row
    origin = f"{list_file}, line {rows[0].line}"
    if has_header:
        header, pair_rows = tables.split_header(list_file, rows)
        places = _header_places(origin, [name.lower() for name in header])
    else:
        tables.check_widths(list_file, rows, len(rows[0].cells))
        places = _usual_places(origin, rows[0].cells)
    # where each pair stands, and what it is
    origins, pairs = [], []
    for row in pair_rows:
        origins.append(f"{list_file}, line {row.line}")
        pairs.append(_rfiw_row(origins[-1], *(row.cells[place] for place in places)))
    return _relation_pairs(photos, origins, pairs)


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
    if label.lower() not in _RFIW_LABELS:
        raise DatasetError(f"{origin}: the label is {label!r}, expected 0 or 1; mend the line.")
    # Windows writes its own separator
    photo_a, photo_b = photo_a.replace("\\", "/"), photo_b.replace("\\", "/")
    return photo_a, photo_b, _RFIW_LABELS[label.lower()], RELATIONS[code], 0


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
    """Whether a photo is there, and not outside of the folder by an absolute path or by ``..``.

    A link that leads nowhere is there: a photo that cannot be read, as others that are damaged.
    """
    path, photo = Path(name), root / name
    is_there = os.path.isfile(photo) or (os.path.islink(photo) and not os.path.exists(photo))
    return not path.anchor and ".." not in path.parts and is_there
