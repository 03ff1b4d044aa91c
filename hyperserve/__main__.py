"""`python -m hyperserve` is the `hyperserve` command."""

from hyperserve.cli import main

main()
