"""Answers of models. One worker process per base model, many requests at the same time.

The workers are named in the string table `RUNTIMES` and are never imported.

    sampling      generation settings, and the statistics of an answer
    protocol      the messages between engine and worker
    reply         an answer that is still arriving
    conversation  turns, and saving them
    placement     the files and the prompt format of a variant
    memory        the memory that a model needs
    engines       the engines that run, within free memory
    engine        the handle of one worker process
    process       the worker process: pipes, last output, timeout
    worker        the workers
"""
