"""What the Markdown files show can be typed, imported and followed; their figures are measured."""

import ast
import contextlib
import csv
import importlib
import importlib.util
import io
import json
import re
import shlex
import statistics
import tomllib
from pathlib import Path

import pytest
import yaml

from utils import __version__, commands

ROOT = Path(__file__).resolve().parents[1]
TOP = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FOLDERS = ("docs", "data", "models", "benchmarks")
PAGES = TOP + [page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md"))]

SHELL = ("", "bash", "sh", "console")  # a block without a language is typed too
TOOLS = {"conda", "curl", "docker", "export", "jupyter", "pip", "source"}  # beside our own
SEPARATORS = {"&&", "||", ";", "|", "&", "do"}
LOOP = {"for", "done"}

CODE_BLOCK = re.compile(r"^ *```(\w*|{\w+})\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`]+)`")
FILE = re.compile(r"[\w.*/-]+/[\w.*-]+\.(py|json|csv|npz|toml|md)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
PACKAGE_ROW = re.compile(r"^\| \[`(utils\.\w+)`\]\(\S+\) \| .+ \| ([\d, ]+) \|$", re.MULTILINE)


def text_of(page):
    return page.read_text(encoding="utf-8")


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, languages):
    """The fenced blocks of a page in one of these languages."""
    return [
        block for language, block in CODE_BLOCK.findall(text_of(page)) if language in languages
    ]


def prose(page):
    """The page without its fenced blocks."""
    return CODE_BLOCK.sub("", text_of(page))


# --- commands -----------------------------------------------------------------------------------


def simple_commands(script):
    """The commands of a script as lists of words; comments, loops and variables are resolved."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if word not in SEPARATORS:
                words.append(re.sub(r"\$\w+", "0", word))
            elif words:
                if words[0] not in LOOP:
                    yield words
                words = []


def shown_commands(page):
    """What a page shows to be typed: lines of shell blocks, and code in its sentences."""
    for block in blocks(page, SHELL):
        yield from simple_commands(block)
    for span in CODE_SPAN.findall(prose(page)):
        tool, *words = span.split()
        placeholder = words and words[0].isupper()  # as in `kincourse VERB --help`
        if tool not in ("kincourse", "make", "python") or not words or placeholder:
            continue
        if tool == "kincourse" and all(word.isalpha() for word in words):
            words.append("--help")  # a verb that is only named, as `kincourse kin`
        yield from simple_commands(" ".join([tool, *words]))


def all_commands():
    for page in PAGES:
        for words in shown_commands(page):
            yield pytest.param(words, id=f"{name_of(page)}: {' '.join(words)}")


def exit_status(arguments):
    """What the course's parser makes of a command line: 0, or the status that it ends with."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            commands.build_parser().parse_args(arguments)
        except SystemExit as end:
            return end.code
    return 0


def targets():
    rule = re.compile(r"^([a-z]+):", re.MULTILINE)
    return set(rule.findall((ROOT / "Makefile").read_text(encoding="utf-8")))


def check_script(arguments):
    """``python -m MODULE`` names a module, ``python PATH`` a file; paths that follow exist."""
    if arguments[0] != "-m":
        assert (ROOT / arguments[0]).is_file(), f"there is no {arguments[0]}"
        return
    module, *rest = arguments[1:]
    if module == "utils" and rest:
        assert exit_status(rest) == 0
    assert importlib.util.find_spec(module), f"there is no module {module}"
    if module in ("pytest", "ruff", "streamlit"):
        for path in (word for word in rest if "/" in word):
            assert list(ROOT.glob(path)), f"there is no {path}"


@pytest.mark.parametrize("words", all_commands())
def test_command_can_be_typed(words):
    tool, *arguments = words
    if tool == "kincourse":
        assert exit_status(arguments) == 0
    elif tool == "make":
        assert arguments[0] in targets()
    elif tool in ("bash", "python", "python3"):
        check_script(arguments)
    else:
        assert tool in TOOLS, f"{tool} is not a command that the documentation uses"


def test_commands_are_taken_out_of_scripts():
    script = (
        "# first\nfor n in 1 2; do x\n  a --fold $n \\\n    b.jpg  # why\ndone\nc 'd e' && f | g"
    )
    expected = [["x"], ["a", "--fold", "0", "b.jpg"], ["c", "d e"], ["f"], ["g"]]
    assert list(simple_commands(script)) == expected


def test_wrong_command_lines_are_noticed(capsys):
    assert exit_status(["train"]) == exit_status(["audit", "--dat3"]) == 2
    assert exit_status(["audit", "--help"]) == 0


def test_every_target_and_verb_is_documented():
    documented = " ".join(text_of(page) for page in PAGES)
    verbs = re.findall(r"^    ([a-z]+)", commands.build_parser().format_help(), re.MULTILINE)
    assert [name for name in verbs if f"kincourse {name}" not in documented] == []
    development = text_of(ROOT / "docs" / "development.md")
    assert [name for name in targets() if f"`make {name}`" not in development] == []


# --- snippets and links -------------------------------------------------------------------------


def imported(tree):
    """(module, name or None) for each import of a snippet."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


def exists(module, name):
    """Whether a module can be imported, and holds the name or a module of that name."""
    holder = importlib.import_module(module)
    if name is None or hasattr(holder, name):
        return True
    return importlib.util.find_spec(f"{module}.{name}") is not None


def snippets():
    for page in PAGES:
        for number, block in enumerate(blocks(page, ("python", "py")), start=1):
            yield pytest.param(block, id=f"{name_of(page)}: {number}")


@pytest.mark.parametrize("snippet", snippets())
def test_snippet_compiles_and_its_imports_exist(snippet):
    tree = ast.parse(snippet)
    compile(tree, "snippet", "exec")
    assert [pair for pair in imported(tree) if not exists(*pair)] == []


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = HEADING.findall(prose(page))
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in words}


def broken(page, link):
    """Why a relative link of a page leads nowhere, or None."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return f"{link}: no such file"
    if anchor and anchor not in anchors(target):
        return f"{link}: no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page):
    links = LINK.findall(CODE_SPAN.sub("", prose(page)))
    relative = [link for link in links if "://" not in link]
    assert [reason for link in relative if (reason := broken(page, link))] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_in_the_text_exist(page):
    names = [span for span in CODE_SPAN.findall(prose(page)) if FILE.fullmatch(span)]
    folders = (ROOT, page.parent)
    missing = [name for name in names if not any(any(folder.glob(name)) for folder in folders)]
    assert [name for name in missing if "NN" not in name] == []  # such as NN_name.py


def test_a_link_that_leads_nowhere_is_noticed():
    card = ROOT / "models" / "MODEL_CARD.md"
    assert broken(card, "../data/README.md#results-on-the-real-data") is None
    assert broken(card, "no.md") and broken(card, "#no-such-heading")


def test_the_index_lists_every_page_of_docs():
    index = text_of(ROOT / "docs" / "README.md")
    names = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md"]
    assert [name for name in names if f"]({name})" not in index] == []


# --- the README ---------------------------------------------------------------------------------


def test_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 110


def minutes_of(source):
    """The time that a lesson says it takes."""
    [time] = re.findall(r"What you will learn\*\* \(about (an hour|\d+ minutes)", text_of(source))
    return 60 if time == "an hour" else int(time.split()[0])


def test_readme_lists_the_lessons_with_the_minutes_that_they_name():
    sources = sorted((ROOT / "notebooks" / "source").glob("[0-9]*.py"))
    row = re.compile(r"^\| \[.+\]\(notebooks/(\w+)\.ipynb\) \| .+ \| (\d+) min \| \d+ s \|$", re.M)
    rows = [(lesson, int(minutes)) for lesson, minutes in row.findall(text_of(ROOT / "README.md"))]
    assert rows == [(source.stem, minutes_of(source)) for source in sources]


def test_readme_names_for_each_package_lessons_that_use_it():
    rows = PACKAGE_ROW.findall(text_of(ROOT / "README.md"))
    assert len(rows) == 5
    for package, lessons in rows:
        for number in lessons.split(", "):
            [source] = (ROOT / "notebooks" / "source").glob(f"{number}_*.py")
            imports = {module for module, _ in imported(ast.parse(text_of(source)))}
            assert any(module.startswith(package) for module in imports), (package, source.name)


# --- figures ------------------------------------------------------------------------------------


def result(name):
    return json.loads((ROOT / "data" / name).read_text(encoding="utf-8"))


def rate(share):
    return f"{100 * share:.1f} %"


def interval(plain):
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**plain)


