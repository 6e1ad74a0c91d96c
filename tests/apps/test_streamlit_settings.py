"""Privacy and limits of the Streamlit app hold wherever it is started, and whatever lies there."""

import re
import tomllib
from pathlib import Path

import psutil

from utils import images

APP = Path(__file__).resolve().parents[2] / "apps" / "streamlit_app.py"
STYLE = APP.parent / "flask_app" / "static" / "style.css"
SETTINGS = APP.parent / ".streamlit" / "config.toml"
OPEN_TO_ALL = """
[server]
address = "0.0.0.0"
maxUploadSize = 999
[browser]
gatherUsageStats = true
"""


def test_uploads_are_limited_as_photos_are_and_nothing_is_told_about_visitors():
    settings = tomllib.loads(SETTINGS.read_text())
    assert settings["server"]["maxUploadSize"] == images.MAX_BYTES // 2**20
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["client"]["showErrorDetails"] == "none"


def test_both_apps_have_the_same_colours():
    theme = tomllib.loads(SETTINGS.read_text())["theme"]
    style = STYLE.read_text()
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    names = {
        "primaryColor": "accent",
        "backgroundColor": "page",
        "secondaryBackgroundColor": "card",
        "textColor": "ink",
        "borderColor": "line",
    }
    for part, scheme in ((light, "light"), (dark, "dark")):
        colours = dict(re.findall(r"--([a-z-]+): (#\w+);", part.split("}")[0]))
        for name, variable in names.items():
            assert theme[scheme][name] == colours[variable], (scheme, name)


def test_make_starts_what_is_tested_here():
    recipe = (APP.parents[1] / "Makefile").read_text()
    assert "$(PY) -m streamlit run apps/streamlit_app.py\n" in recipe


def test_started_in_another_folder_the_app_serves_this_machine_alone(
    serve, free_port, home, tmp_path
):
    # the settings of somebody else's app, where it is started and in the home
    for folder in (tmp_path, home):
        (folder / ".streamlit").mkdir()
        (folder / ".streamlit" / "config.toml").write_text(OPEN_TO_ALL)
    options = ("--server.headless", "true", "--server.port", str(free_port))
    server = serve(
        f"http://127.0.0.1:{free_port}/_stcore/health",
        *("-m", "streamlit", "run", str(APP), *options),
        cwd=tmp_path,
    )
    places = [
        connection.laddr.ip
        for connection in psutil.Process(server.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert places == ["127.0.0.1"]
    assert "usage statistics" not in server.output.read_text().lower()
