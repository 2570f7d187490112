"""Everything that imports llama_cpp. Imported by workers only: bad input can end the process.

model          a GGUF: weights, vocabulary, adapters, samplers
context        a llama_context with slots: batches of several requests
chat_template  messages to tokens, within limits of time and memory
logits         WORKER: the logits of a GGUF for given tokens
quantise       WORKER: F16 GGUF to Q4_K_M and others
"""
