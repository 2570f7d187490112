"""Talking to models: one child process per base model, many requests in flight.

`Engines` owns the processes and `Reply` is an answer still arriving; nothing else is meant for other packages.
The workers (`llama`, `echo`) are names in `RUNTIMES`, never imported; files only they use may import llama_cpp.
llama.cpp can abort its process on bad input, so it never runs where the screen runs.
"""
