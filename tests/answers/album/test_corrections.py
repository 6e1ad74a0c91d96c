"""What the user says of faces is kept, in a file that may be edited, and the newer word holds."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.answers.album import corrections
from utils.answers.album.corrections import Corrections
from utils.errors import AlbumError

A, B, C, D = (f"{letter * 12}-1" for letter in "abcd")
B2 = f"{'b' * 12}-2"  # another face of B's photo


def written(path, *lines):
    path.write_text("\n".join([",".join(corrections.COLUMNS), *lines]) + "\n", "utf-8")
    return path


def refusal(path):
    with pytest.raises(AlbumError) as caught:
        corrections.load(path)
    return str(caught.value)


# --- statements ---------------------------------------------------------------------------------


def test_merging_joins_all_that_is_one_with_either():
    first = Corrections().merged([A, B]).merged([C, D])
    assert first.merged([B, C]).same == {frozenset((A, B, C, D))}


def test_newer_word_holds():
    merged = Corrections().merged([A, B, C])
    divided = merged.split([A], [B, C])
    assert divided.same == {frozenset((B, C))}
    assert divided.different == {(A, B), (A, C)}
    again = divided.merged([A, B])
    assert again.same == {frozenset((A, B, C))} and again.different == frozenset()


def test_splitting_keeps_apart_what_was_one_with_both_sides():
    divided = Corrections().merged([A, B]).split([A, C], [B, D])
    assert divided.same == {frozenset((A, C))}
    assert divided.different == {(A, B), (A, D), (B, C), (C, D)}


def test_names_and_years_are_given_and_taken_back():
    named = Corrections().named([A, B], "Anna").born([A], 1950)
    assert named.names == {A: "Anna", B: "Anna"} and named.births == {A: 1950}
    assert named.named([A], "").names == {B: "Anna"} and named.born([A], None).births == {}


FACES = st.sampled_from([A, B, C, D])
SETS = st.sets(FACES, min_size=2)
STEPS = st.one_of(
    st.tuples(st.just("merged"), SETS),
    st.tuples(st.just("split"), SETS),
    st.tuples(st.just("named"), SETS, st.sampled_from(["Anna", "Bea", 'O"Neill; x', "=1+1", "Ł"])),
    st.tuples(st.just("without"), SETS),
)


def applied(steps):
    said = Corrections()
    for kind, faces, *rest in steps:
        if kind == "split":
            some, *others = sorted(faces)
            said = said.split([some], others)
        else:
            said = getattr(said, kind)(sorted(faces), *rest)
    return said


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=6))
def test_saying_the_same_again_changes_nothing(steps):
    said = applied(steps)
    if steps:
        kind, faces, *rest = steps[-1]
        again = applied([*steps, steps[-1]])
        assert again == said
    # no face is in two sets, and nobody is one person and two
    members = [face for group in said.same for face in group]
    assert len(members) == len(set(members))
    assert not any(group.issuperset(pair) for group in said.same for pair in said.different)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=6), st.booleans())
def test_file_holds_what_was_said(tmp_path_factory, steps, related):
    said = applied(steps).born([A], 1950).with_relation((D, A), related, set())
    said = (
        said
        if len({said.names.get(face) for face in (A, B, C, D)}) == 1
        else said.named([A, B, C, D], "Anna")
    )
    path = tmp_path_factory.mktemp("said") / "corrections.csv"
    corrections.save(said, path)
    assert corrections.load(path) == said
    first = path.read_bytes()
    corrections.save(corrections.load(path), path)
    assert path.read_bytes() == first


# --- files --------------------------------------------------------------------------------------


def test_no_file_holds_no_corrections(tmp_path):
    assert corrections.load(tmp_path / "corrections.csv") == Corrections()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([f"same,{A},"], "line 2: '' is not a face, such as 3fa2c10b77de-1"),
        ([f"name,{A},,Anna", "name,P001,,Bea"], "line 3: 'P001' is not a face"),
        (
            [f"fired,{A},,"],
            "line 2: 'fired' is not one of name, born, nobody, related, same, diff",
        ),
        ([f"born,{A},,1066"], "line 2: '1066' is not a year from 1700 to "),
        ([f"born,{A},,1950", f"born,{A},,1951"], "line 3: .* was born in another year"),
        ([f"name,{A},,Anna", f"name,{A},,Bea"], "line 3: .* has no name, or another one"),
        ([f"same,{A},{A}"], f"line 2: {A} is named twice"),
        ([f"same,{A},{B}", f"different,{B},{A}"], "line 3: .* are the same person in other lines"),
        ([f"same,{A},{B}", f"same,{A},{B2}"], "line 2: .* two faces of one photo"),
        (
            [f"same,{A},{B}", f"name,{A},,Anna", f"name,{B},,Bea"],
            "line 2: one person is called Anna and Bea",
        ),
        ([f"related,{A},{B},yes", f"related,{B},{A},no"], "line 3: .* or both in two lines"),
        ([f"related,{A},{B},perhaps"], "line 2: 'perhaps' is neither yes nor no"),
    ],
)
def test_wrong_line_is_named(tmp_path, lines, sentence):
    path = written(tmp_path / "corrections.csv", *lines)
    text = refusal(path)
    assert re.search(sentence, text), text
    assert "nothing was changed" in text and path.read_text("utf-8").count("\n") == len(lines) + 1


def test_all_wrong_lines_are_named_at_once_but_not_hundreds(tmp_path):
    text = refusal(written(tmp_path / "corrections.csv", *["nobody,x,,"] * 14))
    assert "line 2:" in text and "line 11:" in text and "and 4 more lines" in text


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_files_of_other_spreadsheets_are_read(tmp_path, delimiter):
    path = written(tmp_path / "corrections.csv", f"name,{A},,Ömer")
    text = path.read_text("utf-8").replace(",", delimiter).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert corrections.load(path).names == {A: "Ömer"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("what,face,other,value\nname,x,,Ömer".encode("cp1252"), "is not UTF-8"),
        (b"what,face\n", "has no column other"),
        (b"", "has no column what"),
        (b'what,face,other,value\n"' + b"a" * 200_000, "is not CSV"),
    ],
)
def test_file_that_is_no_table_is_told(tmp_path, content, sentence):
    path = tmp_path / "corrections.csv"
    path.write_bytes(content)
    assert sentence in refusal(path)
