"""Who in a folder of one's own is related to the person in a photo, and who is the same person?

A gallery holds no photo: for each person the mean of the embeddings of all photos, and the names.
It ranks people, and not photos. A rank is no finding: among many strangers some look related to
anybody. It is for a family's own pictures, of people who agreed, and never for finding strangers.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from .. import errors, images, settings
from ..errors import GalleryError, ImageError, StorageError
from ..faces import alignment, backbones, detection, embeddings
from ..faces.detection import Which
from ..files import NPZ_ERRORS, atomic_folder, check_machine, lock, read_json, write_json
from ..scoring import metrics
from ..scoring.calibration import percent
from . import nearest
from .comparison import choose_face, compare
from .kinship import Bands, Kinship
from .nearest import Index

FACTS, KIN, IDENTITY, INDEX = "gallery.json", "kin.npy", "identity.npy", "{}.faiss"
FORMAT = 2  # raise it when the files mean something else
CHUNK = 16  # photos read, embedded and kept at a time
NAMED = 5  # of the photos that were left out, in one sentence
NO_FACE = "no face was found"
RELATIVES = "Relatives"
USE = (
    "For pictures of one's own, of people who agreed. Among many strangers some look related to "
    "anybody: a rank is no finding."
)


# --- embeddings of a folder's photos ------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Encoders:
    """The two networks of a gallery.

    Attributes:
        model: the kinship model, with its calibration of identity.
    """

    model: Kinship

    @property
    def sizes(self) -> tuple[int, int]:
        """Lengths of an embedding for kinship, and of one for identity."""
        return self.model.encoder.embedding_size, self._frozen.embedding_size

    @property
    def _frozen(self) -> backbones.Backbone:
        return backbones.get(self.model.identity.backbone)

    def fingerprint(self) -> str:
        """Names both networks; embeddings of others are not compared."""
        kinship = self.model.encoder
        parts = f"{FORMAT} {self._frozen.fingerprint} {kinship.weights}"
        digest = hashlib.sha256(parts.encode())
        for member in kinship.members:
            for weight in member.model.get_weights():
                digest.update(weight.tobytes())
        return digest.hexdigest()[:16]

    def embed(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """The largest face of each photo by both networks, float32 ``(n, kin + identity)``.

        Args:
            photos: uint8 RGB ``(height, width, 3)``; the rows of those without a face are NaN.
        """
        vectors = np.full((len(photos), sum(self.sizes)), np.nan, np.float32)
        kin, frozen = self.model.encoder, self._frozen
        # the same face, aligned for either network
        rows, of_kin, of_identity = [], [], []
        for row, faces in enumerate(detection.detect_many(photos)):
            if faces:
                rows.append(row)
                of_kin.append(alignment.align_face(kin, photos[row], faces[0]).crop)
                of_identity.append(alignment.align_face(frozen, photos[row], faces[0]).crop)
        if rows:
            identity = metrics.normalise(frozen.embed(np.stack(of_identity)))
            vectors[rows] = np.hstack([kin.embed(np.stack(of_kin)), identity])
        return vectors


def embed_photos(
    encoders: Encoders, paths: Sequence[Path], progress: bool = True
) -> tuple[np.ndarray, dict[Path, str]]:
    """Both embeddings of every photo that can be used; the rest are named, and do not stop it.

    What was embedded before comes from the cache, by the content of a photo: a killed run goes on.

    Args:
        encoders: of the gallery.
        paths: photos.
        progress: show a bar.

    Returns:
        float32 ``(photos, kin + identity)``, NaN in the rows of the others; and what is wrong
        with each of these.
    """
    folder = settings.cache_dir() / "embeddings" / f"gallery-{encoders.fingerprint()}"
    known = embeddings.read_shards(folder, sum(encoders.sizes))
    vectors = np.full((len(paths), sum(encoders.sizes)), np.nan, np.float32)
    problems: dict[Path, str] = {}
    with tqdm(total=len(paths), desc="Embedding", unit="photo", disable=not progress) as bar:
        for start in range(0, len(paths), CHUNK):
            part = paths[start : start + CHUNK]
            # a photo is read once, so that what is embedded is what the key is of
            contents = [_content(path, problems) for path in part]
            keys = [hashlib.sha256(content).digest() for content in contents]
            new = _embed_new(
                encoders, list(zip(part, contents, keys, strict=True)), known, problems
            )
            if new:
                embeddings.write_shard(folder, list(new), np.stack(list(new.values())))
                known |= new
            for row, key in enumerate(keys, start):
                if key in known:
                    vectors[row] = known[key]
            bar.update(len(part))
    # a photo without a face is known as such
    for path, vector in zip(paths, vectors, strict=True):
        if path not in problems and np.isnan(vector).any():
            problems[path] = f"{path}: {NO_FACE}."
    return vectors, problems


def _content(path: Path, problems: dict[Path, str]) -> bytes:
    """The bytes of a photo; nothing of one that cannot be read, and what is wrong is noted."""
    with contextlib.suppress(OSError):
        if path.stat().st_size <= images.MAX_BYTES:
            return path.read_bytes()
    try:
        images.read(path)
    except (ImageError, StorageError) as error:
        problems[path] = str(error)
    return b""


def _embed_new(
    encoders: Encoders,
    photos: Sequence[tuple[Path, bytes, bytes]],
    known: dict[bytes, np.ndarray],
    problems: dict[Path, str],
) -> dict[bytes, np.ndarray]:
    """Embeddings of the photos that are not known yet, by the key of their content.

    Args:
        encoders: of the gallery.
        photos: path, content and key of each.
        known: embeddings by key.
        problems: what is wrong with photos that cannot be decoded is noted here.
    """
    decoded: dict[bytes, np.ndarray] = {}
    for path, content, key in photos:
        if path in problems or key in known or key in decoded:
            continue
        try:
            decoded[key] = images.read(content, str(path))
        except ImageError as error:
            problems[path] = str(error)
    vectors = encoders.embed(list(decoded.values()))
    return dict(zip(decoded, vectors, strict=True))


def people_of(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Whom each photo shows: the folder that it lies in, or the photo itself at the top.

    Args:
        folder: the gallery's photos.
        paths: photos below it.
    """
    names = []
    for path in paths:
        inner = path.relative_to(folder)
        names.append(inner.name if len(inner.parts) == 1 else inner.parent.as_posix())
    return names


