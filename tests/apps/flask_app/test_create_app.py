"""The factory: its settings, and what it leaves out."""

import subprocess
import sys
from pathlib import Path

from apps.flask_app import DEFAULTS, create_app

ROOT = Path(__file__).resolve().parents[3]


def test_settings_come_from_the_defaults_then_the_environment_then_the_caller(monkeypatch):
    monkeypatch.setenv("KIN_APP_WAITING", "7")
    monkeypatch.setenv("KIN_APP_RATE_LIMIT", "5 per hour")
    app = create_app({"RATE_LIMIT": "6 per hour", "WARM": False})
    assert app.config["WAITING"] == 7
    assert app.config["RATE_LIMIT"] == "6 per hour"
    assert app.config["MAX_FORM_PARTS"] == 32


def test_there_is_no_debugger():
    app = create_app({"WARM": False})
    assert not app.debug and not app.config.get("SECRET_KEY")


def test_two_apps_share_no_settings_and_no_turns():
    first, second = (create_app({"WAITING": count, "WARM": False}) for count in (1, 2))
    assert first.extensions["service"] is not second.extensions["service"]
    assert (first.config["WAITING"], second.config["WAITING"]) == (1, 2)
    assert DEFAULTS["WAITING"] == 40


def test_importing_the_app_takes_no_tensorflow():
    code = "import sys, apps.flask_app; print({'tensorflow', 'keras', 'mtcnn'} & set(sys.modules))"
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert printed == "set()\n"
