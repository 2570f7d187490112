"""python -m examples.chat "What is the capital of France?" [VARIANT]

Ask a variant, and print its answer while it arrives.
"""

import sys

from backend.core.messages import Message
from backend.core.settings import Settings
from backend.inference.sampling import Sampling
from backend.lab import Lab


def main(question: str, variant: str = "tiny_base") -> None:
    with Lab(Settings()) as lab:
        messages = [Message(role="user", content=question)]
        reply = lab.reply(variant, messages, Sampling(temperature=0, max_tokens=200))
        for piece in reply:
            print(piece, end="", flush=True)
        assert reply.generation
        print(f"\n({reply.generation.tokens} tokens, {reply.generation.tokens_per_second:.0f} tokens/s)")


if __name__ == "__main__":
    main(*sys.argv[1:])