# --- building -----------------------------------------------------------------------------------


def build(
    folder: str | Path,
    out: str | Path,
    model: Kinship | None = None,
    exact_up_to: int = nearest.EXACT_UP_TO,
    progress: bool = True,
) -> dict[str, Any]:
    """Make a gallery of a folder of photos: ``person/photo.jpg``, or one photo a person.

    The gallery is there when it is whole, and not before. Run again after it was killed, the
    command goes on: embeddings are kept in the cache.

    Args:
        folder: the photos, which are only read.
        out: the folder to make; it must not exist yet.
        model: embeds and compares; default: the shipped one.
        exact_up_to: people that are searched exactly; of more, an inexact index is built.
        progress: show a bar.

    Returns:
        The facts in ``gallery.json``.

    Raises:
        GalleryError: the folder is missing, no photo of it has a face, or ``out`` exists.
        ImageError: the folder is without photos.
        SurroundingsError: FAISS is not installed.
    """
    folder, out = Path(folder), Path(out)
    nearest.library()
    if not folder.is_dir():
        raise GalleryError(f"{folder} is not a folder; name the one that holds the photos.")
    _check_absent(out)
    paths = images.photos_in(folder, out)
    encoders = Encoders(model or Kinship.load())
    vectors, problems = embed_photos(encoders, paths, progress)
    if problems:
        _warn(problems)
    usable = np.isfinite(vectors).all(1)
    if not usable.any():
        raise GalleryError(f"No photo in {folder} has a face that could be found; name another.")
    # of several programs at once, one writes and the others are told that it is there
    with lock(out, work="making the gallery"):
        _check_absent(out)
        names = np.array(people_of(folder, paths))[usable]
        photos = [path.relative_to(folder).as_posix() for path in np.array(paths)[usable]]
        with atomic_folder(out, int(2 * vectors.nbytes)) as temporary:
            facts = _write(temporary, encoders, vectors[usable], names, exact_up_to)
            facts |= _people(names, photos, problems, folder)
            write_json(temporary / FACTS, facts)
    return facts


