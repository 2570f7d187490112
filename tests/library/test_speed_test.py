"""A speed test measures a base and an adapter over it, and a variant that cannot be loaded is refused."""

import pytest
from support.session import until

from backend.core.errors import LabError
from backend.lab import Lab


def test_speeds_of_a_base_and_of_its_adapter_are_measured_and_kept(lab: Lab) -> None:
    for variant in ("tiny_base", "tiny_lora"):
        run = lab.library.speed(variant)
        until(lambda run=run: not run.live, 120)  # type: ignore[misc]
        assert run.state == "done", (run.why, run.log(20))
    newest, older = lab.library.speeds()
    assert (newest.id, older.id) == ("tiny_lora", "tiny_base")
    for result in (newest, older):
        assert result.prompt_speed > 0 and result.generation_speed > 0 and result.memory > 10**7
        assert result.threads >= 1 and result.repeats >= 1 and result.machine


def test_a_variant_that_is_not_here_is_not_measured(lab: Lab) -> None:
    with pytest.raises(LabError, match="base_1b cannot be measured"):
        lab.library.speed("base_1b")
