"""python -m examples.import_answers ANSWERS.csv

Score answers from a file (columns model, id, instruction, reference, candidate), and print the verdict.
"""

import sys
from pathlib import Path

from backend.core.settings import Settings
from backend.evaluation.request import JudgeRequest
from backend.lab import Lab
from examples.train_and_export import done


def main(path: str) -> None:
    with Lab(Settings()) as lab:
        answers = lab.evaluations.read_answers(Path(path))
        judge = JudgeRequest(kind="rule", rubric="overlap")
        request = lab.evaluations.request(answers.models, judge, answers=answers)
        run = done(lab.evaluations.start(request, answers))
        print(lab.evaluations.result(run.id).verdict.sentence)


if __name__ == "__main__":
    main(*sys.argv[1:])
