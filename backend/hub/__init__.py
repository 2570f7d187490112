"""Access to the Hugging Face Hub: its client with retries, its errors as sentences, names, and lists of files.

`client`, `errors` and `list_files` import huggingface_hub: only workers and files that workers import may import these.

    client      the Hub's client with timeouts and retries
    errors      errors of the client as sentences for people
    list_files  worker that lists the files of a repository
    listing     runs that worker and parses its output
    names       checks names of repositories, revisions and files
"""
