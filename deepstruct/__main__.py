"""`python -m deepstruct` is the command `deepstruct`."""

from deepstruct.cli import main

main()