def _check_absent(out: Path) -> None:
    if out.exists():
        raise GalleryError(
            f"{out} exists already; delete it or name another folder (no photo is embedded twice)."
        )


def _warn(problems: dict[Path, str]) -> None:
    """One sentence that counts the photos that were left out, and names the first of them."""
    first = " ".join(list(problems.values())[:NAMED])
    more = f" And {len(problems) - NAMED} more." if len(problems) > NAMED else ""
    photos = "1 photo was" if len(problems) == 1 else f"{len(problems)} photos were"
    errors.warn(f"{photos} left out: {first}{more}")


def _write(
    out: Path, encoders: Encoders, vectors: np.ndarray, names: np.ndarray, exact_up_to: int
) -> dict[str, Any]:
    """Write the vectors of the people and what is made of them; the facts of the search.

    Args:
        out: an empty folder.
        encoders: of the gallery.
        vectors: of the photos, ``(photos, kin + identity)``.
        names: of whom each photo shows, ``(photos,)``.
        exact_up_to: people that are searched exactly.
    """
    size, _ = encoders.sizes
    kin, identity = (_means(part, names) for part in np.split(vectors, [size], axis=1))
    # a mean of length 1 is nearer to everybody than photos are, for which verification is
    # calibrated; kinship answers are made with it all the same, for several photos as for one
    kin = encoders.model.encoder.normalised(kin)
    facts: dict[str, Any] = {
        "format": FORMAT,
        "encoder": encoders.fingerprint(),
        "model": encoders.model.encoder.facts["name"],
        "indexes": {},
    }
    # the vectors, and beside them what an inexact index was made of them
    for name, rows in ((KIN, _shifted(encoders, kin)), (IDENTITY, identity)):
        np.save(out / name, rows)
        index = nearest.build(rows, exact_up_to)
        stem = Path(name).stem
        index.save(out / INDEX.format(stem))
        facts["indexes"][stem] = {"lists": index.lists, "recall": index.recall}
    return facts


