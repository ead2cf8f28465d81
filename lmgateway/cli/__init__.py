"""The command line: ``lmgateway`` and ``python -m lmgateway``.

It is an extra, ``lmgateway-core[cli]``; without it the commands say how to install it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

INSTALL = "pip install 'lmgateway-core[cli]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, with the arguments of the process by default.

    Returns the exit status: 0; 1 when a provider or the way to it failed; 2 for a wrong usage,
    input or configuration; 130 after Ctrl-C; 141 when nobody reads the output any more.
    """
    try:
        from .application import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lmgateway"):
            raise
        print(f"lmgateway: the command line needs {error.name}: {INSTALL}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return run(list(sys.argv[1:] if arguments is None else arguments))
