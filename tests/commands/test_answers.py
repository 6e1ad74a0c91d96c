"""Verbs that answer about two photos."""

import pytest

from utils import settings
from utils.answers import verification
from utils.answers.kinship import Kinship


def without_seconds(facts):
    return {name: value for name, value in facts.items() if name != "seconds"}


def test_verify_gives_the_verdict_and_explains_it(run, pictures):
    a, b = pictures / "anna.jpg", pictures / "again.jpg"
    answer = verification.verify(a, b)
    assert run("verify", a, b).splitlines() == [answer.verdict, *answer.explanation]
    assert answer.verdict.startswith("The same person: the distance is 0.")


@pytest.mark.parametrize(("other", "same"), [("again", True), ("bob", False)])
def test_verify_prints_numbers(run, pictures, other, same):
    a, b = pictures / "anna.jpg", pictures / f"{other}.jpg"
    facts = run("verify", a, b, "--json")
    assert (facts["same_person"], facts["threshold"]) == (same, 0.0857)
    expected = verification.verify(a, b).to_dict()
    assert without_seconds(facts) == without_seconds(expected)


def test_one_of_several_faces_is_compared_when_its_number_is_given(run, pictures):
    anna, wall = pictures / "anna.jpg", pictures / "wall.jpg"
    facts = run("verify", anna, wall, "--faces", 1, 3, "--json")
    assert facts["face_numbers"] == [1, 3] and facts["faces_found"] == [1, 6]
    assert facts["distance"] != run("verify", anna, wall, "--json")["distance"]


@pytest.mark.parametrize(
    ("threshold", "distance"), [("strict", 0.0569), ("article", 0.5), ("0.09", 0.09)]
)
def test_verify_decides_at_the_threshold_asked_for(run, pictures, threshold, distance):
    a, b = pictures / "anna.jpg", pictures / "bob.jpg"
    facts = run("verify", a, b, "--threshold", threshold, "--json")
    assert (facts["policy"], facts["threshold"]) == (threshold, distance)
    assert facts["same_person"] == (facts["distance"] <= distance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["anna.jpg", "half.jpg"], "half.jpg is truncated or damaged; copy or download it again."),
        (["gone.jpg", "half.jpg"], "gone.jpg does not exist; check the path."),
        (["nobody.jpg", "anna.jpg"], "No face was found in"),
        (["anna.jpg", "bob.jpg", "--backbone", "facenet512"], "facenet512 has no calibration"),
        (["anna.jpg", "wall.jpg", "--faces", "1", "7"], "There is no face number 7 in"),
    ],
    ids=["broken", "missing", "no face", "backbone", "number"],
)
def test_verify_that_cannot_be_done_is_one_sentence(
    refused, pictures, monkeypatch, arguments, message
):
    monkeypatch.chdir(pictures)
    assert message in refused("verify", *arguments)


def test_kin_prints_numbers_and_draws_the_regions(run, pictures, shipped, tmp_path):
    a, b, figure = pictures / "anna.jpg", pictures / "child.jpg", tmp_path / "new" / "why.png"
    facts = run("kin", a, b, "--model", shipped, "--figure", figure, "--json")
    assert facts["related"] is True and facts["model"] == "hand-made"
    assert facts["seconds"]["total"] > 0 and len(facts["regions"]) == 6
    assert figure.read_bytes().startswith(b"\x89PNG")
    # the answer of the module, which says nothing of regions if it is not asked to
    expected = Kinship.load(shipped).predict(a, b, explain=False).to_dict()
    expected["explanation"].append(facts["explanation"][-1])
    expected["regions"] = facts["regions"]
    assert without_seconds(facts) == without_seconds(expected)


def test_kin_gives_the_verdict_of_the_model_of_the_course(run, pictures, shipped, monkeypatch):
    monkeypatch.setattr(settings, "KINSHIP", shipped)
    a, b = pictures / "anna.jpg", pictures / "bob.jpg"
    verdict, *explanation, regions = run("kin", a, b).splitlines()
    answer = Kinship.load(shipped).predict(a, b, explain=False)
    assert [verdict, *explanation] == [answer.verdict, *answer.explanation]
    assert regions.endswith("(Log-odds that a region carries.)")


def test_kin_warns_of_one_person_before_it_speaks_of_kinship(run, pictures, shipped):
    anna = pictures / "anna.jpg"
    warning, verdict, caution, *_ = run("kin", anna, anna, "--model", shipped).splitlines()
    assert warning == "These may be two photos of one person."
    assert verdict.startswith("Likely related: the probability of kinship is")
    assert caution.startswith("Take care: if both photos show one person, the question of")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["anna.jpg", "half.jpg"], "half.jpg is truncated or damaged"),
        (["nobody.jpg", "anna.jpg"], "No face was found in"),
        (
            ["anna.jpg", "bob.jpg", "--model", "gone.npz"],
            "There is no kinship model gone.npz; make one with: kincourse ship",
        ),
        (["anna.jpg", "bob.jpg", "--model", "bob.jpg"], "whole kinship model; restore it from"),
    ],
    ids=["broken", "no face", "missing model", "wrong model"],
)
def test_kin_that_cannot_be_said_is_one_sentence(
    refused, pictures, shipped, monkeypatch, arguments, message
):
    monkeypatch.setattr(settings, "KINSHIP", shipped)
    monkeypatch.chdir(pictures)
    assert message in refused("kin", *arguments)


# --- two parents and a child --------------------------------------------------------------------


def test_kin_of_parents_is_the_answer_of_the_module(run, pictures, shipped, monkeypatch):
    from utils.answers import parents

    monkeypatch.setattr(settings, "KINSHIP", shipped)
    three = [pictures / f"{name}.jpg" for name in ("anna", "bob", "child")]
    expected = parents.predict(*three, Kinship.load(shipped))
    assert run("kin", "--parents", *three, "--json") == expected.to_dict()
    printed = run("kin", *three, "--parents", "--model", shipped)
    assert printed.splitlines() == [expected.verdict, *expected.explanation]


def test_kin_of_parents_takes_more_photos_and_other_faces(run, pictures, shipped):
    names = ("anna", "wall", "child")
    three = [pictures / f"{name}.jpg" for name in names]
    options = ["--model", shipped, "--faces", 1, 3, "--json"]
    facts = run("kin", "--parents", *three, *options)
    assert facts["face_numbers"] == [1, 3, 1] and facts["faces_found"] == [1, 6, 1]
    again = ["--also-a", pictures / "again.jpg", "--also-child", pictures / "child.jpg"]
    more = run("kin", "--parents", *three, *options, *again)
    assert more["sides"][0] != facts["sides"][0] and more["sides"][1] == facts["sides"][1]
    turned = run(
        "kin", "--parents", *three[::2], three[1], *options[:2], "--face-child", 2, "--json"
    )
    assert turned["face_numbers"] == [1, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--parents", "a.jpg", "b.jpg"],
            "--parents takes three photos: two parents and a child.",
        ),
        (["a.jpg", "b.jpg", "c.jpg"], "A third person is a child of the first two: add --parents"),
        (["a.jpg", "b.jpg", "--also-child", "c.jpg"], "add --parents"),
        (["--parents", "a.jpg", "b.jpg", "c.jpg", "--figure", "x.png"], "--figure explains two"),
    ],
    ids=["two", "three", "more of a child", "figure"],
)
def test_options_of_two_and_of_three_people_are_not_mixed(
    refused, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert message in refused("kin", *arguments)
