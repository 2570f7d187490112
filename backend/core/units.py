"""Bytes and seconds as people write them."""


def amount(count: int) -> str:
    """Bytes as `1.5 GB`, `12.0 MB`, `3.4 kB` or `12 B`; empty for 0."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B" if count else ""


def duration(seconds: float) -> str:
    """Seconds as `40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
