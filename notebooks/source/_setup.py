# NBVAL_IGNORE_OUTPUT
# The same cell on a laptop and on Colab. On Colab it first fetches the course (a minute or two).
import importlib.util
import os
import site
import subprocess
import sys

if importlib.util.find_spec("utils") is None:
    repository = os.environ.get("KIN_REPO", "{repository}")
    subprocess.run(["git", "clone", "--depth", "1", repository, "kinship-course"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "kinship-course"], check=True)
    for folder in site.getsitepackages():
        site.addsitedir(folder)  # lets this running kernel find what pip has just installed

from utils import plots, settings

plots.show_as_jpeg()
settings.report()
