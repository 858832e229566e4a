"""``python -m adapterhub`` is the command line."""

from adapterhub.cli import main

main()
