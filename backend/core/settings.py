"""Secrets, places and limits, read once from the environment and `.env`. All are optional."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.core.errors import LabError, shown

ROOT = Path(__file__).parents[2]


def _in_the_repository(path: Path) -> Path:
    """A relative path is relative to the repository, whatever the current directory is."""
    try:
        return ROOT / path.expanduser()
    except RuntimeError as error:  # ~name of a user that is not there
        raise ValueError("there is no such home folder") from error


Folder = Annotated[Path, AfterValidator(_in_the_repository)]


class Settings(BaseSettings):
    """One field per line of `env.template` (a test holds the two together)."""

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    hf_username: str = ""
    hf_token: SecretStr = SecretStr("")
    wandb_api_key: SecretStr = SecretStr("")
    wandb_project: str = "peft-lab"
    openai_api_key: SecretStr = SecretStr("")
    judge_model: str = "gpt-4o-mini"
    judge_base_url: str = ""
    judge_free: bool = False
    judge_cap_run: float = Field(1.0, ge=0, le=1000, allow_inf_nan=False)
    judge_cap_day: float = Field(5.0, ge=0, le=10_000, allow_inf_nan=False)

    port: int = Field(7860, ge=0, le=65535)
    lab_host: str = "127.0.0.1"
    lab_hosts: str = ""
    lab_trusted: bool = False
    lab_runs: Folder = Path("runs")
    lab_weights: Folder = Path("models/weights")

    lab_threads: int = Field(0, ge=0, le=256)
    lab_context: int = Field(4096, ge=256, le=131072)
    lab_slots: int = Field(4, ge=1, le=64)
    lab_waiting: int = Field(16, ge=0, le=1000)
    lab_visitor_tokens: int = Field(256, ge=1, le=8192)

    space_id: str = ""
    space_host: str = ""
    space_creator_user_id: str = ""
    oauth_client_secret: SecretStr = SecretStr("")

    def secrets(self) -> tuple[str, ...]:
        """What must never be printed."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))


def settings_from_environment() -> Settings:
    """The settings of the environment and of `.env`. LabError with the first that cannot be used."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise LabError(
            f"{name.upper()}={shown(str(first['input']))} cannot be used: {_allowed(name)}. Correct it in the "
            "environment or in .env, then start again."
        ) from None
    except (UnicodeDecodeError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise LabError(
            f"The file .env in {ROOT.name}/ cannot be read: {why}. Write it again after env.template, or remove it."
        ) from None


def _allowed(name: str) -> str:
    """What a setting may be."""
    field = Settings.model_fields[name]
    bounds = {bound: getattr(rule, bound) for rule in field.metadata for bound in ("ge", "le") if hasattr(rule, bound)}
    if field.annotation is bool:
        return "write 1 or 0"
    if bounds:
        what = "a whole number" if field.annotation is int else "a number"
        return f"write {what} from {bounds['ge']} to {bounds['le']}"
    return "write the path of a folder" if name in ("lab_runs", "lab_weights") else "write a text"
