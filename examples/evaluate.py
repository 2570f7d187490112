"""python -m examples.evaluate ROWS VARIANT VARIANT...

Ask every variant the held-out questions of the embedded model, and print the verdict.
"""

import sys

from backend.core.settings import Settings
from backend.data.dataset import TINY, TINY_EVAL, DatasetSpec
from backend.evaluation.request import JudgeRequest
from backend.lab import Lab
from examples.train_and_export import done


def main(rows: str, *variants: str) -> None:
    with Lab(Settings()) as lab:
        data = DatasetSpec(source=TINY, rows=1, held_first=TINY_EVAL, held_rows=int(rows))
        request = lab.evaluations.request(variants, JudgeRequest(kind="rule", rubric="overlap"), data)
        run = done(lab.evaluations.start(request))
        print(lab.evaluations.result(run.id).verdict.sentence)


if __name__ == "__main__":
    main(*sys.argv[1:])
