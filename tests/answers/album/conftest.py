"""Albums without networks: a face is a square of one colour, and a person is a colour.

Real detection and real encoders are in ``test_real.py`` alone: they take seconds.
"""

import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.answers.album import album as albums
from utils.answers.album.people import Sameness
from utils.answers.album.relations import KinOdds
from utils.answers.album.scan import Networks
from utils.answers.album.settings import Decisions
from utils.faces import detection
from utils.faces.detection import Face
from utils.scoring.metrics import normalise
from utils.training.models import KinScores

CELL, SIDE = 60, 40  # of the grid on which squares lie, and of a square
COLOURS = {
    "red": (250, 0, 0),
    "green": (0, 250, 0),
    "blue": (0, 0, 250),
    "yellow": (250, 250, 0),  # likely kin of red and green
    "cyan": (0, 250, 250),
    "magenta": (250, 0, 250),
}
POINTS = np.array([(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.35, 0.7), (0.65, 0.7)])
SAMENESS = Sameness(identity=40.0, kin=10.0, shift=-45.0, threshold=0.0)  # cosine 0.9
ODDS = KinOdds((-3.0, 6.0, 0.0), unlikely=0.3, likely=0.7)
MEASURED = {
    "grouping": {"albums": 25, "precision": 0.91, "recall": 0.93, "kin_merged": 0.01},
    "kinship": {
        "all families": {
            "all photos": {
                "bands": {
                    "strangers_among_likely": 0.09,
                    "kin_among_unlikely": 0.08,
                    "cannot_say": 0.4,
                }
            }
        }
    },
}


def painted(path, *colours, seed=0):
    """A photo of people in some colours; each seed gives another photo of them."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((CELL + 20, CELL * max(1, len(colours)) + 20, 3), np.uint8)
    pixels[-1] = rng.integers(0, 2, pixels[-1].shape)  # nearly black: seen by the digest alone
    for number, colour in enumerate(colours):
        left = 10 + CELL * number
        shade = rng.uniform(0.9, 1.0)
        pixels[10 : 10 + SIDE, left : left + SIDE] = np.array(COLOURS[colour]) * shade
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def squares(photos, *settings):
    """What stands for MTCNN: the squares of each photo, from the left."""
    found = []
    for photo in photos:
        faces = []
        for left in range(10, photo.shape[1] - SIDE, CELL):
            if photo[10 + SIDE // 2, left + SIDE // 2].max() > 100:
                corner = np.array((left, 10.0))
                faces.append(Face((left, 10, SIDE, SIDE), 0.99, corner + SIDE * POINTS))
        found.append(faces)
    return found


class Colours(KinScores):
    """An encoder whose embedding is the colour in the middle of a face."""

    name, fingerprint, input_size, cohort = "colours", "colours-1", 32, None
    facts = {
        "fingerprints": ["colours-1"],
        "version": "1",
        "weights": [1.0],
        "logistic": [0, 1],
        "name": "colours",
    }

    def __init__(self):
        self.embedded = 0

    def embed(self, faces, *settings):
        self.embedded += len(faces)
        middle = faces[:, 12:20, 12:20].astype(np.float32).mean((1, 2))
        return normalise(middle + 1e-3).astype(np.float32)


@pytest.fixture
def paint():
    """What paints a photo of people in some colours."""
    return painted


@pytest.fixture
def networks(monkeypatch):
    """The stand-ins, in place of the real networks, as long as a test runs."""
    monkeypatch.setattr(detection, "detect_many", squares)
    both = Networks(Colours(), Colours())
    decisions = Decisions(SAMENESS, ODDS, MEASURED)
    monkeypatch.setattr(albums, "_networks", lambda: (both, decisions))
    return both


@pytest.fixture
def folder(tmp_path):
    """Five photos of four people: red three times, green and blue twice, yellow once."""
    root = tmp_path / "photos"
    painted(root / "a.png", "red", "green", seed=1)
    painted(root / "b.png", "red", "blue", seed=2)
    painted(root / "inner/c.png", "green", seed=3)
    painted(root / "inner/d.png", "blue", "red", seed=4)
    painted(root / "e.png", "yellow", seed=5)
    return root


@pytest.fixture
def made(folder, networks):
    """The album of these photos, with where it is and how to make it again."""
    out = folder.parent / "album"
    album = albums.Album.of(folder, out, progress=False)
    again = lambda: albums.Album.of(folder, out, progress=False)  # noqa: E731
    return types.SimpleNamespace(album=album, out=out, folder=folder, again=again)
