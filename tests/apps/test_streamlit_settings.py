"""Privacy and limits of the Streamlit app hold wherever it is started, and whatever lies there."""

import tomllib
from pathlib import Path

import psutil

from utils import images

APP = Path(__file__).resolve().parents[2] / "apps" / "streamlit_app.py"
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
