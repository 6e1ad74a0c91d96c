"""What the data really holds, counted before anything is trained on it."""

import hashlib
import io
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

from .. import images
from ..errors import ImageError
from . import datasets
from .datasets import Dataset

HASH_SIDE = 16  # a difference hash has HASH_SIDE² = 256 bits
NEAR_BITS = 12  # near duplicates differ in at most so many of them


@dataclass
class Audit:
    """Findings by section (``to_dict``, ``table``), and the lists behind them.

    Attributes:
        sections: section name to {finding: number}, ready for JSON.
        people_without_photos: people listed in the CSV that have no photo.
        unreadable: relative path to what is wrong.
        exact_duplicates, near_duplicates: groups or pairs of photos, one row each.
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
        return {**self.sections,
                "people_without_photos": self.people_without_photos,
                "unreadable": self.unreadable}

    def table(self) -> pd.DataFrame:
        """One row a finding: section, finding, count."""
        rows = [(section, finding.replace("_", " "), value)
                for section, findings in self.sections.items() for finding, value in findings.items()
                if not isinstance(value, dict)]
        return pd.DataFrame(rows, columns=["section", "finding", "count"]).astype({"count": object})


def audit(dataset: Dataset, prefix: str = datasets.TEST_PREFIX, advance=lambda count: None) -> Audit:
    """Scan every photo and cross-check it with the CSV files. ``advance(1)`` after each photo."""
    scanned, unreadable = scan(dataset, advance)
    exact = exact_duplicates(scanned)
    near = near_duplicates(scanned)
    listed = set(dataset.relationships["p1"]) | set(dataset.relationships["p2"])
    absent = sorted(listed - dataset.people)
    sections = {
        "relationships": _relationship_facts(dataset, listed, absent),
        "photos": _photo_facts(dataset, scanned, unreadable),
        "families": _family_facts(dataset),
        "same_source_photo": _same_photo_facts(dataset),
        "duplicates": _duplicate_facts(exact, near),
        "split": _split_facts(dataset, scanned, prefix),
        "test": _test_facts(dataset, exact),
    }
    return Audit(sections, absent, unreadable, exact, near, scanned)


# --- scanning photos ----------------------------------------------------------------------------


def scan(dataset: Dataset, advance=lambda count: None) -> tuple[pd.DataFrame, dict[str, str]]:
    """Decode every photo, training and test.

    Returns:
        a table of the readable ones (path, person, family, width, height, mode, grey, sha256,
        dhash: uint64 (4,)), and {path: problem} of the others. Test photos have empty person and family.
    """
    owners = {path: (person, family) for path, person, family
              in dataset.photos[["path", "person", "family"]].itertuples(index=False)}
    names = [*owners, *(f"test/{name}" for name in dataset.test_photos)]

    def examine(name):
        try:
            return name, _examine((dataset.root / name).read_bytes(), name)
        except (ImageError, OSError) as error:
            return name, str(error)

    rows, unreadable = [], {}
    for name, facts in images.map_threads(examine, names):
        advance(1)
        if isinstance(facts, str):
            unreadable[name] = facts
        else:
            rows.append((name, *owners.get(name, ("", "")), *facts))
    columns = ["path", "person", "family", "width", "height", "mode", "grey", "sha256", "dhash"]
    return pd.DataFrame(rows, columns=columns), unreadable


def _examine(content: bytes, name: str) -> tuple:
    pixels = images.decode(content, name)
    mode = Image.open(io.BytesIO(content)).mode
    return (pixels.shape[1], pixels.shape[0], mode, is_grey(pixels),
            hashlib.sha256(content).hexdigest(), difference_hash(pixels))


def is_grey(image: np.ndarray, spread: int = 8) -> bool:
    """Whether an RGB uint8 image shows no colour: channels at most ``spread`` levels apart.

    Looked at on a 16×16 reduction, where the noise of JPEG's colour planes averages out. A black
    and white photograph is often stored as RGB, so the file's mode does not tell.
    """
    small = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BOX), np.int16)
    return bool((small.max(-1) - small.min(-1)).max() <= spread)


def difference_hash(image: np.ndarray) -> np.ndarray:
    """256-bit difference hash of an RGB uint8 image, as uint64 ``(4,)``.

    The image is shrunk to 17×16 grey pixels; each bit says whether a pixel is brighter than its
    right-hand neighbour. Small changes of size, quality or brightness change few bits.
    """
    grey = Image.fromarray(image).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.int16)
    return np.packbits(values[:, :-1] > values[:, 1:]).view(np.uint64)


# --- duplicates ---------------------------------------------------------------------------------


def exact_duplicates(scanned: pd.DataFrame) -> pd.DataFrame:
    """Groups of byte-identical photos: photos (tuple of paths), people, families, where.

    ``where`` is ``train``, ``test`` or ``train and test``.
    """
    repeated = scanned[scanned["sha256"].duplicated(keep=False)]
    rows = [_describe(group) for _, group in repeated.groupby("sha256", sort=False)]
    return pd.DataFrame(rows, columns=["photos", "people", "families", "where"])


def near_duplicates(scanned: pd.DataFrame, bits: int = NEAR_BITS) -> pd.DataFrame:
    """Pairs of different files whose difference hashes differ in at most ``bits`` of 256 bits."""
    distinct = scanned.drop_duplicates("sha256").reset_index(drop=True)
    if distinct.empty:
        return pd.DataFrame(columns=["photos", "people", "families", "where", "bits"])
    hashes = np.stack(distinct["dhash"])
    rows = []
    for start in range(0, len(hashes), 256):
        distance = np.zeros((min(256, len(hashes) - start), len(hashes) - start), np.uint16)
        for word in range(hashes.shape[1]):
            distance += np.bitwise_count(hashes[start:start + 256, None, word] ^ hashes[None, start:, word])
        for i, j in np.argwhere(distance <= bits):
            if i < j:
                rows.append((*_describe(distinct.iloc[[start + i, start + j]]), int(distance[i, j])))
    return pd.DataFrame(rows, columns=["photos", "people", "families", "where", "bits"])


def _describe(group: pd.DataFrame) -> tuple:
    in_train = group["family"] != ""
    where = " and ".join(name for name, there in (("train", in_train.any()), ("test", (~in_train).any()))
                         if there)
    return (tuple(group["path"]), group.loc[in_train, "person"].nunique(),
            group.loc[in_train, "family"].nunique(), where)


def _duplicate_facts(exact: pd.DataFrame, near: pd.DataFrame) -> dict:
    facts = {}
    for kind, table in (("exact", exact), ("near", near)):
        facts |= {
            f"{kind}_groups" if kind == "exact" else "near_pairs": len(table),
            f"{kind}_within_one_person": int(((table["people"] == 1) & (table["where"] == "train")).sum()),
            f"{kind}_across_people": int((table["people"] > 1).sum()),
            f"{kind}_across_families": int((table["families"] > 1).sum()),
            f"{kind}_train_and_test": int((table["where"] == "train and test").sum()),
        }
    return facts


# --- counting -----------------------------------------------------------------------------------


def _relationship_facts(dataset: Dataset, listed: set[str], absent: list[str]) -> dict:
    rows = dataset.relationships
    family = [datasets.family_of(rows[column]) for column in ("p1", "p2")]
    unordered = pd.Series([frozenset(pair) for pair in rows.itertuples(index=False)])
    return {
        "rows": len(rows),
        "families": int(pd.concat(family).nunique()),
        "people_listed": len(listed),
        "people_listed_without_photos": len(absent),
        "rows_dropped": len(rows) - len(dataset.kin),
        "rows_usable": len(dataset.kin),
        "rows_repeated": int(unordered.duplicated().sum()),
        "rows_across_families": int((family[0] != family[1]).sum()),
    }


def _photo_facts(dataset: Dataset, scanned: pd.DataFrame, unreadable: dict) -> dict:
    per_person = dataset.photos["person"].value_counts()
    train = scanned[scanned["family"] != ""]
    sizes = Counter(f"{w}×{h}" for w, h in train[["width", "height"]].itertuples(index=False))
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
        "modes": {mode: int(count) for mode, count in train["mode"].value_counts().items()},
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
    ids = {person: Counter(group) for person, group in dataset.photos.groupby("person")["photo_id"]}
    shares = []
    for a, b in dataset.kin[["p1", "p2"]].itertuples(index=False):
        together = sum(count * ids[b][photo] for photo, count in ids[a].items())
        shares.append(together / (ids[a].total() * ids[b].total()))
    return pd.Series(shares, index=dataset.kin.index, dtype=float)


def _same_photo_facts(dataset: Dataset) -> dict:
    shares = same_photo_share(dataset)
    families_of = defaultdict(set)
    for family, photo in dataset.photos[["family", "photo_id"]].itertuples(index=False):
        families_of[photo].add(family)
    crossing = sum(len(families) > 1 for families in families_of.values())
    return {
        "kin_rows_sharing_a_photo": int((shares > 0).sum()),
        "percent_of_kin_rows": round(100 * float((shares > 0).mean()), 1),
        "percent_of_positive_photo_pairs": round(100 * float(shares.mean()), 1),
        "photo_ids_in_several_families": crossing,
    }


def _split_facts(dataset: Dataset, scanned: pd.DataFrame, prefix: str) -> dict:
    train, test = datasets.split_families(dataset, prefix)
    held, kept = dataset.of_families(test), dataset.of_families(train)
    in_held = scanned["family"].isin(test)
    in_kept = scanned["family"].isin(train)
    return {
        "prefix": prefix,
        "families_held_out": len(test),
        "families_for_training": len(train),
        "rows_held_out": len(held.relationships),
        "rows_held_out_usable": len(held.kin),
        "photos_held_out": len(held.photos),
        "families_on_both_sides": len(set(train) & set(test)),
        "people_on_both_sides": len(held.people & kept.people),
        "identical_photos_on_both_sides": len(set(scanned.loc[in_held, "sha256"])
                                              & set(scanned.loc[in_kept, "sha256"])),
    }


def _test_facts(dataset: Dataset, exact: pd.DataFrame) -> dict:
    used = {name for pair in dataset.sample["img_pair"] for name in str(pair).split("-")}
    in_train = {path.removeprefix("test/") for _, row in exact.iterrows()
                if row["where"] == "train and test" for path in row["photos"] if path.startswith("test/")}
    return {
        "photos": len(dataset.test_photos),
        "pairs": len(dataset.sample),
        "photos_used": len(used),
        "photos_used_but_missing": len(used - set(dataset.test_photos)),
        "photos_identical_to_training": len(in_train),
        "of_those_in_a_scored_pair": len(in_train & used),
    }
