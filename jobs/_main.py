"""What all jobs share: arguments by tyro, a user's mistake as one line, Ctrl-C without a mess."""

from __future__ import annotations

import errno
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, get_type_hints

import tyro

from textremove.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM

_DISK_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


Parse = Callable[[Sequence[str] | None], Any]


def run(
    main: Callable[[Any], object], argv: Sequence[str] | None = None, *, parse: Parse | None = None
) -> NoReturn:
    """Runs a job's main function from the command line and exits.

    The exit status is 0 when done, 2 for a user's mistake (one line `error: ...` on stderr), 130
    after Ctrl-C and 143 after SIGTERM (one line each). Our own bugs keep their traceback and exit 1.

    Args:
        main: Takes the job's config, a dataclass that its annotation names; its docstring is the help.
        argv: Arguments without the program name; None for those of the process.
        parse: Makes the config of the arguments; by default plain tyro.
    """
    sys.exit(_status(main, argv, parse))


def _status(main: Callable[[Any], object], argv: Sequence[str] | None, parse: Parse | None = None) -> int:
    terminated = threading.Event()

    def terminate(signum: int, frame: FrameType | None) -> None:
        terminated.set()
        # Of what a handler raises while it waits for a result, Ray lets nothing but this end the waiting.
        raise KeyboardInterrupt

    try:
        if parse is not None:
            config = parse(argv)
        else:
            config = tyro.cli(
                _config_type(main),
                args=argv,
                description=inspect.getdoc(main),
                config=(tyro.conf.OmitArgPrefixes,),  # --tracking-uri, not --tracking.tracking-uri
            )
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)
        with _interrupts_are_kept():
            main(config)
    except KeyboardInterrupt:
        if terminated.is_set():
            return _complain("terminated", EXIT_TERMINATED)
        return _complain("interrupted", EXIT_INTERRUPTED)
    except Exception as error:
        mistake = _user_error(error)
        if mistake is None:
            raise
        return _complain(f"error: {mistake}", EXIT_USER_ERROR)
    return 0


@contextmanager
def _interrupts_are_kept() -> Iterator[None]:
    """Sends an interrupt again that came while a destructor or a weak reference's callback ran.

    Python prints what is raised in those and goes on, and the job would run to its end after Ctrl-C.
    """
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            before(unraisable)
        else:  # from another thread, since here it would be lost once more
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _complain(line: str, status: int) -> int:
    print(" ".join(line.split()), file=sys.stderr, flush=True)
    return status


def _config_type(main: Callable[[Any], object]) -> Any:
    (parameter,) = inspect.signature(main).parameters.values()
    return get_type_hints(main)[parameter.name]


def _user_error(error: BaseException) -> BaseException | None:
    """Finds the user's mistake behind an error, however Ray has wrapped it; None when it is a bug."""
    for inner in _causes(error):
        # Ray's wrapper is an instance of what it wraps too, but its text is a whole traceback.
        if isinstance(inner, UserError) and not hasattr(inner, "cause"):
            return inner
        if isinstance(inner, OSError) and inner.errno in _DISK_ERRORS:
            return inner
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        inner = pending.pop(0)
        if not isinstance(inner, BaseException) or id(inner) in seen:
            continue
        seen.add(id(inner))
        yield inner
        failures = getattr(inner, "worker_failures", None)  # of ray.train's failed worker groups
        pending += [getattr(inner, "cause", None), inner.__cause__]
        pending += list(failures.values()) if isinstance(failures, dict) else []
