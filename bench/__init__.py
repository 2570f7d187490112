"""Measurements: each file is a command that prints a table beside a peer, and one line per aim.

Claims are ratios, taken side by side in one run. No module imports this package.

    start         start-up beside a bare Gradio page
    tiny          held-out questions of the embedded model
    library       a download beside the Hub's client and curl; the header check
    train         the trainer beside a bare TRL script
    export        an export beside llama.cpp's tools
    export_model  the model that is exported
    engine        answers beside llama-server, llama-bench and the loop of the lab report
    engine_app    the page: text at a client, and idle
    engine_guesses whether guessed tokens would be faster
    engine_kernels what the steps of llama.cpp cost
    engine_models the models that answer
    engine_peers  builds and runs the peers
    engine_work   the prompts, and the app's side
    judge         100 judgements beside the loop of the lab report
    coverage      intervals and verdicts where the truth is known
    shapes        a GGUF in the shapes of Llama 3.2
    structure     files and lines of the code
"""
