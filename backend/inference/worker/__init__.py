"""The processes that answer. Started by `inference.process`, never imported by the app.

llama       WORKER: GGUF models by llama.cpp
echo        WORKER: repeats the user's words; for tests and for a laptop without a model
pipe        requests in, events out
stop_texts  bytes to text, up to a stop text
"""
