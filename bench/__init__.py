"""Measurements: each file is a command that prints a table beside a peer, and a line per aim.

Claims are ratios, taken side by side in one run; the machine's own speed cancels out.
Nothing imports a bench.
"""
