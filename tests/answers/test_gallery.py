"""A gallery ranks people: relatives, and by themselves the same person."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from numpy.testing import assert_allclose

from utils import images
from utils.answers import gallery
from utils.answers.gallery import Gallery
from utils.answers.kinship import Kinship
from utils.data import scenes
from utils.errors import CourseWarning, FaceError, GalleryError, ImageError

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def model(shipped):
    return Kinship.load(shipped)


@pytest.fixture(scope="module")
def shown():
    """Two photos of Anna, her child, a stranger."""
    anna, again = scenes.two_photos("same", 3)
    child = scenes.two_photos("relatives", 3)[1]
    return {
        "anna": anna,
        "again": again,
        "child": child,
        "bob": scenes.two_photos("strangers", 3)[1],
    }


@pytest.fixture(scope="module")
def folder(shown, tmp_path_factory):
    """A folder of people, of whom Bob has one photo at the top; beside them what has no face."""
    root = tmp_path_factory.mktemp("photos")
    for place, name in {"anna/1": "anna", "a/child/x": "child", "bob": "bob"}.items():
        path = root / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.to_jpeg(shown[name]))
    shutil.copy(root / "anna/1.jpg", root / "anna/copy.jpg")
    (root / "anna/2.jpg").write_bytes(images.to_jpeg(shown["again"]))
    (root / "wall.jpg").write_bytes(images.to_jpeg(np.full((90, 120, 3), 127, np.uint8)))
    (root / "half.jpg").write_bytes((root / "bob.jpg").read_bytes()[:3000])
    return root


@pytest.fixture(scope="module")
def built(folder, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("galleries") / "family"
    with pytest.warns(CourseWarning, match="2 photos were left out: "):
        facts = gallery.build(folder, out, model, progress=False)
    return out, facts


# --- building -----------------------------------------------------------------------------------


def test_people_are_folders_and_photos_at_the_top(built):
    _, facts = built
    assert facts["people"] == [
        {"person": "a/child", "photos": ["a/child/x.jpg"]},
        {"person": "anna", "photos": ["anna/1.jpg", "anna/2.jpg", "anna/copy.jpg"]},
        {"person": "bob.jpg", "photos": ["bob.jpg"]},
    ]
    assert facts["photos"] == 5


def test_photos_that_cannot_be_used_are_named_with_the_reason(built):
    left_out = built[1]["left_out"]
    assert list(left_out) == ["half.jpg", "wall.jpg"]
    assert "truncated or damaged" in left_out["half.jpg"]
    assert "no face was found" in left_out["wall.jpg"]


def test_gallery_holds_numbers_and_names_but_no_photo(built):
    out, facts = built
    assert sorted(path.name for path in out.iterdir()) == [
        "gallery.json",
        "identity.npy",
        "kin.npy",
    ]
    assert json.loads((out / "gallery.json").read_text()) == facts
    assert np.load(out / "kin.npy").shape == (3, 129)
    assert np.load(out / "identity.npy").shape == (3, 128)


def test_second_run_embeds_nothing_again(folder, model, tmp_path, monkeypatch, built):
    asked = []
    embed = gallery.Encoders.embed
    monkeypatch.setattr(
        gallery.Encoders,
        "embed",
        lambda self, photos: asked.append(len(photos)) or embed(self, photos),
    )
    with pytest.warns(CourseWarning):
        facts = gallery.build(folder, tmp_path / "again", model, progress=False)
    assert facts == built[1] and sum(asked) == 0


def test_killed_run_leaves_no_gallery_and_the_next_one_goes_on(
    folder, model, tmp_path, monkeypatch
):
    monkeypatch.setenv("KIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gallery, "CHUNK", 2)
    embed, asked = gallery.Encoders.embed, []

    def killed_at_the_third(self, photos):
        asked.append(len(photos))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return embed(self, photos)

    monkeypatch.setattr(gallery.Encoders, "embed", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        gallery.build(folder, tmp_path / "out", model, progress=False)
    assert not (tmp_path / "out").exists()
    before = sum(asked[:2])
    asked[:] = [0] * 10
    with pytest.warns(CourseWarning):
        facts = gallery.build(folder, tmp_path / "out", model, progress=False)
    assert before + sum(asked) == 5  # four photos of people, one of nobody; a copy is one of them
    assert len(facts["people"]) == 3


def test_killed_while_writing_leaves_no_gallery(folder, model, tmp_path, monkeypatch, built):
    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(gallery, "_people", killed)
    with pytest.warns(CourseWarning), pytest.raises(KeyboardInterrupt):
        gallery.build(folder, tmp_path / "out", model, progress=False)
    assert not (tmp_path / "out").exists()


def test_folders_that_make_no_gallery_are_named(tmp_path, model, folder, built):
    with pytest.raises(GalleryError, match=r"gone is not a folder"):
        gallery.build(tmp_path / "gone", tmp_path / "out", model)
    with pytest.raises(ImageError, match="is a folder without photos"):
        gallery.build(tmp_path, tmp_path / "out", model)
    with pytest.raises(GalleryError, match="exists already; delete it"):
        gallery.build(folder, built[0], model)
    shutil.copy(folder / "wall.jpg", tmp_path)
    with (
        pytest.warns(CourseWarning, match="1 photo was left out: .*no face was found"),
        pytest.raises(GalleryError, match="has a face that could be found"),
    ):
        gallery.build(tmp_path, tmp_path / "out", model, progress=False)


def test_photo_that_vanishes_or_cannot_be_opened_does_not_stop_the_others(
    folder, model, tmp_path, monkeypatch, built
):
    root = shutil.copytree(folder, tmp_path / "photos")
    in_folder = images.photos_in

    def one_vanishes(*arguments):
        paths = in_folder(*arguments)
        (root / "bob.jpg").unlink()
        return paths

    monkeypatch.setattr(images, "photos_in", one_vanishes)
    with pytest.warns(CourseWarning, match="3 photos were left out: "):
        facts = gallery.build(root, tmp_path / "out", model, progress=False)
    assert "does not exist" in facts["left_out"]["bob.jpg"]
    assert [person["person"] for person in facts["people"]] == ["a/child", "anna"]


def test_huge_file_is_named_and_not_read(folder, model, tmp_path, monkeypatch, built):
    root = shutil.copytree(folder, tmp_path / "photos")
    monkeypatch.setattr(images, "MAX_BYTES", (root / "bob.jpg").stat().st_size - 1)
    _, problems = gallery.embed_photos(gallery.Encoders(model), [root / "bob.jpg"], False)
    assert list(problems) == [root / "bob.jpg"] and "has more than" in problems[root / "bob.jpg"]


def test_many_problems_are_counted_and_the_first_named(tmp_path):
    problems = {tmp_path / f"{number}.jpg": f"{number} is broken." for number in range(7)}
    with pytest.warns(CourseWarning) as warned:
        gallery._warn(problems)
    assert str(warned[0].message) == (
        "7 photos were left out: 0 is broken. 1 is broken. 2 is broken. 3 is broken. 4 is broken. "
        "And 2 more."
    )


# --- searching ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(built, model):
    return Gallery.load(built[0], model)


def test_probabilities_are_those_of_pairs_of_photos(opened, model, shown, folder):
    answer = opened.search(shown["child"], top=3)
    assert (answer.people, answer.exact, answer.faces_found) == (3, True, 1)
    # of people with one photo, what the model says of the two photos
    bob = next(match for match in answer.relatives if match.person == "bob.jpg")
    expected = model.predict(shown["child"], folder / "bob.jpg", explain=False)
    assert bob.probability == pytest.approx(expected.probability, abs=1e-3)
    assert bob.band == expected.band
    same = next(match for match in answer.same_person if match.person == "bob.jpg")
    assert same.probability == pytest.approx(expected.same_person.probability, abs=1e-3)
    assert same.may_be_same == expected.same_person.warning


def test_people_are_ranked_once_each_and_lists_fall(opened, shown):
    answer = opened.search(shown["anna"], top=10)
    for matches in (answer.relatives, answer.same_person):
        assert sorted(match.person for match in matches) == ["a/child", "anna", "bob.jpg"]
        chances = [match.probability for match in matches]
        assert chances == sorted(chances, reverse=True)
    first = answer.same_person[0]
    assert (first.person, first.photos, first.band) == ("anna", 3, "same")
    assert first.photo == "anna/1.jpg"
    [marked] = [match for match in answer.relatives if match.person == "anna"]
    assert marked.may_be_same and "Who is marked" in answer.explanation[-1]


def test_fewer_are_given_when_fewer_are_asked_for(opened, shown):
    answer = opened.search(shown["anna"], top=1)
    assert len(answer.relatives) == len(answer.same_person) == 1


def test_shift_makes_the_inner_product_the_similarity_of_kinship(model):
    rng = np.random.default_rng(0)
    cohort = rng.normal(size=(20, 128)).astype(np.float32)
    with_cohort = dataclasses.replace(
        model, encoder=dataclasses.replace(model.encoder, cohort=cohort)
    )
    people = rng.normal(size=(4, 128)).astype(np.float32)
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    shifted = gallery._shifted(gallery.Encoders(with_cohort), people)
    question = people[0]
    own = gallery.metrics.crowd(question, cohort)
    products = shifted @ np.append(question, 1.0) - own / 2
    expected = with_cohort.encoder.similarity(np.broadcast_to(question, people.shape), people)
    assert_allclose(products, expected, atol=1e-5)


def test_embeddings_of_encoders_that_weigh_otherwise_are_not_compared(model):
    other = dataclasses.replace(model, encoder=dataclasses.replace(model.encoder, weights=(0.5,)))
    fingerprints = [gallery.Encoders(each).fingerprint() for each in (model, model, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_answer_is_plain_and_says_what_a_rank_is_worth(opened, shown):
    answer = opened.search(shown["child"], top=2)
    exported = answer.to_dict()
    assert json.loads(json.dumps(exported)) == exported
    assert exported["explanation"][0] == gallery.USE and "3 people" in exported["explanation"][1]
    lines = gallery.lines_of(answer)
    assert lines[0] == "Relatives:" and lines[3] == "The same person:"
    assert lines[1].startswith(f"   1. {answer.relatives[0].person} (")


def test_question_without_a_face_is_named(opened, tmp_path):
    with pytest.raises(FaceError):
        opened.search(np.full((90, 120, 3), 127, np.uint8))
    with pytest.raises(ImageError, match="does not exist"):
        opened.search(tmp_path / "gone.jpg")


def test_inexact_gallery_answers_too(folder, model, tmp_path, monkeypatch, built, shown):
    with pytest.warns(CourseWarning):
        facts = gallery.build(folder, tmp_path / "out", model, exact_up_to=1, progress=False)
    assert facts["indexes"]["kin"]["lists"] == 1
    assert {"kin.faiss", "identity.faiss"} <= {path.name for path in (tmp_path / "out").iterdir()}
    answer = Gallery.load(tmp_path / "out", model).search(shown["anna"], top=3)
    assert not answer.exact and answer.same_person[0].person == "anna"


# --- what is no gallery -------------------------------------------------------------------------


def copy_of(built, tmp_path):
    return shutil.copytree(built[0], tmp_path / "copy")


def test_folder_that_is_no_gallery_is_named(tmp_path, model):
    with pytest.raises(GalleryError, match="is not a gallery .*kincourse gallery build"):
        Gallery.load(tmp_path, model)


@pytest.mark.parametrize("name", ["kin.npy", "identity.npy", "gallery.json"])
@pytest.mark.parametrize("damage", ["half", "empty"])
def test_half_written_gallery_is_named(built, tmp_path, model, name, damage):
    out = copy_of(built, tmp_path)
    content = (out / name).read_bytes()
    (out / name).write_bytes(content[: len(content) // 2] if damage == "half" else b"")
    with pytest.raises(GalleryError, match="is not a whole gallery .*build it again with"):
        Gallery.load(out, model)


def test_gallery_without_a_file_is_named(built, tmp_path, model):
    out = copy_of(built, tmp_path)
    (out / "kin.npy").unlink()
    with pytest.raises(GalleryError, match="is not a whole gallery"):
        Gallery.load(out, model)


@pytest.mark.parametrize("change", [{"people": []}, {"indexes": {}}, {"indexes": None}])
def test_facts_that_do_not_fit_are_named(built, tmp_path, model, change):
    out = copy_of(built, tmp_path)
    facts = {**built[1], **change}
    (out / "gallery.json").write_text(json.dumps(facts))
    with pytest.raises(GalleryError, match="is not a whole gallery"):
        Gallery.load(out, model)


def test_gallery_of_another_encoder_or_version_is_named(built, tmp_path, model):
    out = copy_of(built, tmp_path)
    (out / "gallery.json").write_text(json.dumps({**built[1], "encoder": "0123"}))
    with pytest.raises(GalleryError, match=r"built with another encoder \(hand-made\)"):
        Gallery.load(out, model)
    (out / "gallery.json").write_text(json.dumps({**built[1], "format": 0}))
    with pytest.raises(GalleryError, match="built by another version"):
        Gallery.load(out, model)


def test_web_apps_do_not_offer_search():
    from pathlib import Path

    import apps

    for path in Path(apps.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "gallery" not in text and "answers.nearest" not in text, path
