"""What grouping and kinship of an album are worth, on families whose people are known.

Each family is embedded by networks that never saw it (:mod:`training.out_of_fold`). What decides
is fitted on the families of the folds; the held-out families have no part in it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...data import protocols
from ...data.datasets import Dataset
from ...data.protocols import HELD_OUT
from ...errors import DatasetError
from ...scoring import metrics
from ...training import models, out_of_fold
from ...training.out_of_fold import FROZEN, FoldEmbeddings
from . import people, relations
from .people import Limits, Sameness
from .relations import KinOdds

FAMILIES = 10  # of an album
DRAWS = 5  # of the held-out families into albums
THRESHOLDS = (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5)  # log-odds, one of which is chosen
MOST_MERGED = 0.03  # share of kin pairs that may be merged into one person
PHOTOS = (1, 2, 3, 5, 10, 1000)  # of a person, at most: what kinship is fitted for
GROUPS = (1.4, 1.9, 2.7, 4.5, 8.0)  # of numbers of photos, in which kin and strangers are as many
QUESTIONS = 20  # of an album


@dataclass(frozen=True, eq=False)
class KnownAlbum:
    """An album whose people are known.

    Attributes:
        identity: embeddings of n faces by the encoder of identity, ``(n, k)``.
        kin: by the kinship encoders as one, ``(n, d)``.
        photos: number of the photo that each face is in, ``(n,)``.
        people: whom it shows, ``(n,)``.
        kin_pairs: people who are kin.
    """

    identity: np.ndarray
    kin: np.ndarray
    photos: np.ndarray
    people: np.ndarray
    kin_pairs: list[tuple[str, str]]

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The two faces of each pair that may show one person: those of two photos."""
        a, b = np.triu_indices(len(self.photos), 1)
        two_photos = self.photos[a] != self.photos[b]
        return a[two_photos], b[two_photos]


def measure(
    dataset: Dataset, folds: Sequence[FoldEmbeddings], identities: Sequence[str]
) -> dict[str, Any]:
    """Fit what an album decides by, and say what that is worth.

    Args:
        dataset: the data.
        folds: of :func:`out_of_fold.embed_folds`, with each encoder of identity as published.
        identities: names of the encoders of identity.

    Raises:
        DatasetError: there are too few families.

    Returns:
        What ``data/album.json`` holds, without the fingerprints.
    """
    # what is fitted has not seen the held-out families
    inner = [fold for fold in folds if fold.fold != HELD_OUT]
    tuned = [name for name in folds[0].embeddings if not name.startswith(FROZEN)]
    weights = out_of_fold.Decision.fit(inner, tuned).weights
    by_identity = {}
    for name in identities:
        training: list[KnownAlbum] = []
        for fold in inner:
            training += albums_of(dataset, fold, name, weights, 0)
        if not training:
            raise DatasetError(
                f"No fold has the {FAMILIES} families of an album; name data with more families."
            )
        sameness, tried = fit_sameness(training)
        # the held-out families, drawn several times
        held_out = []
        for seed in range(DRAWS):
            held_out += albums_of(dataset, folds[-1], name, weights, seed)
        by_identity[name] = {
            "sameness": sameness,
            "folds": tried,
            "held_out": grouping_worth(held_out, sameness),
        }
    return {"identity": by_identity, "kinship": kinship_worth(dataset, folds, tuned)}


# --- grouping -----------------------------------------------------------------------------------


def albums_of(
    dataset: Dataset, fold: FoldEmbeddings, identity: str, weights: dict[str, float], seed: int
) -> list[KnownAlbum]:
    """A fold's families drawn into albums of ``FAMILIES``; those that are left over are not used.

    Args:
        dataset: the data.
        fold: its families' photos, embedded.
        identity: name of the encoder of identity.
        weights: of the kinship encoders' cosines.
        seed: of the draw.
    """
    # the families in another order at each draw
    photos = _photos_of(dataset, fold)
    families = photos["family"].to_numpy()
    order = np.random.default_rng(seed).permutation(np.unique(families))
    kin = dataset.kin[["p1", "p2", "family"]]
    albums = []
    for start in range(0, len(order) - FAMILIES + 1, FAMILIES):
        names = order[start : start + FAMILIES]
        rows = np.flatnonzero(np.isin(families, names))
        ids = photos["family"].iloc[rows] + "/" + photos["photo_id"].iloc[rows]
        pairs = kin[kin["family"].isin(names)][["p1", "p2"]]
        albums.append(
            KnownAlbum(
                fold.embeddings[f"{FROZEN}{identity}"][rows],
                fold.joined(weights)[rows],
                pd.factorize(ids)[0],
                fold.people[rows],
                [(str(first), str(second)) for first, second in pairs.to_numpy()],
            )
        )
    return albums


