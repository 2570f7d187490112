"""How a model file gets here and how it leaves: named, listed, downloaded, brought, verified, placed, removed.

A variant is whole and verified, or absent: what arrives is staged in `weights/.arriving/` and placed by one rename.
The Hub's client is imported by workers only; the screen asks through `ask` and starts the rest as runs.
Every name from outside passes the allow-lists of `names`, wherever it comes from.
"""
