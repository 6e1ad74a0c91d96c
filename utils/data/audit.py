"""What the data really holds, counted before anything is trained on it."""

import functools
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

from .. import images
from ..errors import ImageError
from . import datasets, protocols
from .datasets import Dataset

HASH_SIDE = 16  # a difference hash has HASH_SIDE² = 256 bits
NEAR_BITS = 12  # near duplicates differ in at most so many of them
GROUP_COLUMNS = ["photos", "people", "families", "where"]
SCAN_COLUMNS = ["path", "person", "family", "width", "height", "mode", "grey", "sha256", "dhash"]


def _ignore(count: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Audit:
    """Findings by section (``to_dict``, ``table``), and the lists behind them.

    Attributes:
        sections: section name to {finding: number}, ready for JSON.
        people_without_photos: people listed in the CSV that have no photo.
        unreadable: relative path to what is wrong.
        exact_duplicates: groups of identical photos, one row each.
        near_duplicates: pairs of photos that look the same, one row each.
        photos: the scanned photos: path, width, height, mode, grey, sha256, …
    """

    sections: dict[str, dict]
    people_without_photos: list[str] = field(repr=False)
    unreadable: dict[str, str] = field(repr=False)
    exact_duplicates: pd.DataFrame = field(repr=False)
    near_duplicates: pd.DataFrame = field(repr=False)
    photos: pd.DataFrame = field(repr=False)

    def to_dict(self) -> dict:
        """Everything that fits on a page, with the short lists by name."""
        return {
            **self.sections,
            "people_without_photos": self.people_without_photos,
            "unreadable": self.unreadable,
        }

    def table(self) -> pd.DataFrame:
        """One row a finding: section, finding, count."""
        rows = []
        for section, findings in self.sections.items():
            for finding, value in findings.items():
                # a finding that is a table of its own, such as the sizes, has no row
                if not isinstance(value, dict):
                    rows.append((section, finding.replace("_", " "), value))
        table = pd.DataFrame(rows, columns=["section", "finding", "count"])
        return table.astype({"count": object})


def audit(
    dataset: Dataset,
    prefix: str = datasets.TEST_PREFIX,
    advance: Callable[[int], object] = _ignore,
) -> Audit:
    """Scan every photo and cross-check it with the CSV files.

    Args:
        dataset: the data as it was loaded, with its unreadable photos.
        prefix: how the names of the held-out families start.
        advance: called with 1 after each photo.
    """
    # decoding takes nearly all of the time; the rest only counts
    scanned, unreadable = scan(dataset, advance)
    exact = exact_duplicates(scanned)
    near = near_duplicates(scanned)
    # people of whom the CSV tells, and those of them who have no photo
    listed = set(dataset.relationships["p1"]) | set(dataset.relationships["p2"])
    absent = sorted(listed - dataset.people)
    sections = {
        "relationships": _relationship_facts(dataset, listed, absent),
        "photos": _photo_facts(dataset, scanned, unreadable),
        "families": _family_facts(dataset),
        "same_source_photo": _same_photo_facts(dataset),
        "duplicates": _duplicate_facts("exact", "groups", exact)
        | _duplicate_facts("near", "pairs", near),
        "split": _split_facts(dataset, scanned, prefix),
        "test": _test_facts(dataset, exact),
        "test_list": _test_list_facts(dataset.sample["img_pair"]),
    }
    return Audit(sections, absent, unreadable, exact, near, scanned)


# --- scanning photos ----------------------------------------------------------------------------


def scan(
    dataset: Dataset, advance: Callable[[int], object] = _ignore
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Decode every photo, training and test.

    Args:
        dataset: the data as it was loaded.
        advance: called with 1 after each photo.

    Returns:
        A table of the readable ones (path, person, family, width, height, mode, grey, sha256,
        dhash: uint64 ``(4,)``), and {path: problem} of the others. Test photos have empty person
        and family.
    """
    # whom each photo shows; nobody knows it of the test photos
    photos = dataset.photos[["path", "person", "family"]]
    owners = {path: (person, family) for path, person, family in photos.itertuples(index=False)}
    owners |= {f"test/{name}": ("", "") for name in dataset.test_photos}
    examine = functools.partial(_examine, dataset)
    rows, unreadable = [], {}
    for name, facts in zip(owners, images.map_threads(examine, owners), strict=True):
        advance(1)
        if isinstance(facts, str):
            unreadable[name] = facts
        else:
            rows.append((name, *owners[name], *facts))
    return pd.DataFrame(rows, columns=SCAN_COLUMNS), unreadable


def _examine(dataset: Dataset, name: str) -> tuple | str:
    """Width, height, mode, grey, sha256 and dhash of a photo; or why it cannot be read."""
    try:
        content = (dataset.root / name).read_bytes()
        pixels = images.decode(content, name)
    except (ImageError, OSError) as error:
        return str(error)
    height, width, _ = pixels.shape
    # of the file; the decoded pixels are RGB always
    mode = Image.open(io.BytesIO(content)).mode
    checksum = hashlib.sha256(content).hexdigest()
    return width, height, mode, is_grey(pixels), checksum, difference_hash(pixels)


def is_grey(image: np.ndarray, spread: int = 8) -> bool:
    """Whether an RGB uint8 image shows no colour: channels at most ``spread`` levels apart.

    Looked at on a 16×16 reduction, where the noise of JPEG's colour planes averages out. A black
    and white photograph is often stored as RGB, so the file's mode does not tell.
    """
    reduced = Image.fromarray(image).resize((16, 16), Image.Resampling.BOX)
    channels = np.asarray(reduced, np.int16)  # (16, 16, 3)
    return bool((channels.max(-1) - channels.min(-1)).max() <= spread)


def difference_hash(image: np.ndarray) -> np.ndarray:
    """256-bit difference hash of an RGB uint8 image, as uint64 ``(4,)``.

    The image is shrunk to 17×16 grey pixels; each bit says whether a pixel is brighter than its
    right-hand neighbour. Small changes of size, quality or brightness change few bits.
    """
    grey = Image.fromarray(image).convert("L")
    reduced = grey.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    levels = np.asarray(reduced, np.int16)  # (16, 17)
    return np.packbits(levels[:, :-1] > levels[:, 1:]).view(np.uint64)


# --- duplicates ---------------------------------------------------------------------------------


def exact_duplicates(scanned: pd.DataFrame) -> pd.DataFrame:
    """Groups of byte-identical photos: photos (tuple of paths), people, families, where.

    ``where`` is ``train``, ``test`` or ``train and test``.
    """
    repeated = scanned[scanned["sha256"].duplicated(keep=False)]
    rows = [_describe(group) for _, group in repeated.groupby("sha256", sort=False)]
    return pd.DataFrame(rows, columns=GROUP_COLUMNS)


def near_duplicates(scanned: pd.DataFrame, bits: int = NEAR_BITS) -> pd.DataFrame:
    """Pairs of different files whose difference hashes differ in at most ``bits`` of 256 bits.

    The columns are those of :func:`exact_duplicates`, and bits.
    """
    distinct = scanned.drop_duplicates("sha256").reset_index(drop=True)
    rows = []
    if not distinct.empty:
        for i, j, distance in _near_pairs(np.stack(distinct["dhash"]), bits):
            rows.append((*_describe(distinct.iloc[[i, j]]), distance))
    return pd.DataFrame(rows, columns=[*GROUP_COLUMNS, "bits"])


def _near_pairs(hashes: np.ndarray, bits: int) -> Iterator[tuple[int, int, int]]:
    """Numbers i < j of hashes ``(n, 4)`` that differ in at most ``bits`` bits, and in how many.

    In blocks of 256 rows: all n² distances at once would take some hundred megabytes.
    """
    for start in range(0, len(hashes), 256):
        block, rest = hashes[start : start + 256], hashes[start:]
        distance = np.zeros((len(block), len(rest)), np.uint16)
        for word in range(hashes.shape[1]):
            distance += np.bitwise_count(block[:, None, word] ^ rest[None, :, word])
        for i, j in np.argwhere(distance <= bits):
            if i < j:
                yield start + i, start + j, int(distance[i, j])


def _describe(group: pd.DataFrame) -> tuple[tuple, int, int, str]:
    """The paths of some photos, of how many people and families they are, and where they stand."""
    in_train = group["family"] != ""
    where = []
    if in_train.any():
        where.append("train")
    if not in_train.all():
        where.append("test")
    people = group.loc[in_train, "person"].nunique()
    families = group.loc[in_train, "family"].nunique()
    return tuple(group["path"]), people, families, " and ".join(where)


def _duplicate_facts(kind: str, unit: str, table: pd.DataFrame) -> dict:
    in_train = table["where"] == "train"
    return {
        f"{kind}_{unit}": len(table),
        f"{kind}_within_one_person": int(((table["people"] == 1) & in_train).sum()),
        f"{kind}_across_people": int((table["people"] > 1).sum()),
        f"{kind}_across_families": int((table["families"] > 1).sum()),
        f"{kind}_train_and_test": int((table["where"] == "train and test").sum()),
    }


# --- counting -----------------------------------------------------------------------------------


def _relationship_facts(dataset: Dataset, listed: set[str], absent: list[str]) -> dict:
    rows = dataset.relationships
    families_1, families_2 = datasets.family_of(rows["p1"]), datasets.family_of(rows["p2"])
    # (a, b) and (b, a) are the same pair
    unordered = pd.Series([frozenset(pair) for pair in rows.itertuples(index=False)])
    return {
        "rows": len(rows),
        "families": int(pd.concat([families_1, families_2]).nunique()),
        "people_listed": len(listed),
        "people_listed_without_photos": len(absent),
        "rows_dropped": len(rows) - len(dataset.kin),
        "rows_usable": len(dataset.kin),
        "rows_repeated": int(unordered.duplicated().sum()),
        "rows_across_families": int((families_1 != families_2).sum()),
    }


def _photo_facts(dataset: Dataset, scanned: pd.DataFrame, unreadable: dict) -> dict:
    per_person = dataset.photos["person"].value_counts()
    # test photos have no family; what they look like is not counted here
    train = scanned[scanned["family"] != ""]
    sides = train[["width", "height"]].itertuples(index=False)
    sizes = Counter(f"{width}×{height}" for width, height in sides)
    modes = train["mode"].value_counts()
    return {
        "training_photos": len(dataset.photos),
        "unreadable": len(unreadable),
        "people_with_photos": len(dataset.people),
        "people_with_one_photo": int((per_person == 1).sum()),
        "photos_a_person_median": float(per_person.median()),
        "photos_a_person_most": int(per_person.max()),
        "distinct_sizes": len(sizes),
        "without_colour": int(train["grey"].sum()),
        "sizes": dict(sizes.most_common(5)),
        "modes": {mode: int(count) for mode, count in modes.items()},
    }


def _family_facts(dataset: Dataset) -> dict:
    sizes = dataset.photos.groupby("family")["person"].nunique()
    within, unlisted = datasets.within_family_pairs(dataset), datasets.unlisted_pairs(dataset)
    return {
        "families_with_photos": len(sizes),
        "people_a_family_median": float(sizes.median()),
        "people_a_family_most": int(sizes.max()),
        "pairs_within_families": len(within),
        "pairs_unlisted_as_kin": len(unlisted),
    }


def same_photo_share(dataset: Dataset) -> pd.Series:
    """For each usable kin row, the share of its photo pairs cut from one photograph, in [0, 1].

    Drawing a row and then a photo of each person uniformly, the mean of this is the chance that
    a positive pair shows two faces of the same picture: same light, same camera, same day.
    """
    # how many faces of a person each photograph holds
    by_person = dataset.photos.groupby("person")["photo_id"]
    faces = {person: Counter(photo_ids) for person, photo_ids in by_person}
    shares = []
    for a, b in dataset.kin[["p1", "p2"]].itertuples(index=False):
        together = sum(count * faces[b][photo_id] for photo_id, count in faces[a].items())
        shares.append(together / (faces[a].total() * faces[b].total()))
    return pd.Series(shares, index=dataset.kin.index, dtype=float)


def _same_photo_facts(dataset: Dataset) -> dict:
    shares = same_photo_share(dataset)
    # a photograph should belong to one family
    families_of: dict[str, set[str]] = defaultdict(set)
    for family, photo_id in dataset.photos[["family", "photo_id"]].itertuples(index=False):
        families_of[photo_id].add(family)
    crossing = sum(len(families) > 1 for families in families_of.values())
    return {
        "kin_rows_sharing_a_photo": int((shares > 0).sum()),
        "percent_of_kin_rows": round(100 * float((shares > 0).mean()), 1),
        "percent_of_positive_photo_pairs": round(100 * float(shares.mean()), 1),
        "photo_ids_in_several_families": crossing,
    }


def _split_facts(dataset: Dataset, scanned: pd.DataFrame, prefix: str) -> dict:
    train_families, test_families = protocols.split_families(dataset, prefix)
    train, test = dataset.of_families(train_families), dataset.of_families(test_families)
    # equal bytes have equal checksums: a photo on both sides gives the answer away
    train_files = scanned.loc[scanned["family"].isin(train_families), "sha256"]
    test_files = scanned.loc[scanned["family"].isin(test_families), "sha256"]
    return {
        "prefix": prefix,
        "families_held_out": len(test_families),
        "families_for_training": len(train_families),
        "rows_held_out": len(test.relationships),
        "rows_held_out_usable": len(test.kin),
        "photos_held_out": len(test.photos),
        "families_on_both_sides": len(set(train_families) & set(test_families)),
        "people_on_both_sides": len(test.people & train.people),
        "identical_photos_on_both_sides": len(set(test_files) & set(train_files)),
    }


def _test_facts(dataset: Dataset, exact: pd.DataFrame) -> dict:
    # an image pair is written face00001.jpg-face00002.jpg
    used: set[str] = set()
    for pair in dataset.sample["img_pair"]:
        used.update(str(pair).split("-"))
    # test photos with the bytes of a training photo
    in_train = set()
    for photos in exact.loc[exact["where"] == "train and test", "photos"]:
        names = [path.removeprefix("test/") for path in photos if path.startswith("test/")]
        in_train.update(names)
    return {
        "photos": len(dataset.test_photos),
        "pairs": len(dataset.sample),
        "photos_used": len(used),
        "photos_used_but_missing": len(used - set(dataset.test_photos)),
        "photos_identical_to_training": len(in_train),
        "of_those_in_a_scored_pair": len(in_train & used),
    }


def first_nowhere_else(pairs: pd.Series) -> np.ndarray:
    """Whether a photo of each pair stands first in no other pair, bool ``(pairs,)``.

    The competition draws strangers from photos that stand first in a pair of kin. So where a photo
    of a pair stands first nowhere else, the pair is kin, and nobody has to look at a face. A list
    whose pairs are drawn freely has such pairs too, and there they say nothing.

    Args:
        pairs: such as face00001.jpg-face00002.jpg.

    Example:
        >>> pairs = pd.Series(["a-b", "c-d", "a-c"])  # strangers are drawn from a and c
        >>> first_nowhere_else(pairs).tolist()
        [True, True, False]
    """
    photos = _photos_of_pairs(pairs)
    times = photos["first"].value_counts()  # how often each photo stands first
    first_elsewhere = photos["first"].map(times) > 1
    second_elsewhere = photos["second"].isin(times.index)
    return ~(first_elsewhere & second_elsewhere).to_numpy(bool)


def _photos_of_pairs(pairs: pd.Series) -> pd.DataFrame:
    """The photo that stands first in each pair, and the second."""
    names = [str(pair).partition("-")[::2] for pair in pairs]
    return pd.DataFrame(names, columns=["first", "second"], dtype=object)


def _test_list_facts(pairs: pd.Series) -> dict:
    photos = _photos_of_pairs(pairs)
    return {
        "photos_first": photos["first"].nunique(),
        "photos_second": photos["second"].nunique(),
        "photos_first_and_second": len(set(photos["first"]) & set(photos["second"])),
        "pairs_with_a_photo_first_nowhere_else": int(first_nowhere_else(pairs).sum()),
    }
