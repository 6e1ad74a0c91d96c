"""The statistical model of faces: fitted, saved, loaded and rendered without loss that matters."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils import files, images, settings
from utils.data import eigenfaces
from utils.errors import DatasetError
from utils.faces import alignment

COUNT = 4


@pytest.fixture(scope="module")
def committed():
    return eigenfaces.load()


@pytest.fixture(scope="module")
def faces(committed):
    """Faces that differ in four ways only."""
    coefficients = np.zeros((40, len(committed.components)))
    coefficients[:, :COUNT] = np.random.default_rng(0).normal(0, 0.7, (40, COUNT))
    return committed.render(coefficients)


@pytest.fixture(scope="module")
def fitted(faces, committed):
    return eigenfaces.fit(faces, committed.landmarks, COUNT)


@pytest.fixture
def saved(fitted, tmp_path):
    """A file of the fitted model."""
    eigenfaces.save(fitted[0], tmp_path / "faces.npz")
    return tmp_path / "faces.npz"


def weighted(components):
    """Components in the units in which the fit measures them: a chroma pixel stands for four."""
    return np.where(np.arange(components.shape[1]) < 128**2, 1, 2) * components


# --- fitting and rendering ----------------------------------------------------------------------


def test_four_components_hold_faces_that_differ_in_four_ways(fitted):
    model, share = fitted
    assert 0.98 < share < 1
    assert (
        model.components.shape == (COUNT, len(model.mean)) and model.components.dtype == np.float32
    )


def test_components_come_largest_first_and_more_of_them_hold_more(fitted, faces, committed):
    assert (np.diff(np.linalg.norm(weighted(fitted[0].components), axis=1)) < 0).all()
    _, share = eigenfaces.fit(faces, committed.landmarks, 1)
    assert share < fitted[1]


def test_faces_have_standard_coefficients_and_are_rendered_back(fitted, faces):
    model, _ = fitted
    planes = np.stack([eigenfaces._from_rgb(face) for face in faces]) - model.mean
    coefficients = np.linalg.lstsq(model.components.T, planes.T, rcond=None)[0].T
    assert_allclose(coefficients.mean(0), 0, atol=0.02)
    assert_allclose(coefficients.std(0), 1, atol=0.05)
    assert np.abs(model.render(coefficients).astype(int) - faces).mean() < 1.5


def test_fit_is_the_same_every_time(fitted, faces, committed):
    again, share = eigenfaces.fit(iter(faces), committed.landmarks, COUNT)
    assert_array_equal(again.components, fitted[0].components)
    assert share == fitted[1]


def test_rendered_faces_are_rgb_pictures(committed):
    coefficients = np.random.default_rng(0).normal(0, 30, (3, len(committed.components)))
    rendered = committed.render(coefficients)
    assert rendered.shape == (3, 128, 128, 3) and rendered.dtype == np.uint8


def test_no_coefficients_give_the_mean_face(fitted, faces):
    rendered = fitted[0].render(np.zeros((1, COUNT)))[0]
    assert np.abs(rendered - faces.mean(0)).mean() < 3


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (180, 120, 90), (30, 60, 200)])
def test_planes_keep_a_colour(colour):
    face = np.full((128, 128, 3), colour, np.uint8)
    assert_allclose(eigenfaces._to_rgb(eigenfaces._from_rgb(face)), face, atol=3)


# --- files --------------------------------------------------------------------------------------


def test_saved_model_comes_back_within_half_a_step(fitted, saved):
    model, loaded = fitted[0], eigenfaces.load(saved)
    inside = np.abs(model.components) < 127 * 0.3
    assert_allclose(loaded.components[inside], model.components[inside], atol=0.151)
    assert_allclose(loaded.mean, model.mean, atol=0.07)
    assert_array_equal(loaded.landmarks, model.landmarks)
    assert (
        np.abs(loaded.render(np.eye(COUNT)).astype(int) - model.render(np.eye(COUNT))).mean() < 0.5
    )


def test_saving_what_was_loaded_changes_nothing(saved, tmp_path):
    eigenfaces.save(eigenfaces.load(saved), tmp_path / "again.npz")
    one, other = eigenfaces.load(saved), eigenfaces.load(tmp_path / "again.npz")
    assert_array_equal(one.components, other.components)
    assert_array_equal(one.mean, other.mean)


def test_committed_model_is_small_whole_and_not_clipped(committed):
    assert settings.EIGENFACES.stat().st_size <= 3 * 2**20
    assert committed.components.shape == (200, 128**2 + 2 * 64**2)
    lengths = np.linalg.norm(weighted(committed.components), axis=1)
    assert (np.diff(lengths) < 0.02 * lengths[:-1]).all()
    assert np.abs(committed.components).max() < 127 * 0.3
    assert committed.mean.min() >= 0 and committed.mean.max() <= 255


def test_committed_landmarks_are_symmetric_and_inside_the_square(committed):
    left_eye, right_eye, nose, left_mouth, right_mouth = committed.landmarks
    assert_allclose(
        [left_eye + right_eye, left_mouth + right_mouth],
        [(128, 2 * left_eye[1]), (128, 2 * left_mouth[1])],
        atol=1e-6,
    )
    assert nose[0] == 64 and left_eye[1] < nose[1] < left_mouth[1]


def refused(path):
    advice = re.escape(f"The eigenfaces {path} are missing or damaged; restore the file from")
    return pytest.raises(DatasetError, match=f"{advice} the repository, or build it with: kinc")


def test_missing_file_or_folder_is_refused(tmp_path):
    for path in (tmp_path / "no.npz", tmp_path):
        with refused(path):
            eigenfaces.load(path)


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.99])
def test_truncated_file_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with refused(saved):
        eigenfaces.load(saved)


def test_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.npz"
    path.write_text("no faces")
    with refused(path):
        eigenfaces.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with refused(path):
        eigenfaces.load(path)
    np.savez(path, mean=np.zeros(3))
    with refused(path):
        eigenfaces.load(path)


def test_damaged_file_is_refused_or_harmless_wherever_the_damage_is(saved, fitted):
    content, rng = saved.read_bytes(), np.random.default_rng(0)
    whole, refusals = eigenfaces.load(saved), 0
    ends = [*range(0, 300, 7), *range(len(content) - 300, len(content), 7)]
    for place in [*ends, *rng.integers(len(content), size=40)]:
        saved.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            assert_array_equal(eigenfaces.load(saved).components, whole.components)
        except DatasetError:
            refusals += 1
    assert refusals > 60


# --- from photos --------------------------------------------------------------------------------


def test_eigenfaces_are_built_from_photos_and_account_for_every_photo(families, monkeypatch):
    part = families.of_families(families.families[:2])
    monkeypatch.setattr(eigenfaces, "CHUNK", 10)  # more than one
    model, facts = eigenfaces.build(part, count=5, progress=False)
    assert list(facts) == [
        *("photos", "without_face", "too_turned", "used", "components", "variance_share")
    ]
    assert facts["photos"] == len(part.photos) > 10
    assert facts["photos"] == facts["used"] + facts["without_face"] + facts["too_turned"]
    assert facts["used"] > 0.9 * facts["photos"]
    assert facts["components"] == len(model.components) == 5
    assert 0.2 < facts["variance_share"] < 1
    assert_allclose(model.landmarks, alignment.CROP_LANDMARKS * eigenfaces.SIZE)


def test_photos_without_a_face_and_those_whose_landmarks_do_not_fit_are_left_out(
    tmp_path, hand_made, committed, monkeypatch
):
    face = committed.render(np.zeros((1, len(committed.components))))[0]
    wide = images.resize(face, 224)
    squeezed = np.pad(wide[:, ::2], ((0, 0), (56, 56), (0, 0)), mode="edge")
    wall = np.full((224, 224, 3), 120, np.uint8)
    for number, photo in enumerate([face, wall, squeezed], start=1):
        path = tmp_path / f"train/F0001/MID1/P{number}_face{number}.jpg"
        files.write_bytes(path, images.to_jpeg(photo))
    dataset = hand_made({"F0001/MID1": ["P1", "P2", "P3"]}, root=tmp_path)
    monkeypatch.setattr(eigenfaces, "MAX_MISFIT", 6.0)  # 2 pixels of the face, 12 of the squeezed
    _, facts = eigenfaces.build(dataset, count=1, progress=False)
    assert (facts["used"], facts["without_face"], facts["too_turned"]) == (1, 1, 1)
