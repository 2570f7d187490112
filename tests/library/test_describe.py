"""What is told of one variant: from its record, its header, and its base beside it."""

import shutil
from pathlib import Path

from conftest import TINY

from backend.lab import Lab
from models.check import read_header
from models.variant import Variant


def facts(lab: Lab, variant: str) -> dict[str, str]:
    return lab.describe(variant).facts


def test_the_toy_is_told_from_its_header(lab: Lab) -> None:
    found = lab.describe("tiny_base")
    assert found.facts["Parameters"] == "3,410,208" and found.facts["Quantisation"] == "Q4_K_M"
    assert found.facts["Context"] == "trained for 1,024 tokens, 1,024 used here"
    assert "4 conversations of 1,024 tokens" in found.facts["Memory"]
    header = read_header(TINY / "tiny_base.gguf")
    assert {name for name, _ in found.header} == set(header.keys) | set(header.lists)
    assert found.template == header.template != ""


def test_a_fine_tunes_template_is_compared_with_its_bases(lab: Lab) -> None:
    own = (TINY / "base" / "chat_template.jinja").read_bytes()
    whole = (TINY / "tiny_base.gguf").read_bytes()
    for name, data in (("same", whole), ("other", whole.replace(own, own.replace(b"role", b"elor")))):
        folder = lab.settings.lab_weights / name
        folder.mkdir()
        (folder / "m.gguf").write_bytes(data)
        record = Variant(id=name, file="m.gguf", base="tiny_base", method="qlora")
        (folder / "variant.json").write_text(record.model_dump_json())
    assert facts(lab, "same")["Chat template"] == "the same as that of tiny_base"
    assert facts(lab, "other")["Chat template"] == "different from that of tiny_base, its base"


def test_a_file_of_unknown_origin_is_not_said_to_be_a_base(lab: Lab) -> None:
    shutil.copy(TINY / "tiny_base.gguf", lab.settings.lab_weights / "mine.gguf")
    assert "cannot be compared" in facts(lab, "mine")["Chat template"]


def test_a_missing_pre_tokenizer_is_said(lab: Lab) -> None:
    assert facts(lab, "tiny_base")["Pre-tokenizer"] == ""
    whole = (TINY / "tiny_base.gguf").read_bytes()
    assert whole.count(b"tokenizer.ggml.pre") == 1
    (lab.settings.lab_weights / "mine.gguf").write_bytes(whole.replace(b"tokenizer.ggml.pre", b"tokenizer.ggml.xxx"))
    assert "not named in the file" in facts(lab, "mine")["Pre-tokenizer"]


def test_an_adapter_is_told_with_the_base_it_runs_over(lab: Lab) -> None:
    found = facts(lab, "tiny_lora")
    assert found["Architecture"] == "llama, a LoRA adapter"
    assert found["Chat template"] == "that of tiny_base, over which it runs"


def test_what_is_not_here_has_a_page(lab: Lab) -> None:
    found = lab.describe("1b_qlora")
    assert found.page == "https://huggingface.co/jacobbista/llama3-1b-finetome"
    assert found.facts["From"] == "jacobbista/llama3-1b-finetome, 1B_QLoRA_N1000"
    assert found.facts["Trained on the template"] == "alpaca" and found.header == []


def test_a_damaged_file_is_told_with_its_fault(lab: Lab) -> None:
    Path(lab.settings.lab_weights / "page.gguf").write_text("<!DOCTYPE html><html>404</html>")
    found = lab.describe("page")
    assert found.state == "damaged" and "web page" in found.why
