"""Serving for the length of a with-block."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ray import serve

from serve.app import AppArgs, build
from textremove.errors import ConfigError, UserError
from textremove.presets import check_models

APP_NAME = "textremove"

_USER_ERROR = re.compile(r"textremove\.errors\.\w+: (.+)")


@contextmanager
def serving(args: AppArgs, *, host: str = "127.0.0.1", port: int = 8000) -> Iterator[str]:
    """Serves on this machine's Ray, which must be connected already, and stops Serve at the end.

    Args:
        args: What to serve.
        host: Address to listen on.
        port: Port to listen on.

    Yields:
        The base URL; the application answers when the block begins.

    Raises:
        UserError: The port is taken, or a model cannot be loaded.
    """
    check_models(  # Serve would try for two minutes
        args.segmenter,
        args.inpainter,
        adapter=args.adapter,
        adapters=args.adapters,
        num_steps=args.num_steps,
        options=args.diffusion,
        samples=args.removal.samples,
    )
    _check_free(host, port)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(http_options={"host": host, "port": port})
    try:
        _run(args)
        yield f"http://{host}:{port}"
    finally:
        serve.shutdown()


def _run(args: AppArgs) -> None:
    try:
        serve.run(build(args), name=APP_NAME, route_prefix="/")
    except RuntimeError:
        # Serve keeps what happened in a replica as text alone.
        deployments = serve.status().applications[APP_NAME].deployments.values()
        mistakes = [match[1] for match in (_USER_ERROR.search(one.message) for one in deployments) if match]
        if not mistakes:
            raise
        raise UserError(mistakes[0]) from None


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot listen on {host}:{port} ({reason}); choose another --port") from None