def _photos_of(dataset: Dataset, fold: FoldEmbeddings) -> pd.DataFrame:
    """The dataset's rows of the photos that a fold embeds, in their order."""
    first, second = protocols.pair_families(fold.pairs)
    families = set(first.astype(str)) | set(second.astype(str))
    return dataset.photos[dataset.photos["family"].isin(families)].reset_index(drop=True)


def fit_sameness(albums: Sequence[KnownAlbum]) -> tuple[Sameness, dict[str, Any]]:
    """Log-odds of one person from two cosines, and the threshold of the best groups.

    Args:
        albums: whose people are known.

    Returns:
        What decides, and by threshold what groups it gives.
    """
    from sklearn.linear_model import LogisticRegression

    cosines, same = [], []
    for album in albums:
        a, b = album.pairs
        identity = (album.identity[a] * album.identity[b]).sum(1)
        cosines.append(np.stack([identity, (album.kin[a] * album.kin[b]).sum(1)], axis=1))
        same.append(album.people[a] == album.people[b])
    # maximum likelihood, with as few pairs of one person among all as albums have
    model = LogisticRegression(C=metrics.NO_PENALTY, max_iter=300)
    model.fit(np.concatenate(cosines), np.concatenate(same))
    first, second = (max(0.0, float(number)) for number in model.coef_[0])
    fitted = (first, second, float(model.intercept_[0]))
    # the best groups of those that merge few relatives
    tried, best = {}, None
    for threshold in THRESHOLDS:
        sameness = Sameness(*fitted, threshold)
        worth = grouping_worth(albums, sameness)
        tried[str(threshold)] = worth
        rank = (worth["kin_merged"] <= MOST_MERGED, worth["f1"])
        if best is None or rank > best[0]:
            best = rank, sameness
    assert best is not None
    return best[1], tried


def groups_of(album: KnownAlbum, sameness: Sameness) -> tuple[np.ndarray, np.ndarray]:
    """An album's groups, as :func:`people.group` gives them, and the embeddings they come from."""
    embeddings = sameness.joined(album.identity, album.kin)
    return people.group(embeddings, sameness, Limits(album.photos)), embeddings


def grouping_worth(albums: Sequence[KnownAlbum], sameness: Sameness) -> dict[str, Any]:
    """How right the groups of some albums are.

    Args:
        albums: whose people are known.
        sameness: what decides.

    Returns:
        Precision and recall of pairs of faces, F1; photos that show a person twice; the share of
        kin pairs of whom most faces are in one group, and of those with any two faces in one; of
        the questions, the share whose answer is yes.
    """
    # sums over the albums
    counts = np.zeros(8)
    for album in albums:
        labels, embeddings = groups_of(album, sameness)
        counts += [*_pair_counts(album, labels), *_kin_counts(album, labels), *(0, 0)]
        counts[6:] += _question_counts(album, labels, embeddings, sameness)
    right, joined, same, twice, merged, touched, yes, asked = counts
    kin = sum(len(album.kin_pairs) for album in albums)
    precision, recall = right / max(joined, 1), right / max(same, 1)
    return {
        "albums": len(albums),
        "faces": sum(len(album.people) for album in albums),
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(precision + recall, 1e-9), 4),
        "photos_with_a_person_twice": int(twice),
        "kin_pairs": kin,
        "kin_merged": round(merged / max(kin, 1), 4),
        "kin_with_a_face_in_common": round(touched / max(kin, 1), 4),
        "questions": int(asked),
        "questions_answered_yes": round(yes / max(asked, 1), 4),
    }


def _pair_counts(album: KnownAlbum, labels: np.ndarray) -> tuple[int, int, int, int]:
    """Pairs that are joined rightly, that are joined, that are one person; photos with one twice.

    Args:
        album: whose people are known.
        labels: of its groups, ``(n,)``.
    """
    a, b = album.pairs
    joined, same = labels[a] == labels[b], album.people[a] == album.people[b]
    inside = pd.DataFrame({"photo": album.photos, "group": labels})
    twice = inside[inside.duplicated()]["photo"].nunique()
    return int((joined & same).sum()), int(joined.sum()), int(same.sum()), int(twice)


