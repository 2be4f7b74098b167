"""``python -m sgrace``: the command line."""

from .cli import main

main()
