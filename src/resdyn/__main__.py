"""The script `resdyn`, and `python -m resdyn`: Ctrl-C is heard from the start, before anything slow is loaded."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line; an interruption is one line on standard error and exit code 130."""
    try:
        from resdyn.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("resdyn: interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        # What is left to do is to leave: a second Ctrl-C ends that at once, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
