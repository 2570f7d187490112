"""Processes in a mount namespace of their own."""

import subprocess

from conftest import ROOT


def in_a_namespace(mounts: str, *command: str) -> str:
    """What a command prints that sees the disks as `mounts`, a line of sh, makes them."""
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-ec", f'{mounts}; exec "$@"', "sh", *command],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
