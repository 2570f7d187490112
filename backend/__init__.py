"""The work: talking to models, keeping runs and judgements.

Nothing here imports `app` or gradio, so that every result can be had without a screen.
A module imports from its own package or a lower floor (see README); nobody imports a worker.
torch, transformers, llama_cpp and their kin are imported by workers and by the files only workers import.
"""
