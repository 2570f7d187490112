"""What exists: variants, their files, the embedded default.

Imports nothing of ours, so that anything may import it.
Reads headers, never tensors: no weight is loaded here.
Adding a variant is a change to `catalogue.toml` or a file in `weights/`, not to code.
"""
