"""An album from end to end: people, tables, corrections that win, and runs that are killed."""

import csv
import itertools
import json
import os
import random
import re
import shutil

import pytest

from utils import files
from utils.answers.album import corrections, edits, page
from utils.answers.album.album import Album
from utils.errors import AlbumError, BusyError

TABLES = ("people.csv", "relations.csv", "corrections.csv", "album.json", "index.html")


def rows_of(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def change(path, person, **cells):
    """Write some cells of a person's row, as a spreadsheet would."""
    rows = rows_of(path)
    for row in rows:
        if row["person"] == person:
            row.update(cells)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def relate(path, a, b, word):
    """Add a row to the relations."""
    with open(path, "a", encoding="utf-8", newline="") as file:
        file.write(f"{a},{b},{word}\r\n")


def photos_of(album):
    """The photos of each person: what does not depend on ids."""
    return {frozenset(face.photo for face in person.faces) for person in album.people}


def contents(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


@pytest.fixture
def named(made):
    """Ids by colour, whatever they are: red has three photos, and so on."""
    by_photos = {frozenset(f.photo for f in p.faces): p.id for p in made.album.people}
    return {
        "red": by_photos[frozenset(("a.png", "b.png", "inner/d.png"))],
        "green": by_photos[frozenset(("a.png", "inner/c.png"))],
        "blue": by_photos[frozenset(("b.png", "inner/d.png"))],
        "yellow": by_photos[frozenset(("e.png",))],
    }


# --- what is made -------------------------------------------------------------------------------


def test_faces_become_people_and_people_relations(made, named):
    assert [len(person.faces) for person in made.album.people] == [3, 2, 2, 1]
    assert made.album.people[0].id == "P001"
    # yellow is red and green: cosine 0.71, log-odds 1.24
    likely = {
        frozenset((relation.a, relation.b)): relation.probability
        for relation in made.album.relations
    }
    assert set(likely) == {frozenset((named["yellow"], named[kin])) for kin in ("red", "green")}
    assert all(chance == pytest.approx(0.776, abs=0.02) for chance in likely.values())
    assert made.album.pairs == {"likely": 2, "cannot say": 0, "unlikely": 4}


def test_tables_say_the_same_as_the_album(made):
    assert set(TABLES) | {"graph.png"} <= set(contents(made.out))
    people = rows_of(made.out / "people.csv")
    assert [row["person"] for row in people] == [person.id for person in made.album.people]
    assert [row["faces"] for row in people] == ["3", "2", "2", "1"]
    assert tuple(people[0]) == edits.PEOPLE_COLUMNS
    relations = rows_of(made.out / "relations.csv")
    assert [row["answer"] for row in relations] == ["likely", "likely"]
    facts = json.loads((made.out / "album.json").read_text("utf-8"))
    assert made.album.to_dict().items() <= facts.items()


def test_photos_are_only_read(made):
    before = {path: path.read_bytes() for path in made.folder.rglob("*.png")}
    made.again()
    assert before == {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}


def test_second_run_computes_nothing_and_writes_the_same(made, networks):
    embedded, before = networks.kinship.embedded, contents(made.out)
    again = made.again()
    assert again.searched == 0 and networks.kinship.embedded == embedded
    after = contents(made.out)
    assert {name for name in before if before[name] != after[name]} <= {"album.json"}


@pytest.mark.parametrize("seed", range(3))
def test_names_and_order_of_files_make_no_difference(made, networks, tmp_path, seed):
    other = tmp_path / "other"
    other.mkdir()
    paths = sorted(made.folder.rglob("*.png"))
    order = random.Random(seed).sample(range(len(paths)), len(paths))
    for number, path in zip(order, paths, strict=True):
        shutil.copy(path, other / f"{number}.png")
    album = Album.of(other, tmp_path / "second", progress=False)

    def faces(of):
        return [sorted(face.id for face in person.faces) for person in of.people]

    assert faces(album) == faces(made.album)
    assert [person.id for person in album.people] == [p.id for p in made.album.people]


def test_summary_says_what_there_is_and_where(made):
    text = made.album.summary
    assert text.startswith("5 photos, 8 faces, 4 people; 2 pairs likely related, ")
    assert "index.html" in text and "people.csv" in text


def test_folder_without_faces_is_an_album_of_nobody(tmp_path, networks, paint):
    paint(tmp_path / "photos/empty.png")
    album = Album.of(tmp_path / "photos", tmp_path / "out", progress=False)
    assert album.people == album.relations == album.questions == []
    assert not (tmp_path / "out/graph.png").exists()
    page = " ".join((tmp_path / "out/index.html").read_text("utf-8").split())
    assert "<p>1 photo, 0 faces, 0 people." in page
    assert Album.of(tmp_path / "photos", tmp_path / "out", progress=False).photos == 1


def test_folder_that_is_not_there_leaves_nothing_behind(tmp_path, networks):
    with pytest.raises(AlbumError, match="gone is not a folder"):
        Album.of(tmp_path / "gone", tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_broken_photo_is_named_on_the_page_and_in_the_summary(made):
    (made.folder / "broken.jpg").write_bytes(b"no photo")
    album = made.again()
    assert "1 file could not be used:" in album.summary
    assert "broken.jpg" in (made.out / "index.html").read_text("utf-8")


def test_hundreds_of_broken_photos_are_not_all_printed(made):
    for number in range(60):
        (made.folder / f"broken {number}.jpg").write_bytes(b"no photo")
    album = made.again()
    assert len(album.problems) == 60 and "and 10 more, in" in album.summary
    assert album.summary.count("broken ") == 50


# --- corrections --------------------------------------------------------------------------------


def test_name_and_year_are_kept_and_shown(made, named, paint):
    change(made.out / "people.csv", named["red"], name="  Rosa   Luxemburg ", born="1950")
    for album in (made.again(), made.again()):
        person = album.person(named["red"])
        assert (person.name, person.born) == ("Rosa Luxemburg", 1950)
    # a new photo of hers is hers
    paint(made.folder / "new.png", "red", seed=30)
    person = made.again().person(named["red"])
    assert person.name == "Rosa Luxemburg" and len(person.faces) == 4
    assert "Rosa Luxemburg" in (made.out / "index.html").read_text("utf-8")


def test_merged_people_stay_one_and_the_old_id_is_understood(made, named):
    change(made.out / "people.csv", named["green"], same_as=named["yellow"].lower())
    for album in (made.again(), made.again()):
        assert frozenset(("a.png", "inner/c.png", "e.png")) in photos_of(album)
        assert len(album.people) == 3
    gone = ({named["green"], named["yellow"]} - {p.id for p in album.people}).pop()
    kept = ({named["green"], named["yellow"]} - {gone}).pop()
    relate(made.out / "relations.csv", gone, named["blue"], "yes")
    [said] = [relation for relation in made.again().relations if relation.said]
    assert {said.a, said.b} == {kept, named["blue"]}


def test_faces_that_are_split_off_stay_apart(made, named):
    change(made.out / "people.csv", named["red"], split="2-3", name="Rosa")
    first = made.again()
    assert len(first.people) == 5
    assert first.person(named["red"]).name in ("Rosa", "")
    assert sorted(person.name for person in first.people)[-1] == "Rosa"
    assert photos_of(made.again()) == photos_of(first)


def test_merging_again_undoes_a_split(made, named):
    change(made.out / "people.csv", named["red"], split="1")
    divided = made.again()
    [new] = {p.id for p in divided.people} - set(named.values())
    change(made.out / "people.csv", named["red"], same_as=new)
    assert photos_of(made.again()) == photos_of(made.album)


def test_who_is_not_a_person_leaves_the_album(made, named):
    change(made.out / "people.csv", named["blue"], not_a_person="x")
    for album in (made.again(), made.again()):
        assert album.nobody == 2 and len(album.people) == 3
        assert named["blue"] not in (made.out / "people.csv").read_text("utf-8")


def test_what_is_said_of_relations_wins_and_can_be_taken_back(made, named):
    red, blue = named["red"], named["blue"]
    path = made.out / "relations.csv"
    relate(path, red, blue, "yes")
    album = made.again()
    [said] = [relation for relation in album.relations if relation.said is not None]
    assert {said.a, said.b} == {red, blue} and said.is_likely and said.band == "unlikely"
    assert [row["related"] for row in rows_of(path)].count("yes") == 1
    # a likely relation is denied
    text = path.read_text("utf-8-sig").splitlines()
    text = [re.sub(r"^(P\d+,P\d+),,", r"\1,no,", line) for line in text]
    path.write_text("\n".join(text), "utf-8")
    album = made.again()
    assert {relation.said for relation in album.relations} == {True, False}
    assert sum(relation.is_likely for relation in album.relations) == 1
    # and all is taken back
    text = [
        re.sub(r"^(P\d+,P\d+),(yes|no),", r"\1,,", line)
        for line in path.read_text("utf-8-sig").splitlines()
    ]
    path.write_text("\n".join(text), "utf-8")
    assert {relation.said for relation in made.again().relations} == {None}


@pytest.mark.parametrize(
    ("person", "cells", "sentence"),
    [
        ("red", {"same_as": "P099"}, "line 2: there is no person P099"),
        ("red", {"same_as": "P001"}, "line 2: P001 is the same as itself"),
        ("red", {"same_as": "BLUE"}, r"line 2: .* two faces of one photo, and nobody is twice"),
        ("red", {"split": "4"}, "line 2: P001 has no face 4; its faces have the numbers 1 to 3"),
        ("red", {"split": "one"}, "P001 has no face one"),
        ("red", {"split": "1-3"}, "all faces of P001 are split off"),
        ("red", {"born": "1066"}, "'1066' is not a year"),
        ("red", {"born": "about 1950"}, "'about 1950' is not a year"),
        ("red", {"not_a_person": "perhaps"}, "'perhaps' is neither yes nor no"),
        ("red", {"not_a_person": "yes", "same_as": "YELLOW"}, "is not a person, and yet"),
        ("yellow", {"not_a_person": "yes"}, None),
    ],
)
def test_wrong_row_is_named_by_its_line_and_nothing_changes(made, named, person, cells, sentence):
    for colour, name in named.items():
        cells = {key: text.replace(colour.upper(), name) for key, text in cells.items()}
    path = made.out / "people.csv"
    change(path, named[person], **cells)
    before = contents(made.out)
    if sentence is None:
        assert made.again().nobody == 1
        return
    with pytest.raises(AlbumError, match=sentence) as caught:
        made.again()
    assert "people.csv cannot be followed, and nothing was changed" in str(caught.value)
    assert contents(made.out) == before


def test_contradictions_between_rows_are_named(made, named):
    path = made.out / "people.csv"
    change(path, named["green"], same_as=named["yellow"], name="Greta")
    change(path, named["yellow"], name="Yvonne")
    with pytest.raises(AlbumError, match=r"are Greta and Yvonne: clear one"):
        made.again()
    change(path, named["yellow"], name="", not_a_person="yes")
    with pytest.raises(AlbumError, match="one of them is not a person"):
        made.again()
    change(path, named["yellow"], not_a_person="", born="1950")
    person = made.again().person(named["green"])
    assert (person.name, person.born, len(person.faces)) == ("Greta", 1950, 3)


def test_row_that_is_there_twice_or_of_nobody_is_named(made):
    path = made.out / "people.csv"
    text = path.read_text("utf-8")
    path.write_text(text + text.splitlines()[1] + "\r\nP777,Nobody\r\n", "utf-8")
    with pytest.raises(
        AlbumError, match=r"line 6: P001 is in line 2 too; line 7: there is no per"
    ):
        made.again()


def test_contradictory_relations_are_named(made, named):
    path = made.out / "relations.csv"
    relate(path, named["red"], named["blue"], "yes")
    relate(path, named["blue"], named["red"], "no")
    relate(path, named["red"], named["red"], "yes")
    relate(path, named["red"], "P050", "yes")
    with pytest.raises(AlbumError) as caught:
        made.again()
    for part in (
        "line 5: line 4 says something else",
        "line 6: ",
        "are one person",
        "no person P050",
    ):
        assert part in str(caught.value)


def test_row_or_table_that_is_deleted_changes_nothing(made, named):
    change(made.out / "people.csv", named["red"], name="Rosa")
    made.again()
    path = made.out / "people.csv"
    kept = [line for line in path.read_text("utf-8").splitlines() if "Rosa" not in line]
    path.write_text("\n".join(kept), "utf-8")
    assert made.again().person(named["red"]).name == "Rosa"
    path.unlink()
    (made.out / "relations.csv").unlink()
    assert made.again().person(named["red"]).name == "Rosa"


def test_correction_of_a_photo_that_is_gone_is_kept_and_comes_back(made, named):
    change(made.out / "people.csv", named["yellow"], name="Yvonne")
    made.again()
    (made.folder / "e.png").rename(made.folder.parent / "e.png")
    gone = made.again()
    assert len(gone.people) == 3 and gone.problems == []
    (made.folder.parent / "e.png").rename(made.folder / "e.png")
    back = made.again()
    assert [person.name for person in back.people if person.name] == ["Yvonne"]


def test_correction_of_a_face_that_nobody_knows_is_told_and_kept(made):
    path = made.out / "corrections.csv"
    line = f"name,{'f' * 12}-1,,Anna"
    path.write_text(path.read_text("utf-8") + line + "\r\n", "utf-8")
    album = made.again()
    assert "speaks of 1 face that no photo here has" in album.problems[-1]
    assert line in path.read_text("utf-8")


def test_file_of_before_the_run_may_be_saved_again(made, named):
    path = made.out / "people.csv"
    change(path, named["green"], same_as=named["yellow"], name="Greta")
    change(path, named["blue"], not_a_person="yes")
    stale = path.read_bytes()
    first = made.again()
    path.write_bytes(stale + b"\r\n")
    again = made.again()
    assert photos_of(again) == photos_of(first) and again.nobody == 2
    assert [person.name for person in again.people if person.name] == ["Greta"]


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ({"split": "1"}, {"split": "1"}, "P001 has 2 faces now: this file is older than the page"),
        ({"not_a_person": "yes"}, {"same_as": "YELLOW"}, "P001 has no face in the album any more"),
    ],
)
def test_file_of_before_the_run_whose_edits_mean_something_else_is_refused(
    made, named, before, after, sentence
):
    path = made.out / "people.csv"
    stale = path.read_bytes()
    change(path, named["red"], **before)
    made.again()
    path.write_bytes(stale)
    cells = {key: text.replace("YELLOW", named["yellow"]) for key, text in after.items()}
    change(path, named["red"], **cells)
    path.write_bytes(path.read_bytes() + b"\r\n")
    with pytest.raises(AlbumError, match=sentence):
        made.again()


def test_row_of_who_is_part_of_another_person_sends_there(made, named):
    path = made.out / "people.csv"
    change(path, named["green"], same_as=named["yellow"])
    stale = path.read_bytes()
    made.again()
    for cells in ({"name": "Nina"}, {"split": "1"}, {"same_as": named["red"]}):
        path.write_bytes(stale)
        change(path, named["green"], same_as="")
        change(path, named["yellow"], **cells)
        with pytest.raises(AlbumError, match=f"{named['yellow']} is part of {named['green']} now"):
            made.again()


def test_name_in_either_form_of_its_accents_is_one_name(made, named):
    path = made.out / "people.csv"
    change(path, named["green"], name="Zo\u00eb", same_as=named["yellow"])
    change(path, named["yellow"], name="Zoe\u0308")
    assert made.again().person(named["green"]).name == "Zo\u00eb"


# --- runs that are killed, and two at once ------------------------------------------------------


@pytest.mark.parametrize("number", range(6))
def test_run_that_is_killed_while_it_writes_has_lost_nothing(made, named, monkeypatch, number):
    path = made.out / "people.csv"
    change(path, named["green"], same_as=named["yellow"], name="Greta")
    change(path, named["red"], split="1")
    writers = itertools.count()
    for name in ("write_text", "write_bytes"):
        original = getattr(files, name)

        def counted(target, content, original=original):
            if next(writers) == number:  # once
                raise KeyboardInterrupt
            original(target, content)

        monkeypatch.setattr(files, name, counted)
    monkeypatch.setattr(corrections, "write_text", files.write_text)
    with pytest.raises(KeyboardInterrupt):
        made.again()
    # the next run goes to its end
    expected = {frozenset(("a.png", "inner/c.png", "e.png")), frozenset(("b.png", "inner/d.png"))}
    album = made.again()
    assert expected <= photos_of(album) and len(album.people) == 4
    assert [person.name for person in album.people if person.name] == ["Greta"]
    assert photos_of(made.again()) == photos_of(album)


def test_second_program_at_once_is_told_who_is_at_it(made):
    with files.lock(made.out / "album"), pytest.raises(BusyError, match="is making this album"):
        made.again()
    assert made.again().searched == 0


def test_album_json_that_is_damaged_is_told(made):
    (made.out / "album.json").write_text('{"people": 3}', "utf-8")
    with pytest.raises(AlbumError, match=r"album\.json is damaged; move it and people\.csv away"):
        made.again()
    for name in ("album.json", "people.csv"):
        (made.out / name).unlink()
    assert len(made.again().people) == 4


# --- the page -----------------------------------------------------------------------------------


def test_page_holds_all_that_it_shows(made):
    html = (made.out / "index.html").read_text("utf-8")
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", html) and "url(" not in html
    assert html.count("data:image/jpeg;base64,") >= 8 and "data:image/png;base64," in html
    assert "must not be used" in html


def test_page_escapes_whatever_people_and_files_are_called(made, named, paint):
    paint(made.folder / "<script>x.png", "red", seed=40)
    change(made.out / "people.csv", named["red"], name="<b>Rosa</b>")
    made.again()
    html = (made.out / "index.html").read_text("utf-8")
    assert "<script" not in html and "<b>Rosa" not in html and "&lt;b&gt;Rosa" in html


def test_file_names_in_any_encoding_reach_every_output(made):
    (made.folder / "a.png").rename(made.folder / os.fsdecode(b"f\xfcr Oma.png"))
    (made.folder / os.fsdecode(b"br\xfcchig.jpg")).write_bytes(b"x")
    album = made.again()
    assert r"f\xfcr Oma.png" in json.dumps(album.to_dict()).replace("\\\\", "\\")
    for name in TABLES:
        (made.out / name).read_text("utf-8")


def test_graph_has_the_people_with_relatives_and_lines_for_likely_relations(made, named):
    graph = page.graph_of(made.album)
    assert set(graph) == {named[colour] for colour in ("red", "green", "yellow")}
    assert graph.number_of_edges() == 2
    assert page.draw(made.album).startswith(b"\x89PNG")
    assert page.draw(made.album) == page.draw(made.album)


def test_store_of_other_networks_is_another_one(made, networks, monkeypatch):
    monkeypatch.setattr(type(networks.identity), "fingerprint", "colours-2")
    assert made.again().searched == 5


def test_face_is_called_by_its_photo(made):
    digests = {path.name: files.sha256(path) for path in made.folder.rglob("*.png")}
    for person in made.album.people:
        for face in person.faces:
            assert face.id.startswith(digests[face.photo.split("/")[-1]][:12])
