"""From a form to a GGUF: what is asked, what it will cost, the training itself, and what is made of it.

A spec says every setting once. Workers (train, export, inspect) do the work in processes of their own; the screen reads
what they wrote into the run's folder and never imports torch.
"""
