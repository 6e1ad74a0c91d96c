"""Tables in text files as people's tools write them, each row with its line in the file.

R, Excel, MATLAB and pandas write commas, semicolons or tabs, quotes, a byte order mark, UTF-16, a
column of row names, names of columns in upper case, and empty rows. All of these give the same
table. A line is counted as an editor counts it: with blank lines, and with those that a quoted
cell spans.
"""

import codecs
import contextlib
import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..errors import DatasetError
from ..files import check_machine

CSV = "a CSV file that can be read"
_DELIMITERS = (",", ";", "\t", "|")
_WORD = re.compile(r'"[^"]*"|\S+')  # of a line whose cells are separated by blanks
_LINE_END = re.compile(r"\r\n|\r|\n")
# What starts a text in UTF-16, and what such a text looks like without it.
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF_16_ASCII = {b"[^\0]\0[^\0]\0": "utf-16-le", b"\0[^\0]\0[^\0]": "utf-16-be"}
# How Excel names the delimiter in a line above the table.
_EXCEL_DELIMITER = re.compile(r"\"?sep=(.)\"?", re.IGNORECASE)


class Row(NamedTuple):
    """A row of a table that is not empty: its line in the file, from 1, and its cells."""

    line: int
    cells: list[str]


def read_columns(path: str | Path, columns: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The wanted columns of a table whose first row names them, in the wanted order.

    Further columns are passed over. ``attrs["lines"]`` holds the line of each row.

    Args:
        path: the file.
        columns: what each column is called here, and what it may be called in the file.

    Raises:
        DatasetError: no text, no table, a column that is not there or is there twice, or a row
            with another number of cells.
    """
    # one cell and nothing below it is what any other text looks like
    rows = read_rows(path)
    if not rows or len(rows) == len(rows[0].cells) == 1:
        raise DatasetError(f"{path} is not {CSV}: it holds no table.")
    header, rows = split_header(path, rows)
    expected = ", ".join([" or ".join(names) for names in columns.values()])
    places = []
    for names in columns.values():
        wanted = [place for place, name in enumerate(header) if name.lower() in names]
        if len(wanted) != 1:
            raise DatasetError(f"{path} has the columns {', '.join(header)}; expected {expected}.")
        places.append(wanted[0])
    cells = [row.cells for row in rows] or np.empty((0, len(header)), object)
    table = pd.DataFrame(cells)[places].set_axis(list(columns), axis="columns")
    table.attrs["lines"] = [row.line for row in rows]
    return table


def make_numbers(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Turn those of some columns into numbers that are there and hold nothing else, in place."""
    for name in columns:
        if name in table:
            with contextlib.suppress(ValueError):
                table[name] = pd.to_numeric(table[name])


def split_header(path: str | Path, rows: list[Row]) -> tuple[list[str], list[Row]]:
    """The names of the columns, and the rows below them with as many cells.

    Raises:
        DatasetError: a row has another number of cells.
    """
    header, rest = rows[0].cells, rows[1:]
    longer = bool(rest) and all(len(row.cells) == len(header) + 1 for row in rest)
    if longer and any(row.cells[-1] for row in rest):
        # R gives the column of row names no name
        header = ["", *header]
    elif longer:
        # or every row ends in a delimiter
        rest = [Row(row.line, row.cells[:-1]) for row in rest]
    check_widths(path, rest, len(header))
    return header, rest


def check_widths(path: str | Path, rows: list[Row], width: int) -> None:
    """DatasetError for a row with more or fewer cells: it would be read by the wrong columns."""
    for row in rows:
        if len(row.cells) != width:
            raise DatasetError(
                f"{path}, line {row.line}: {len(row.cells)} fields, expected {width} as in the "
                "lines above; mend the line."
            )


def read_rows(path: str | Path, kind: str = CSV) -> list[Row]:
    """The rows that are not empty, in any of the dialects.

    Args:
        path: the file.
        kind: what a message says that another file is not.

    Raises:
        DatasetError: the file cannot be read, is no text, or has a quote that is never closed.
    """
    text = read_text(path, kind)
    lines = _LINE_END.split(text)
    sample = [line for line in lines if line.strip()][:3]
    if not sample:
        return []
    # a line of Excel's names the delimiter; it is no row
    named = _EXCEL_DELIMITER.fullmatch(sample[0].strip())
    delimiter = named[1] if named else _delimiter(sample)
    rows = _split_words(lines) if delimiter is None else _split_cells(path, text, delimiter, kind)
    return rows[1:] if named else rows


def _delimiter(sample: list[str]) -> str | None:
    """What separates the cells in the first lines; None: blanks."""
    counts = {
        delimiter: len(next(csv.reader(sample[:1], delimiter=delimiter)))
        for delimiter in _DELIMITERS
    }
    best = max(counts, key=counts.__getitem__)
    if counts[best] == 1:
        return None if " " in sample[0].strip() else ","
    # tabs may stand beside spaces for the look of it: then the lines have few in common
    if best == "\t" and len(sample) > 1:
        second = len(next(csv.reader(sample[1:2], delimiter="\t")))
        if second == 1 or abs(second - counts[best]) > 1:
            return None
    return best


def _split_words(lines: list[str]) -> list[Row]:
    """Rows whose cells are separated by blanks."""
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = [word.strip('"') for word in _WORD.findall(line)]
        if any(cells):
            rows.append(Row(number, cells))
    return rows


def _split_cells(path: str | Path, text: str, delimiter: str, kind: str) -> list[Row]:
    """Rows whose cells are separated by one character, quoted or not."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    rows, line = [], 1
    try:
        for fields in reader:
            cells = [field.strip() for field in fields]
            # rows of delimiters alone are what Excel leaves below a table
            if any(cells):
                rows.append(Row(line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(f"{path} is not {kind}: line {line} has {error}.") from error
    return rows


def read_text(path: str | Path, kind: str = CSV) -> str:
    """The text of a file in UTF-8 or UTF-16, with or without a byte order mark.

    Args:
        path: the file.
        kind: what a message says that another file is not.

    Raises:
        DatasetError: the file cannot be read, or holds something else.
    """
    # what the machine refuses is no fault of the file
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        check_machine(error, path)
        raise DatasetError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    try:
        text = content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not {kind}: it is not text in UTF-8 or UTF-16. Save it again as CSV in "
            "UTF-8."
        ) from error
    if "\0" in text:
        raise DatasetError(f"{path} is not {kind}: it is not text.")
    return text


def _encoding(content: bytes) -> str:
    if content.startswith(_UTF_16):
        return "utf-16"
    for start, encoding in _UTF_16_ASCII.items():
        if re.match(start, content, re.DOTALL):
            return encoding
    return "utf-8-sig"
