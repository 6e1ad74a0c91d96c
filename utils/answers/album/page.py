"""The page of an album: one file that holds all that it shows, and the graph of relatives."""

import functools
import io
from typing import TYPE_CHECKING

from PIL import Image

from ... import __version__, files, images
from ...scoring.calibration import percent

if TYPE_CHECKING:
    import jinja2
    import networkx as nx

    from .album import Album
    from .members import PersonInAlbum

PAGE, GRAPH = "index.html", "graph.png"
FEW = 8  # faces of a person that are shown at once
ROWS = 300  # of the table
MOST_PEOPLE = 60  # in the graph: more cannot be read
DOTS = 100  # an inch


def write(album: "Album") -> None:
    """Write the graph, and the page with it, each atomically."""
    graph = draw(album)
    if graph:
        files.write_bytes(album.out / GRAPH, graph)
    else:
        (album.out / GRAPH).unlink(missing_ok=True)
    files.write_text(album.out / PAGE, render(album, graph))


def render(album: "Album", graph: bytes) -> str:
    """The page as HTML; it asks no other computer for anything.

    Args:
        album: what it shows.
        graph: a PNG; empty: there are no relatives.
    """
    # those that can be said come first, and the table ends somewhere
    rows = [
        relation for relation in album.relations if relation.is_likely or relation.said is False
    ]
    rows += [relation for relation in album.relations if relation not in rows]
    shown = rows[:ROWS]
    relations = [(album.person(row.a), album.person(row.b), row) for row in shown]
    questions = [(album.person(two.a), album.person(two.b)) for two in album.questions]
    measured = album.measured["kinship"]["all families"]["all photos"]
    from .members import printable

    return _template().render(
        folder=printable(album.folder.resolve().name),
        photos=album.photos,
        faces=album.faces,
        people=album.people,
        few=FEW,
        questions=questions,
        relations=relations,
        more=len(rows) - len(shown),
        pairs=album.pairs,
        graph=graph,
        graph_size=Image.open(io.BytesIO(graph)).size if graph else (0, 0),
        grouping=album.measured["grouping"],
        bands=measured["bands"],
        problems=list(map(printable, album.problems)),
        version=__version__,
    )


@functools.cache
def _template() -> "jinja2.Template":
    """The template beside this module; what it is given is escaped."""
    import jinja2

    from .members import printable

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("utils.answers.album", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["data_url"] = images.data_url
    environment.filters["percent"] = percent
    environment.filters["printable"] = printable
    return environment.get_template("page.html")


# --- graph --------------------------------------------------------------------------------------


def graph_of(album: "Album") -> "nx.Graph":
    """People with likely relatives, and who is related to whom; those with most of them first.

    Each edge has ``probability``, ``pull`` for the layout, and ``said``: whether the user said so.
    """
    import networkx as nx

    whole = nx.Graph()
    for relation in album.relations:
        if relation.is_likely:
            said = relation.said is True
            chance = 1.0 if said else relation.probability
            # families hang together by their surest relations
            whole.add_edge(relation.a, relation.b, probability=chance, said=said, pull=chance**6)
    # the people with most photos, if there are too many to be read
    people = [person.id for person in album.people if person.id in whole]
    return whole.subgraph(people[:MOST_PEOPLE]).copy()


def draw(album: "Album") -> bytes:
    """The graph of likely relatives as a PNG; empty where there are none."""
    import networkx as nx
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    graph = graph_of(album)
    if not graph.number_of_edges():
        return b""
    # a figure of its own: no window, no state that others share
    side = 6 + min(6.0, len(graph) / 10)
    figure = Figure((side * 1.25, side), dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = nx.spring_layout(graph, weight="pull", seed=0, k=2.2 / len(graph) ** 0.5)
    _draw_edges(graph, places, axes)
    nx.draw_networkx_nodes(
        graph, places, ax=axes, node_size=800, node_color="#cfe0f5", edgecolors="#1b5fa8"
    )
    names = {name: _short(album.person(name)) for name in graph}
    nx.draw_networkx_labels(graph, places, names, ax=axes, font_size=9)
    axes.set_title("Likely relatives; thick lines: you said so, or nearly certain")
    axes.margins(0.12)
    axes.set_axis_off()
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _draw_edges(graph: "nx.Graph", places: dict, axes: object) -> None:
    """The lines between relatives: the likelier, the thicker; green where the user said so."""
    import networkx as nx

    edges = list(graph.edges(data=True))
    widths = [4.0 if facts["said"] else 0.5 + 3 * facts["probability"] ** 4 for *_, facts in edges]
    colours = ["#2a7d46" if facts["said"] else "#7b8794" for *_, facts in edges]
    pairs = [(a, b) for a, b, _ in edges]
    nx.draw_networkx_edges(
        graph, places, edgelist=pairs, ax=axes, width=widths, edge_color=colours
    )


def _short(person: "PersonInAlbum") -> str:
    """A name that fits beside a dot."""
    title = person.title
    return title if len(title) <= 18 else f"{title[:17]}…"
