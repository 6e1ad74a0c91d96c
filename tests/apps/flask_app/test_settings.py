"""Settings that cannot be used are named before anybody is served."""

import pytest

from apps.flask_app import DEFAULTS, create_app
from apps.flask_app.settings import LEAST, SettingsError


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("value", ["abc", None, True, -3, [1]])
def test_a_number_is_a_number_that_is_large_enough(name, value):
    with pytest.raises(
        SettingsError, match=f"^KIN_APP_{name} is .*; give a (whole )?number from .* up\\.$"
    ):
        create_app({"WARM": False, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATE_LIMIT", "nonsense"),
        ("RATE_LIMIT", 5),
        ("AT_ONCE", 1.5),
        ("TRUSTED_HOSTS", "a.org"),
        ("TRUSTED_HOSTS", [1]),
    ],
)
def test_other_settings_are_checked_too(name, value):
    with pytest.raises(SettingsError, match=f"^KIN_APP_{name} is .*; give .*\\.$"):
        create_app({"WARM": False, name: value})


def test_the_defaults_can_be_used_and_every_number_among_them_is_checked():
    assert create_app({"WARM": False, "DECODE_SECONDS": 0.5}).config["DECODE_SECONDS"] == 0.5
    assert set(DEFAULTS) - set(LEAST) == {"MODEL", "RATE_LIMIT", "WARM"}
