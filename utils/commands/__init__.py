"""The command line: one file a topic, each verb declared beside the function that runs it."""

import argparse


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options.

    Returns:
        A parser whose result has ``run``, the function of the verb, ``json`` and
        ``verbose``.
    """
    from . import album, answers, data, faces, gallery, scoring, training  # each has its verbs
    from .verbs import parser_of

    return parser_of([data, faces, training, scoring, answers, gallery, album])