def _kin_counts(album: KnownAlbum, labels: np.ndarray) -> tuple[int, int]:
    """Kin pairs whose largest groups are one, and those with a group in common.

    Args:
        album: whose people are known.
        labels: of its groups, ``(n,)``.
    """
    groups, main = {}, {}
    for person in np.unique(album.people):
        own, sizes = np.unique(labels[album.people == person], return_counts=True)
        groups[str(person)], main[str(person)] = set(own.tolist()), int(own[sizes.argmax()])
    merged = sum(main[a] == main[b] for a, b in album.kin_pairs)
    touched = sum(bool(groups[a] & groups[b]) for a, b in album.kin_pairs)
    return merged, touched


def _question_counts(
    album: KnownAlbum, labels: np.ndarray, embeddings: np.ndarray, sameness: Sameness
) -> tuple[int, int]:
    """Questions whose answer is yes, and questions.

    Args:
        album: whose people are known.
        labels: of its groups, ``(n,)``.
        embeddings: that they come from.
        sameness: that decided.
    """
    limits = Limits(album.photos)
    pairs = people.likely_same(embeddings, labels, sameness, limits, QUESTIONS)
    main = {}
    for label in np.unique(labels):
        names, sizes = np.unique(album.people[labels == label], return_counts=True)
        main[int(label)] = str(names[sizes.argmax()])
    return sum(main[a] == main[b] for a, b, _ in pairs), len(pairs)


# --- kinship ------------------------------------------------------------------------------------


def kinship_worth(
    dataset: Dataset, folds: Sequence[FoldEmbeddings], names: Sequence[str]
) -> dict[str, Any]:
    """Fit what similarities of people are worth, and measure it on the folds left out.

    Photos that show both people of a pair are left out: kin are photographed together, strangers
    of the protocol never are, and what two faces have in common may be the light.

    Args:
        dataset: the data.
        folds: of :func:`out_of_fold.embed_folds`.
        names: of the kinship encoders.

    Returns:
        The odds, fitted on all folds but the held-out one, and by number of photos the AUC and
        calibration error of odds that were fitted on other folds.
    """
    rows: dict[str, pd.DataFrame] = {}
    for fold in folds:
        others = [other for other in folds if other.fold not in (fold.fold, HELD_OUT)]
        weights = out_of_fold.Decision.fit(others, names).weights
        rows[fold.fold] = balanced(pair_table(dataset, fold, weights))
    inner = [name for name in rows if name != HELD_OUT]
    # each fold is judged by odds of the others
    scored = []
    for name, table in rows.items():
        others = pd.concat([rows[other] for other in inner if other != name])
        odds = fit_odds(others)
        own = odds.probability(table["similarity"], table["photos_a"], table["photos_b"])
        likely, unlikely = own >= odds.likely, own < odds.unlikely
        band = likely.astype(int) - unlikely.astype(int)
        scored.append(table.assign(probability=own, band=band))
    odds = fit_odds(pd.concat([rows[name] for name in inner]))
    return {"odds": odds, "out_of_fold": _by_photos(pd.concat(scored, ignore_index=True))}


def pair_table(dataset: Dataset, fold: FoldEmbeddings, weights: dict[str, float]) -> pd.DataFrame:
    """Similarities of a fold's pairs of people, by how many photos of either are averaged.

    Args:
        dataset: the data.
        fold: its families' photos, embedded.
        weights: of the encoders' cosines.

    Returns:
        A row for each pair and each of ``PHOTOS``: related, family_a, family_b, most, photos_a,
        photos_b, similarity.
    """
    ids = _photos_of(dataset, fold)["photo_id"].to_numpy()
    own = {name: np.flatnonzero(fold.people == name) for name in np.unique(fold.people)}
    rng = np.random.default_rng(0)
    # of each pair some photos of either, in an order of their own: rows in the embeddings
    lines, firsts, seconds = [], [], []
    for row, (a, b) in enumerate(zip(fold.people[fold.a], fold.people[fold.b], strict=True)):
        apart = _apart(own[a], own[b], ids)
        if apart is None:
            continue
        orders = [rng.permutation(part) for part in apart]
        for most in PHOTOS:
            first, second = (order[:most] for order in orders)
            firsts.append(first)
            seconds.append(second)
            lines.append((row, most, len(first), len(second)))
    # whom each line is about, and how alike the means of their photos are
    table = pd.DataFrame(lines, columns=["row", "most", "photos_a", "photos_b"])
    families = protocols.pair_families(fold.pairs)
    table["related"] = fold.labels[table["row"]]
    for side, names in zip("ab", families, strict=True):
        table[f"family_{side}"] = np.asarray(names)[table["row"]]
    a, b = (fold.people_joined(groups, weights) for groups in (firsts, seconds))
    table["similarity"] = models.pair_similarity(a, b, fold.cohort(weights))
    return table.assign(fold=fold.fold)