def share_interval(value, low, high):
    return f"{rate(value)} [{100 * low:.1f}, {100 * high:.1f}]"


@pytest.fixture(scope="module")
def results_page():
    return text_of(ROOT / "docs" / "real_data.md")


@pytest.fixture(scope="module")
def everywhere(results_page):
    """The pages that repeat the scores of the models."""
    return [results_page, text_of(ROOT / "README.md"), text_of(ROOT / "models" / "MODEL_CARD.md")]


def test_scores_on_the_held_out_families_are_those_of_the_results(results_page, everywhere):
    measured = result("results/kaggle_f09.json")
    for report in measured["reports"]:
        auc, cross_photo = interval(report["auc"]), interval(report["auc_cross_photo"])
        rates = [rate(report[name]) for name in ("accuracy", "false_accept", "false_reject")]
        assert f"| {auc} | {cross_photo} | {' | '.join(rates)} |" in results_page
        assert all(auc in page for page in everywhere)
    assert f"gains {interval(measured['gain'])} in AUC" in results_page


def test_the_score_on_the_competitions_test_is_the_same_on_every_page(everywhere):
    for page in everywhere:
        assert "5,205" in page and "0.848 [0.821, 0.872]" in page
        assert "0.887" in page and "0.881" in page
        assert "not part of this project" in " ".join(page.split())


