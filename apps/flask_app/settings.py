"""Are the settings of the app such that it can run with them?"""

from collections.abc import Mapping

import limits

from utils.errors import CourseError

LEAST = {"AT_ONCE": 1, "WAITING": 0, "WAIT_SECONDS": 0.01, "MAX_CONTENT_LENGTH": 1, "MAX_FORM_MEMORY_SIZE": 1,
         "MAX_FORM_PARTS": 1, "MAX_PIXELS": 1, "DECODE_SECONDS": 0.01, "PROXIES": 0}
WHOLE = set(LEAST) - {"WAIT_SECONDS", "DECODE_SECONDS"}


class SettingsError(CourseError):
    """A setting that cannot be used."""


def check(config: Mapping) -> None:
    """Raises SettingsError, naming the setting and what it should be."""
    for name, least in LEAST.items():
        value, kind = config[name], int if name in WHOLE else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or value < least:
            whole = "whole " if name in WHOLE else ""
            raise SettingsError(f"KIN_APP_{name} is {value!r:.40}; give a {whole}number from {least} up.")
    try:
        limits.parse_many(config["RATE_LIMIT"])
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"KIN_APP_RATE_LIMIT is {config['RATE_LIMIT']!r:.40}; give something like "
                            "20 per minute.") from error
    hosts = config["TRUSTED_HOSTS"]
    if hosts is not None and not (isinstance(hosts, list) and all(isinstance(host, str) for host in hosts)):
        raise SettingsError(f"KIN_APP_TRUSTED_HOSTS is {hosts!r:.40}; give a list of names in JSON, such as "
                            '["kinship.example.org", "127.0.0.1"].')
