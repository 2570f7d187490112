"""Writes GGUF files of the Llama architecture from Hugging Face folders, without torch. Never starts llama.cpp.

A model or adapter that GGUF cannot represent exactly is refused with a LabError. A file has its final name only when it
is complete.

    adapter     writes a PEFT LoRA folder as a GGUF adapter
    llama       shape, tensor names, row order and rope factors of a Llama
    model       writes a Hugging Face folder as a GGUF model, with a LoRA merged into it
    tensors     reads safetensors, converts types, merges LoRA updates
    vocabulary  reads the tokenizer of a Hugging Face folder
    write       worker: the command line
"""
