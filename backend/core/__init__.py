"""Basics that every package may import. It imports only `models`.

settings  environment variables and `.env`
errors    LabError, and what errors must not show
files     reading within limits, checksums, atomic writes, locks
jsonl     records as lines of JSON
messages  the messages of a conversation
machine   processors, memory, environment of child processes, process identity
units     bytes and seconds as text
"""
