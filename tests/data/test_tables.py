"""Tables in the dialects of people's programs, and lines as an editor counts them."""

import pytest

from utils.data import datasets, tables
from utils.errors import DatasetError, StorageError

COLUMNS = {"p1": ("p1",), "p2": ("p2", "second")}
ROWS = [["F0001/MID1", "F0001/MID2"], ["F0002/MID1", "F0002/MID3"]]
PLAIN = "p1,p2\nF0001/MID1,F0001/MID2\nF0002/MID1,F0002/MID3\n"
R_NAMES = '"p1"\t"p2"\n"1"\t"F0001/MID1"\t"F0001/MID2"\n"2"\t"F0002/MID1"\t"F0002/MID3"\n'


@pytest.fixture
def table(tmp_path):
    """A function that writes a table in this text or these bytes and reads it."""

    def read(content):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "table.csv").write_bytes(content)
        return tables.read_columns(tmp_path / "table.csv", COLUMNS)

    return read


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.removesuffix("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-16-le"),
        PLAIN.replace(",", "\t").encode("utf-16"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", "  "),
        PLAIN.replace(",", " , "),
        "sep=;\n" + PLAIN.replace(",", ";"),
        PLAIN.replace("p1,p2", "P1,P2"),
        PLAIN.replace("p2", "Second"),
        PLAIN.replace("p1", '"p1"').replace("F0001/MID2", '"F0001/MID2"'),
        PLAIN + ",\n,\n",
        "\n\n" + PLAIN.replace("\n", "\n\n"),
        PLAIN.replace("\n", ",\n"),
        "p1,p2\nF0001/MID1,F0001/MID2,\nF0002/MID1,F0002/MID3,\n",
        ",p1,p2\n0,F0001/MID1,F0001/MID2\n1,F0002/MID1,F0002/MID3\n",
        "Row,p1,note,p2\na,F0001/MID1,x,F0001/MID2\nb,F0002/MID1,,F0002/MID3\n",
        "p2,p1\nF0001/MID2,F0001/MID1\nF0002/MID3,F0002/MID1\n",
        R_NAMES,
        R_NAMES.replace("\t", " "),
        R_NAMES.replace("\t", ","),
    ],
)
def test_every_dialect_gives_the_same_table(table, content):
    read = table(content)
    assert read.to_numpy().tolist() == ROWS and list(read) == ["p1", "p2"]


@pytest.mark.parametrize(
    "content, lines",
    [
        (PLAIN, [2, 3]),
        ("\n" + PLAIN.replace("\n", "\n\n"), [4, 6]),
        (PLAIN.replace("\n", "\r\n"), [2, 3]),
        (PLAIN.replace("\n", "\r"), [2, 3]),
        ("sep=,\n" + PLAIN, [3, 4]),
        ('p1,p2,note\na,b,"two\nlines"\nc,d,\n', [2, 4]),
        ("p1,p2\n,\n,\na,b\n", [4]),
        ("p1 p2\n\na b\n", [3]),
    ],
)
def test_lines_are_those_of_an_editor(table, content, lines):
    assert table(content).attrs["lines"] == lines


@pytest.mark.parametrize(
    "content, message",
    [
        ("p1,p2\n\na,b\nc\n", r"table\.csv, line 4: 1 fields, expected 2"),
        ("p1,p2\na,b\nc,d,e\n", r"table\.csv, line 3: 3 fields, expected 2"),
        ("p1,p1,p2\na,b,c\n", r"has the columns p1, p1, p2; expected p1, p2 or second\."),
        ("a;b\n1;2\n", r"has the columns a, b; expected p1, p2 or second\."),
        ("", "is not a CSV file that can be read: it holds no table"),
        ("hello\n", "is not a CSV file that can be read: it holds no table"),
        ('p1,p2\n\n"a,b\n', "is not a CSV file that can be read: line 3 has"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "it is not text in UTF-8 or UTF-16. Save it again"),
        (b"p1,p2\na,\0b\n", "is not a CSV file that can be read: it is not text"),
    ],
)
def test_what_is_no_such_table_is_named(table, content, message):
    with pytest.raises(DatasetError, match=message):
        table(content)


def test_table_without_rows_has_its_columns(table):
    assert table("p1,p2\n").empty and list(table("p1,p2\n")) == ["p1", "p2"]


def test_table_that_the_machine_refuses_is_not_called_broken(tmp_path, monkeypatch):
    def failing(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", failing)
    with pytest.raises(StorageError, match=r"table\.csv cannot be read \(Permission denied\)"):
        tables.read_columns(tmp_path / "table.csv", COLUMNS)


def test_kin_and_pairs_of_the_competition_are_read_in_other_dialects(
    families_root, families, tmp_path
):
    # links to the photos beside tables that Excel and Windows have rewritten
    for name in ("train", "test"):
        (tmp_path / name).symlink_to(families_root / name)
    for name in (datasets.RELATIONSHIPS, datasets.SAMPLE):
        text = (families_root / name).read_text().replace(",", "\t").replace("/", "\\")
        (tmp_path / name).write_bytes(text.upper().encode("utf-16"))
    text = (families_root / datasets.SAMPLE).read_text()
    (tmp_path / datasets.SAMPLE).write_text(text.replace(",", ";").replace("\n", "\r\n"))
    dataset = datasets.load(tmp_path)
    assert dataset.relationships.to_numpy().tolist() == families.relationships.to_numpy().tolist()
    assert dataset.sample.to_numpy().tolist() == families.sample.to_numpy().tolist()
    assert dataset.sample["is_related"].dtype == families.sample["is_related"].dtype
