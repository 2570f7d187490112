"""`python -m backend.gguf.write base|adapter FOLDER OUT [--type f16] [--name NAME] [--base FOLDER]`

Writes a GGUF from a Hugging Face model folder or a PEFT adapter folder. The exit code is 0, or 1 after an error
message.
"""

import argparse
import logging
import sys
from pathlib import Path

from backend.core.errors import LabError
from backend.gguf.adapter import write_adapter
from backend.gguf.model import FILE_TYPES, write_base


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Write a GGUF.")
    parser.add_argument("what", choices=("base", "adapter"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", default="f16", type=str.lower, choices=[kind.lower() for kind in FILE_TYPES])
    parser.add_argument("--name", help="name in the header; default: name of the folder")
    parser.add_argument("--base", type=Path, help="folder of the base of an adapter; default: the one in its settings")
    parser.add_argument("--base-name", help="name of the base of an adapter")
    return parser.parse_args()


def main() -> int:
    """Write the file, or print the error."""
    options = arguments()
    logging.getLogger("gguf").setLevel(logging.ERROR)
    kind, name = options.type.upper(), options.name or options.folder.resolve().name
    try:
        if options.what == "base":
            write_base(options.folder, options.out, kind, name)
        else:
            write_adapter(options.folder, options.out, kind, name, options.base, options.base_name)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.1f} MB, {options.type})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
