"""``python -m adapterhub.cli``, where the command is not on the path."""

from adapterhub.cli import main

main()