def test_scores_by_relation_are_those_of_the_results(results_page):
    measured = result("results/kinfacew.json")
    for page in (results_page, text_of(ROOT / "models" / "MODEL_CARD.md")):
        for relation, scores in measured["at its threshold"].items():
            by_folds = measured["by the folds"][relation]["accuracy"]
            cells = f"{scores['auc']:.3f} | {rate(scores['accuracy'])} | {rate(by_folds)}"
            assert f"| {relation} | {cells} |" in page


def test_the_ablation_is_that_of_the_results(results_page):
    for row, runs in result("results/ablation.json")["rows"].items():
        auc = statistics.mean(run["auc"] for run in runs.values())
        assert f"| {row} | {auc:.3f} |" in results_page


def test_thresholds_and_their_errors_are_those_of_the_calibration(results_page):
    calibration = result("calibration/dlib-resnet.json")
    accepted = calibration["accepted"]
    for policy in ("relatives", "strangers", "strict"):
        threshold = calibration["thresholds"][policy]
        place = calibration["distances"].index(threshold)
        same, low, high = accepted["same"][place]
        cells = [f"{threshold:.4f}", share_interval(1 - same, 1 - high, 1 - low)]
        cells += [share_interval(*accepted[other][place]) for other in ("strangers", "relatives")]
        row = re.compile(rf"^\| `{policy}`.* \| {re.escape(' | '.join(cells))} \|$", re.MULTILINE)
        assert row.search(results_page), cells
    for error in calibration["equal_error"].values():
        assert share_interval(**error) in results_page


ENCODERS = ["dlib-resnet", "edgeface", "facenet", "mobilefacenet", "sface"]


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_are_compared_by_their_calibrations(name):
    calibration = result(f"calibration/{name}.json")
    accepted = calibration["accepted"]
    threshold = calibration["thresholds"]["relatives"]
    place = calibration["distances"].index(threshold)
    same, low, high = accepted["same"][place]
    cells = [f"{threshold:.4f}", share_interval(1 - same, 1 - high, 1 - low)]
    cells += [share_interval(*accepted[other][place]) for other in ("strangers", "relatives")]
    errors = calibration["equal_error"]
    cells += [share_interval(**errors[other]) for other in ("strangers", "relatives")]
    page = text_of(ROOT / "docs" / "encoders.md")
    assert f"| `{name}` | {' | '.join(cells)} |" in page


