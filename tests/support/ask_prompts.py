"""python tests/support/ask_prompts.py MODEL CHATS.json: token ids of prompts, as the inference worker writes them.

Each chat is [template, messages]; an empty template is the model's own. Needs the project on PYTHONPATH.
"""

import json
import sys
from pathlib import Path

from backend.core.messages import Message
from backend.llamacpp.chat_template import ChatTemplate, encode
from backend.llamacpp.model import Model


def prompts(path: str, chats: list[tuple[str, list[Message]]]) -> list[list[int]]:
    model = Model(path)
    found = []
    for source, messages in chats:
        template = ChatTemplate(source or model.template, model.bos, model.eos, model.control)
        found.append(encode(template.parts(messages), model.control, model.special, model.words))
    return found


if __name__ == "__main__":
    print(json.dumps(prompts(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))))
