"""Exports the adapter of a training run as a variant: merged and quantised, or as a GGUF adapter.

Runs as a job; the page starts it and reads its run folder, and never imports it.

    check   compares the logits of the exported file with those of the training run
    export  worker: exports one adapter
"""
