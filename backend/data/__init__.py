"""Rows from anywhere, as conversations one can trust: read, recognised, cleaned, and counted when they are dropped.

It knows nothing of tokens or models. What reads Parquet or the Hub is imported by workers only.
"""