def test_the_page_on_data_states_what_was_measured():
    page = " ".join(text_of(ROOT / "data" / "README.md").split())
    measured = result("results/synthetic_quality.json")
    privacy = measured["privacy"]
    near, strangers = privacy["nearest_real_to_synthetic"], privacy["nearest_stranger_to_real"]
    for name in ("same_person_auc", "kin_auc"):
        assert f"{measured['synthetic'][name]}" in page and f"{measured['real'][name]}" in page
    assert f"medians are alike: {near['50%']} and {strangers['50%']}" in page
    assert f"smallest distances are {near['0%']} and {strangers['0%']}" in page
    for name in ("synthetic_under_distance_percent", "real_strangers_under_distance_percent"):
        assert f"{privacy[name]} %" in page


def test_the_protocol_has_the_sizes_that_are_named(results_page):
    with open(ROOT / "data" / "protocols" / "f09_pairs.csv", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    kin = sum(row["is_related"] == "1" for row in rows)
    same_photo = sum(row["same_photo"] == "1" for row in rows)
    assert (len(rows), kin, same_photo) == (6000, 3000, 324)
    assert "6,000 photo pairs" in results_page and "3,000 kin" in results_page
    assert "324 pairs are cut from one photograph" in results_page


# --- citation -----------------------------------------------------------------------------------


def test_citation_names_the_course_as_its_package_does():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"] and citation["title"] in text_of(ROOT / "README.md")
    assert citation["authors"] == [{"name": "The kinship-course authors"}]
    assert str(citation["version"]) == project["version"] == __version__
    assert citation["repository-code"] == project["urls"]["Repository"]
    assert citation["license"] == project["license"]["text"]
    assert citation["abstract"] == project["description"]


# --- two parents and a child, and search --------------------------------------------------------


@pytest.fixture(scope="module")
def search_page():
    return " ".join(text_of(ROOT / "docs" / "search.md").split())


def test_figures_of_two_parents_are_those_of_the_calibration(search_page):
    measured = result("calibration/parents.json")
    a, couple = measured["coefficients"]
    assert measured["terms"] == ["sum", "couple"]
    assert (
        f"log-odds = {measured['intercept']:.3f} + {a:.3f} · (a + b) - {-couple:.3f} · couple"
        in search_page
    )
    one, many = measured["measured"], measured["measured_all_photos"]
    for name, title in (
        ("auc_both", "both parents"),
        ("auc_one_parent", "the better single parent"),
        ("gain_over_one_parent", "gain over it"),
        ("auc_more_alike", "of both, the one who is more alike"),
        ("gain_over_more_alike", "gain over that"),
    ):
        assert f"| {title} | {interval(one[name])} | {interval(many[name])} |" in search_page
    bands, protocol = one["bands"], measured["protocol"]
    wrong = [rate(bands[name]) for name in ("strangers_among_likely", "kin_among_unlikely")]
    assert f"are wrong in {wrong[0]} and in {wrong[1]};" in search_page
    assert f"of {rate(bands['cannot_say'])} nothing is said" in search_page
    assert f"{protocol['candidates']:,} such candidates" in search_page
    assert f"{protocol['triples']} triples of {protocol['families']} families" in search_page
    every = measured["measured_candidates"]
    numbers = [every[f"auc_{name}"]["value"] for name in ("both", "one_parent", "more_alike")]
    assert "both {:.3f}, one {:.3f}, the more alike {:.3f}".format(*numbers) in search_page


def test_figures_of_retrieval_are_those_of_the_results(search_page):
    measured = result("results/retrieval.json")
    titles = {
        "kin, one photo": "listed kin, by one photo",
        "kin, all photos": "listed kin, by all photos",
        "family, all photos": "anyone of the family, by all photos",
        "same person": "the same person, by one other photo",
    }
    assert list(measured) == list(titles)
    for name, title in titles.items():
        numbers = measured[name]
        ranks = [rate(numbers[f"rank_{rank}"]["value"]) for rank in (1, 5, 10)]
        chance = f"{numbers['map_by_chance']:.3f}"
        cells = [title, interval(numbers["map"]), chance, *ranks]
        assert f"| {' | '.join(cells)} |" in search_page
    one, many = (measured[f"kin, {photos}"] for photos in ("one photo", "all photos"))
    assert f"{rate(one['strangers_likely'])} of strangers are called likely" in search_page
    assert f"({rate(many['strangers_likely'])} where the probe has all" in search_page
    people = measured["kin, one photo"]["people"]
    assert f"({people['least']} to {people['most']})" in search_page
