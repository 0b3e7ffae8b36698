"""The entry point: `deepstruct` and `python -m deepstruct`."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command; Ctrl-C while it is still being imported ends it without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from deepstruct import cli, running

    running.main(cli.cli)


if __name__ == "__main__":
    main()
