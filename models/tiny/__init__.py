"""The embedded model: weights small enough for git, and the scripts that made them.
Nothing here imports the rest of the lab; the GGUF writer is asked for as a command.
The curriculum is plain standard library, so that whoever asks the questions needs no torch."""
