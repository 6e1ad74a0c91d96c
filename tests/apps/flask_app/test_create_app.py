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
    assert (app.config["WAITING"], app.config["RATE_LIMIT"], app.config["MAX_FORM_PARTS"]) == (7, "6 per hour", 20)


def test_there_is_no_debugger(app):
    assert not app.debug and not app.config.get("SECRET_KEY")


def test_two_apps_share_no_settings_and_no_turns(make_app):
    one, other = make_app(WAITING=1), make_app(WAITING=2)
    assert one.extensions["service"] is not other.extensions["service"]
    assert (one.config["WAITING"], other.config["WAITING"], DEFAULTS["WAITING"]) == (1, 2, 40)


def test_importing_the_app_takes_no_tensorflow():
    code = "import sys, apps.flask_app; assert not {'tensorflow', 'keras', 'mtcnn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
