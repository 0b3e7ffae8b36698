"""How a command runs and ends: signals, streams that are closed or full, errors in one sentence, exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import click

from deepstruct.errors import DeepstructError, DeepstructWarning


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def main(command: click.Command) -> NoReturn:
    """Runs a command with the arguments of this process, and exits with the code of what happened."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)  # so that temporary files are removed
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", DeepstructWarning)
    warnings.showwarning = lambda message, *_: say(f"warning: {message}")
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:  # closed by the caller
            setattr(sys, stream, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the whole run
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    code = run(lambda: command.main(arguments, standalone_mode=False, prog_name="deepstruct"), debug)
    _abandon(sys.stdout)
    _abandon(sys.stderr)
    sys.exit(code)


def _abandon(stream: Any) -> None:
    """Lets go of text that cannot be written, over which the interpreter would fail once more when it exits."""
    try:
        stream.flush()
    except OSError:
        _discard(stream)


def _discard(stream: Any) -> None:
    """Sends nowhere what is still to be written to a stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(message: str) -> None:
    """Tells a person something, who may not be there any more."""
    try:
        click.echo(message, err=True)
    except OSError:
        _discard(sys.stderr)


def run(command: Callable[[], object], debug: bool) -> int:
    """Exit code of a command; prints its error, if any, in one piece."""
    try:
        result = command()
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted; no file is half-written")
        return 130
    except SystemExit as error:
        if error.code == 1:  # click's answer to a closed pipe; commands leave by Exit
            return 0
        return error.code if isinstance(error.code, int) else 70
    except Exception as error:
        if debug:
            traceback.print_exc()
        code, message = _explain(error)
        say(f"error: {message}")
        return code


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and message of an error."""
    if isinstance(error, DeepstructError):
        return error.exit_code, str(error)
    if isinstance(error, OSError):
        return 7, f"standard output cannot be written: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return 3, "not enough memory for this file"
    return 70, f"a bug in deepstruct ({type(error).__name__}: {error}); run again with --debug and report it"
