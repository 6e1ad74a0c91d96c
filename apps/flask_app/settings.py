"""Whether the app can run with its settings."""

from collections.abc import Mapping
from typing import Any

import limits

from utils.errors import CourseError

# The smallest value of every setting that is a number.
LEAST = {
    "AT_ONCE": 1,
    "WAITING": 0,
    "WAIT_SECONDS": 0.01,
    "MAX_CONTENT_LENGTH": 1,
    "MAX_FORM_MEMORY_SIZE": 1,
    "MAX_FORM_PARTS": 1,
    "MAX_PIXELS": 1,
    "DECODE_SECONDS": 0.01,
    "PROXIES": 0,
    "CONNECTIONS": 1,
    "HEADER_SECONDS": 0.01,
    "BODY_SECONDS": 0.01,
    "GRACE_SECONDS": 0,
}
FRACTIONS = {
    "WAIT_SECONDS",
    "DECODE_SECONDS",
    "HEADER_SECONDS",
    "BODY_SECONDS",
    "GRACE_SECONDS",
}
WHOLE = set(LEAST) - FRACTIONS


class SettingsError(CourseError):
    """A setting that cannot be used."""


def check(config: Mapping) -> None:
    """Look at every setting before anybody is served.

    Raises:
        SettingsError: names the setting, and says what it should be.
    """
    # numbers
    for name in LEAST:
        _check_number(name, config[name])
    # what has a syntax of its own
    try:
        limits.parse_many(config["RATE_LIMIT"])
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"KIN_APP_RATE_LIMIT is {config['RATE_LIMIT']!r:.40}; give something like "
            "20 per minute."
        ) from error
    # a list
    hosts = config["TRUSTED_HOSTS"]
    if hosts is not None and not _are_names(hosts):
        raise SettingsError(
            f"KIN_APP_TRUSTED_HOSTS is {hosts!r:.40}; give a list of names in JSON, such as "
            '["kinship.example.org", "127.0.0.1"].'
        )


def _check_number(name: str, value: Any) -> None:
    """A number that is large enough; True and False are none."""
    kind, whole = (int, "whole ") if name in WHOLE else ((int, float), "")
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or value < LEAST[name]:
        raise SettingsError(
            f"KIN_APP_{name} is {value!r:.40}; give a {whole}number from {LEAST[name]} up."
        )


def _are_names(hosts: object) -> bool:
    return isinstance(hosts, list) and all(isinstance(host, str) for host in hosts)
