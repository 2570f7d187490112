"""The variants that exist, their files, and the embedded model.

Imports no other package of this project, so that every package may import it. Reads headers, but no weights.

    catalogue    lists the variants with their states
    check        checks GGUF files before llama.cpp reads them
    crash_marks  marks for files that crashed a process or are damaged
    templates    chat templates of templates.toml
    tiny         makes the embedded model
    variant      the record of a variant
"""
