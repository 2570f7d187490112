"""The public API of the page: every endpoint shows named parameters to `gradio_client`."""

from typing import Any

import pytest
from conftest import App
from gradio_client import Client

from app import forms
from backend.data.dataset import DatasetSpec
from backend.evaluation.request import EvaluateOptions, JudgeOptions
from backend.inference.sampling import Sampling
from backend.training.request import TrainSettings

SAMPLING = forms.names(Sampling)


@pytest.fixture(scope="module")
def endpoints(app: App) -> dict[str, Any]:
    client = Client(app.url, verbose=False, analytics_enabled=False)
    described: dict[str, Any] = client.view_api(return_format="dict", print_info=False)
    return described["named_endpoints"]


def names(endpoints: dict[str, Any], endpoint: str) -> list[str]:
    return [parameter["parameter_name"] for parameter in endpoints[endpoint]["parameters"]]


def test_no_public_endpoint_has_a_parameter_without_a_name(endpoints: dict[str, Any]) -> None:
    unnamed = {
        name: names(endpoints, name) for name in endpoints if any(p[:6] == "param_" for p in names(endpoints, name))
    }
    assert unnamed == {} and len(endpoints) > 30


@pytest.mark.parametrize(
    ("endpoint", "parameters"),
    [
        ("/chat", ["message", "variant", "prompt_format", "system_prompt", *SAMPLING]),
        (
            "/compare",
            ["prompt", "variant_a", "variant_b", "variant_c", "variant_d", "blind", "pace", "system_prompt", *SAMPLING],
        ),
        ("/train", [*(f"data_{name}" for name in forms.names(DatasetSpec)), *forms.names(TrainSettings)]),
        (
            "/evaluate",
            [
                "variants", "source", "rows", "file", "judge", "rubric", "baseline", *forms.names(EvaluateOptions),
                *(f"judge_{name}" for name in forms.names(JudgeOptions)), *SAMPLING,
            ],
        ),
        ("/export_run", ["run", "form", "quantisation", "importance"]),
        ("/judge_scores", ["judge", "rubric", "reference"]),
    ],
)  # fmt: skip
def test_a_form_s_parameters_are_its_controls(endpoints: dict[str, Any], endpoint: str, parameters: list[str]) -> None:
    assert names(endpoints, endpoint) == parameters


def test_a_message_can_be_sent_by_name(app: App) -> None:
    client = Client(app.url, verbose=False, analytics_enabled=False, download_files=False)
    values = Sampling(temperature=0, seed=1, max_tokens=20).model_dump()
    outputs = client.predict(
        message="What is the capital of France?", variant="tiny_base", prompt_format="as trained", system_prompt="",
        api_name="/chat", **values,
    )  # fmt: skip
    assert "Paris" in str(outputs[1])
    with pytest.raises(Exception, match="Temperature must be a number from 0 to 2"):
        client.predict(
            message="Hello", variant="tiny_base", prompt_format="as trained", system_prompt="", api_name="/chat",
            **(values | {"temperature": 9}),
        )  # fmt: skip
