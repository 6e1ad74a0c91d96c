"""The console command ``kincourse``: :mod:`utils.__main__`, with the course's own ``utils``."""

from utils.__main__ import main

__all__ = ["main"]
