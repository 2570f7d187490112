"""python -m examples.compare "What is the capital of Italy?" tiny_base tiny_lora

Send one question to several variants, which answer at the same time.
"""

import sys

from backend.core.messages import Message
from backend.core.settings import Settings
from backend.inference.sampling import Sampling
from backend.lab import Lab


def main(question: str, *variants: str) -> None:
    with Lab(Settings()) as lab:
        messages = [Message(role="user", content=question)]
        sampling = Sampling(temperature=0, max_tokens=200)
        replies = [lab.reply(variant, messages, sampling) for variant in variants]
        for variant, reply in zip(variants, replies, strict=True):
            print(f"{variant}: {reply.text()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
