"""Work that may end its process, done in another: llama.cpp aborts where others return an error."""

import subprocess
import sys
from collections.abc import Callable

from backend.core.errors import LabError


def run(module: str, *words: str, seen: Callable[[str], None] = lambda line: None) -> None:
    """`python -m module words`, to its end. What it says goes to our own stderr; `seen` is told each line.

    LabError with its last line if it ends with 1, and with what ended it otherwise. It ends when we are stopped.
    """
    command = [sys.executable, "-m", module, *words]
    line = ""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=subprocess.PIPE) as child:
        assert child.stderr
        try:
            for raw in child.stderr:
                line = raw.decode("utf-8", "replace").strip() or line
                print(line, file=sys.stderr)
                seen(line)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code < 0:
        raise LabError(f"llama.cpp ended its process (signal {-code}), and left nothing behind. Try again.")
    if code == 1 and line.endswith("."):
        raise LabError(line)
    if code:
        raise LabError(f"{module.rpartition('.')[2]} failed with {code}; the log has the details. Try again.")
