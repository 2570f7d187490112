"""GGUF files of the Llama architecture, written from Hugging Face folders without torch.
What cannot be written faithfully is refused with a sentence; a file under its final name is always whole.
`write` and `quantise` are workers; everything else here is arithmetic on files that they import.
"""
