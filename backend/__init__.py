"""The work: models, runs, data, training, export, evaluation. No gradio.

Imports go from higher to lower packages only (docs/structure.md); a test reads them.

    lab         the one class that the page, the command line, tests and benches call
    core        settings, errors, files, messages, the machine
    jobs        runs: folders, events, runner, launcher
    llamacpp    everything that imports llama_cpp
    inference   answers of models: engines, workers, the messages between them
    hub         the Hugging Face Hub: names, client, errors, listings
    remote      OpenAI-compatible addresses: client, errors, retries, prices, ledger
    stats       paired comparisons and agreement
    data        datasets: formats, columns, conversations, splits
    gguf        writes GGUF from safetensors
    training    trains adapters
    export      makes variants of trained adapters
    library     model files: download, import, verify, remove, measure
    judge       one answer in, one score out
    evaluation  dataset x variants to a verdict
    report      values to figures and files
"""