def _apart(
    first: np.ndarray, second: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Photos of two people without those that show both; None where nothing is left.

    Args:
        first: rows of the first person's photos.
        second: of the second's.
        ids: of the source photograph of each row.
    """
    both = np.intersect1d(ids[first], ids[second])
    a, b = (rows[~np.isin(ids[rows], both)] for rows in (first, second))
    return (a, b) if len(a) and len(b) else None


def balanced(table: pd.DataFrame) -> pd.DataFrame:
    """As many pairs of kin as of strangers, among people with few photos and with many.

    What was left out because both were in a photo was kin; and who has many photos has more kin.

    Args:
        table: of :func:`pair_table`, for one fold.
    """
    all_photos = table[table["most"] == PHOTOS[-1]]
    photos = relations.photos_of_both(all_photos["photos_a"], all_photos["photos_b"])
    group = np.searchsorted(GROUPS, photos, side="right")
    rows: list[int] = []
    for number in np.unique(group):
        own = all_photos[group == number]
        count = own["related"].value_counts().reindex([0, 1], fill_value=0).min()
        for label in (0, 1):
            rows += own[own["related"] == label]["row"].sample(count, random_state=0).tolist()
    return table[table["row"].isin(rows)].reset_index(drop=True)


def fit_odds(table: pd.DataFrame) -> KinOdds:
    """Maximum likelihood over pairs of all numbers of photos, kin and strangers as likely before.

    Args:
        table: of :func:`balanced`, of some folds.
    """
    from sklearn.linear_model import LogisticRegression

    # people with few photos have the same ones at every step
    table = table.drop_duplicates(["fold", "row", "photos_a", "photos_b"])
    columns = [table[name].to_numpy() for name in ("similarity", "photos_a", "photos_b")]
    labels = table["related"].to_numpy()
    model = LogisticRegression(
        C=metrics.NO_PENALTY, class_weight="balanced", fit_intercept=False, max_iter=1000
    )
    model.fit(relations.features(*columns), labels)
    a, b, c = (round(float(number), 4) for number in model.coef_[0])
    odds = KinOdds((a, b, c), 0.0, 1.0)
    unlikely, likely = out_of_fold.bands(labels, odds.probability(*columns))
    return KinOdds(odds.weights, round(unlikely, 4), round(likely, 4))


def _by_photos(table: pd.DataFrame) -> dict[str, Any]:
    """AUC, calibration error and bands by the number of photos, over all families and held out.

    Args:
        table: of :func:`pair_table`, with probability and band.
    """
    # a row for each number of photos, of all families and of the held-out ones
    results: dict[str, Any] = {}
    groups = itertools.product(PHOTOS, ("all families", "held out"))
    for most, families in groups:
        rows = table[table["most"] == most]
        if families == "held out":
            rows = rows[rows["fold"] == HELD_OUT]
        labels, probability = rows["related"].to_numpy(), rows["probability"].to_numpy()
        if len(set(labels.tolist())) < 2:
            continue
        sides = rows["family_a"].to_numpy(), rows["family_b"].to_numpy()
        name = "all photos" if most == PHOTOS[-1] else f"{most} at most"
        results.setdefault(families, {})[name] = {
            "pairs": len(rows),
            "auc": metrics.auc_interval(labels, probability, *sides).to_dict(),
            "calibration_error": round(metrics.calibration_error(labels, probability), 4),
            "bands": out_of_fold.band_shares(labels, rows["band"].to_numpy()),
        }
    return {**results, "gain": _gain(table)}


def _gain(table: pd.DataFrame) -> dict[str, float]:
    """AUC of all photos minus that of one photo each, on the same pairs, with its interval."""
    one, many = (table[table["most"] == most] for most in (PHOTOS[0], PHOTOS[-1]))
    sides = one["family_a"].to_numpy(), one["family_b"].to_numpy()
    labels = one["related"].to_numpy()
    ours, theirs = (rows["probability"].to_numpy() for rows in (many, one))
    return metrics.auc_gain(labels, ours, theirs, *sides).to_dict()