def _means(vectors: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The mean embedding of each person's photos: ``(people, d)``, by name."""
    people, row = np.unique(names, return_inverse=True)
    sums = np.zeros((len(people), vectors.shape[1]), np.float32)
    np.add.at(sums, row, vectors)
    return sums / np.bincount(row)[:, None].astype(np.float32)


def _shifted(encoders: Encoders, kin: np.ndarray) -> np.ndarray:
    """Embeddings with one more number, so that an inner product is the similarity of kinship.

    From the cosine, half of how common either face is, is subtracted (:func:`metrics.csls`). A
    question gets a 1 in that place, and its own half is the same for everybody.
    """
    cohort = encoders.model.encoder.cohort
    crowd = np.zeros(len(kin)) if cohort is None else metrics.crowd(kin, cohort)
    return np.column_stack([kin, -crowd / 2]).astype(np.float32)


def _people(
    names: np.ndarray, photos: Sequence[str], problems: dict[Path, str], folder: Path
) -> dict[str, Any]:
    """Who is in the gallery, with their photos, and which photos are not.

    Args:
        names: of whom each photo shows.
        photos: their paths below the folder.
        problems: what is wrong with the photos that were left out.
        folder: the photos.
    """
    people: dict[str, list[str]] = {name: [] for name in np.unique(names).tolist()}
    for name, photo in zip(names.tolist(), photos, strict=True):
        people[name].append(photo)
    left_out = {path.relative_to(folder).as_posix(): problem for path, problem in problems.items()}
    return {
        "folder": str(folder),
        "photos": len(photos),
        "people": [{"person": name, "photos": files} for name, files in people.items()],
        "left_out": left_out,
    }


# --- searching ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """A person of a gallery in the answer to a question.

    Attributes:
        person: its folder, or its photo.
        photos: how many photos of it were used.
        photo: one of them, below the gallery's folder.
        probability: chance of what is asked, kinship or the same person, against a stranger or a
            relative, if both are as likely beforehand; in [0, 1].
        band: of kinship "likely", "cannot say" or "unlikely"; of the same person "same" within
            the threshold of verification, else "another".
        may_be_same: whether it may be the person in the photo, by verification.
    """

    person: str
    photos: int
    photo: str
    probability: float
    band: str
    may_be_same: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the probability rounded to four decimals."""
        return {**vars(self), "probability": round(self.probability, 4)}


@dataclass(frozen=True)
class SearchAnswer:
    """Who may be related to the person in a photo, and who may be that person.

    Attributes:
        relatives: the likeliest first; who may be the same person is marked, and left in.
        same_person: the likeliest first.
        people: how many the gallery holds.
        exact: whether all of them were compared.
        face_number: which face of the photo was looked for; 1 is the largest.
        faces_found: how many there are.
        model: name of the model that compared.
    """

    relatives: tuple[Match, ...]
    same_person: tuple[Match, ...]
    people: int
    exact: bool
    face_number: int
    faces_found: int
    model: str

    @property
    def explanation(self) -> list[str]:
        """How much a rank is worth."""
        sentences = [
            USE,
            "The probabilities hold where relatives and strangers are as likely beforehand; of "
            f"{self.people} people hardly any are relatives, so most of a list are not.",
        ]
        if any(match.may_be_same for match in self.relatives):
            sentences.append(
                "Who is marked may be the person in the photo, as may some of the relatives who "
                "look most like it."
            )
        return sentences

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and sentences; no pixels."""
        relatives = [match.to_dict() for match in self.relatives]
        return {
            "relatives": relatives,
            "same_person": [match.to_dict() for match in self.same_person],
            "people": self.people,
            "exact": self.exact,
            "face_number": self.face_number,
            "faces_found": self.faces_found,
            "explanation": self.explanation,
            "model": self.model,
        }


@dataclass(frozen=True, eq=False)
class Gallery:
    """People who can be searched. Any number of threads may.

    Attributes:
        facts: of ``gallery.json``.
        model: compares; the one that the gallery was built with.
        kin: the people's vectors for kinship.
        identity: the same for identity.
    """

    facts: dict[str, Any]
    model: Kinship
    kin: Index
    identity: Index

    @classmethod
    def load(cls, folder: str | Path, model: Kinship | None = None) -> "Gallery":
        """Open what :func:`build` wrote.

        Args:
            folder: of the gallery.
            model: that it was built with; default: the shipped one.

        Raises:
            GalleryError: it is missing, half written, of another version, or of other encoders.
            SurroundingsError: FAISS is not installed.
        """
        folder = Path(folder)
        nearest.library()
        if not (folder / FACTS).is_file():
            raise GalleryError(
                f"{folder} is not a gallery (it has no {FACTS}); make one with: kincourse gallery "
                "build"
            )
        # numbers of other encoders, or of another version, mean something else
        model = model or Kinship.load()
        again = f"build it again with: kincourse gallery build FOLDER --out {folder}"
        try:
            facts = read_json(folder / FACTS)
            if facts["format"] != FORMAT:
                raise GalleryError(f"{folder} was built by another version; {again}")
            if facts["encoder"] != Encoders(model).fingerprint():
                raise GalleryError(
                    f"{folder} was built with another encoder ({facts['model']}), whose numbers "
                    f"mean something else; {again}"
                )
            kin, identity = (_opened(folder, name, facts) for name in (KIN, IDENTITY))
        except (*NPZ_ERRORS, AttributeError) as error:
            check_machine(error, folder)
            raise GalleryError(f"{folder} is not a whole gallery ({error}); {again}") from error
        return cls(facts, model, kin, identity)

    def search(self, photo: images.Source, top: int = 10, which: Which = 1) -> SearchAnswer:
        """Rank the people of the gallery for a photo.

        Args:
            photo: path, bytes, binary file object, or RGB uint8 array.
            top: how many people of either list.
            which: of the photo's faces, by number or point (:func:`comparison.choose_face`).

        Raises:
            ImageError: the photo cannot be used.
            FaceError: there is no face in it, or not the chosen one.
        """
        # one face, seen by both networks
        chosen = choose_face(photo, "the photo", which)
        encoder, frozen = self.model.encoder, backbones.get(self.model.identity.backbone)
        face = compare(encoder, chosen, chosen).first
        kin = encoder.embed(face.crop[None])[0]  # (d,)
        identity = metrics.normalise(frozen.embed(compare(frozen, chosen, chosen).crops[:1]))[0]

        return SearchAnswer(
            relatives=tuple(self._relatives(kin, identity, top)),
            same_person=tuple(self._same_person(identity, top)),
            people=len(self.facts["people"]),
            exact=self.kin.lists is None,
            face_number=face.number,
            faces_found=len(face.faces),
            model=self.facts["model"],
        )

    def _relatives(self, kin: np.ndarray, identity: np.ndarray, count: int) -> list[Match]:
        """The people who are likeliest to be kin.

        Args:
            kin: embedding for kinship, ``(d,)``.
            identity: embedding for identity of the same face.
            count: how many people.
        """
        encoder = self.model.encoder
        own = 0.0 if encoder.cohort is None else float(metrics.crowd(kin, encoder.cohort))
        rows, products = self.kin.search(np.append(kin, 1.0), count)
        probabilities = encoder.probability(products - own / 2)  # (count,)
        cosines = self.identity.vectors[rows] @ identity
        bands = Bands.of(encoder.facts)
        matches = []
        for row, chance, cosine in zip(rows.tolist(), probabilities, cosines, strict=True):
            match = self._match(row, float(chance), bands.name(chance), self._is_same(cosine))
            matches.append(match)
        return matches

    def _same_person(self, identity: np.ndarray, count: int) -> list[Match]:
        """The people who are likeliest to be the one of an embedding ``(d,)``."""
        rows, cosines = self.identity.search(identity, count)
        matches = []
        for row, cosine in zip(rows.tolist(), cosines, strict=True):
            # of two relatives and one person, as likely beforehand
            distance = max(0.0, 1 - float(cosine))
            chance = float(self.model.identity.probability(distance, "relatives"))
            is_same = self._is_same(cosine)
            band = "same" if is_same else "another"
            matches.append(self._match(row, chance, band, is_same))
        return matches

    def _is_same(self, cosine: float) -> bool:
        """Whether verification would take two faces with this cosine for one person."""
        return bool(1 - cosine <= self.model.identity.threshold())

    def _match(self, row: int, probability: float, band: str, may_be_same: bool) -> Match:
        """The person of a row of the vectors; the rest as :class:`Match` has it."""
        entry = self.facts["people"][row]
        photos = entry["photos"]
        return Match(entry["person"], len(photos), photos[0], probability, band, may_be_same)


def _opened(folder: Path, name: str, facts: dict[str, Any]) -> Index:
    """The vectors of one kind, and the index over them.

    Raises:
        NPZ_ERRORS: a file is missing, damaged, or does not fit the others.
    """
    vectors = np.load(folder / name, mmap_mode="r")
    if vectors.ndim != 2 or len(vectors) != len(facts["people"]) or vectors.dtype != np.float32:
        raise ValueError(f"{name} does not fit {FACTS}")
    stem = Path(name).stem
    chosen = facts["indexes"][stem]
    return nearest.load(vectors, folder / INDEX.format(stem), chosen["lists"], chosen["recall"])


def lines_of(answer: SearchAnswer) -> list[str]:
    """For people: both lists, a line a person."""
    lines = []
    for title, matches in (
        (RELATIVES, answer.relatives),
        ("The same person", answer.same_person),
    ):
        lines.append(f"{title}:")
        for rank, match in enumerate(matches, start=1):
            photos = "1 photo" if match.photos == 1 else f"{match.photos} photos"
            chance = percent(match.probability)
            mark = ", may be the same person" if title == RELATIVES and match.may_be_same else ""
            lines.append(f"{rank:4d}. {match.person} ({photos}): {chance}, {match.band}{mark}")
    return [*lines, *answer.explanation]
