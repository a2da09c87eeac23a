"""`python -m serve`: the application on this machine, until Ctrl-C.

On a cluster, `serve deploy serve/config.yaml` serves the same and leaves it running.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

import tyro
from pydantic import Field

from serve.app import AppArgs
from serve.running import serving
from textremove.errors import UserError
from textremove.onray.cluster import connect


class ServeConfig(AppArgs):
    """Serve removals over HTTP on this machine, until Ctrl-C."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")


def main(config: ServeConfig) -> None:
    """Serves until interrupted."""
    args = AppArgs.model_validate(config.model_dump(exclude={"host", "port"}))
    print(f"starting {args.segmenter} and {args.inpainter} (about half a minute)", flush=True)
    with connect(), serving(args, host=config.host, port=config.port) as url:
        print(f"serving on {url} (documentation: {url}/docs)")
        print(
            f'  curl -F image=@photo.jpg -F prompt="person at the left" {url}/v1/removals -o clean.jpg\n'
            f"Ctrl-C stops it",
            flush=True,
        )
        threading.Event().wait()


def _status() -> int:
    try:
        config = tyro.cli(ServeConfig, config=(tyro.conf.OmitArgPrefixes,))  # --samples
        signal.signal(signal.SIGTERM, _interrupt)  # stopped by a process manager, it clears up the same way
        main(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(_status())
