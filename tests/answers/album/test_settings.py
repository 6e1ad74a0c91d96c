"""What albums decide by comes with the course, for the networks that come with it."""

import json
import shutil

import pytest

from utils import settings as places
from utils.answers.album import settings
from utils.errors import CalibrationError
from utils.faces import backbones
from utils.faces.backbones.sface import SFace
from utils.scoring.metrics import Interval
from utils.training import ensemble

BANDS = ("cannot_say", "strangers_among_likely", "kin_among_unlikely")


@pytest.fixture(scope="module")
def content():
    return json.loads(places.ALBUM.read_text("utf-8"))


@pytest.fixture(scope="module")
def encoders(content):
    return content["encoders"]


@pytest.mark.parametrize("name", backbones.IDENTITY)
def test_file_of_the_course_is_for_the_model_of_the_course(name, encoders):
    decisions = settings.load(backbones.get(name), encoders)
    assert decisions.sameness.identity > 0 and decisions.sameness.kin > 0
    assert 0 < decisions.odds.unlikely < 0.5 < decisions.odds.likely < 1
    # the shipped model's own encoders, in its order
    names = [fingerprint.split("-")[0] for fingerprint in encoders]
    assert names == ["dlib", "edgeface", "mobilefacenet"]


def test_measured_figures_reach_the_goals(content):
    worth = content["identity"]["edgeface"]["held_out"]
    assert worth["f1"] >= 0.90 and worth["kin_merged"] <= 0.03
    assert worth["photos_with_a_person_twice"] == 0
    assert content["kinship"]["out_of_fold"]["gain"]["value"] >= 0.03


def test_page_has_the_figures_of_the_file(content):
    page = (places.ROOT / "docs" / "album.md").read_text("utf-8")
    worth = [content["identity"][name]["held_out"] for name in backbones.IDENTITY]

    def row(name):
        return " | ".join(f"{100 * own[name]:.1f} %" for own in worth)

    for name in ("precision", "recall", "kin_merged", "questions_answered_yes"):
        assert row(name) in page, name
    assert row("kin_with_a_face_in_common") in page
    assert " | ".join(f"{own['f1']:.3f}" for own in worth) in page
    # kinship by the number of photos
    measured = content["kinship"]["out_of_fold"]
    rows = {"one": "1 at most", "two at most": "2 at most", "five at most": "5 at most"}
    for title, name in {**rows, "all": "all photos"}.items():
        own = measured["all families"][name]
        shares = [own["bands"][key] for key in BANDS]
        cells = [title, str(Interval(**own["auc"])), f"{own['calibration_error']:.3f}"]
        cells += [f"{100 * share:.1f} %" for share in shares]
        assert f"| {' | '.join(cells)} |" in page
    assert f"gain {Interval(**measured['gain'])}" in page


def test_figures_are_printed(content):
    text = settings.report(content)
    assert text.startswith("grouping by edgeface, held-out families: precision 0.")
    assert "kinship, all families, all photos: AUC 0." in text
    assert "gain of all photos over one  0.0" in text


def test_best_encoder_whose_weights_are_here_is_taken(monkeypatch):
    assert settings.identity_encoder().name == "dlib-resnet"
    monkeypatch.setattr(SFace, "weights_path", lambda self: "here")
    assert settings.identity_encoder().name == "sface"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda content: content.pop("encoders"),
            "is damaged; make it anew with: kincourse albums",
        ),
        (lambda content: content["kinship"]["odds"]["weights"].append(1), "is damaged"),
        (lambda content: content["identity"]["dlib-resnet"]["sameness"].pop("kin"), "is damaged"),
        (lambda content: content["encoders"].reverse(), "was made for other networks"),
    ],
)
def test_file_that_does_not_fit_is_told(tmp_path, content, encoders, change, sentence):
    changed = json.loads(json.dumps(content))
    change(changed)
    path = tmp_path / "album.json"
    path.write_text(json.dumps(changed), "utf-8")
    with pytest.raises(CalibrationError, match=sentence):
        settings.load(backbones.get(), encoders, path)


def test_file_that_is_missing_or_no_json_is_told(tmp_path, encoders):
    with pytest.raises(CalibrationError, match="There is no .*; make it with: kincourse albums"):
        settings.load(backbones.get(), encoders, tmp_path / "gone.json")
    path = tmp_path / "album.json"
    path.write_text("{", "utf-8")
    with pytest.raises(CalibrationError, match="is damaged"):
        settings.load(backbones.get(), encoders, path)


def test_file_of_the_course_fits_the_shipped_model(tmp_path, encoders):
    copy = shutil.copy(places.KINSHIP, tmp_path / "kinship.npz")
    assert ensemble.load(copy).facts["fingerprints"] == encoders
