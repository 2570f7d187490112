"""Secrets, places and limits, read once from the environment and `.env`. All are optional."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One field per line of `env.template` (a test holds the two together)."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    hf_username: str = ""
    hf_token: SecretStr = SecretStr("")
    wandb_api_key: SecretStr = SecretStr("")
    wandb_project: str = "peft-lab"
    openai_api_key: SecretStr = SecretStr("")
    judge_model: str = "gpt-4o-mini"
    judge_base_url: str = ""
    judge_cap_run: float = Field(1.0, ge=0, le=1000)
    judge_cap_day: float = Field(5.0, ge=0, le=10_000)

    port: int = Field(7860, ge=0, le=65535)
    lab_host: str = "127.0.0.1"
    lab_hosts: str = ""
    lab_trusted: bool = False
    lab_runs: Path = Path("runs")
    lab_weights: Path = Path("models/weights")

    lab_threads: int = Field(0, ge=0, le=256)
    lab_context: int = Field(4096, ge=256, le=131072)
    lab_slots: int = Field(4, ge=1, le=32)
    lab_waiting: int = Field(16, ge=0, le=1000)
    lab_visitor_tokens: int = Field(256, ge=1, le=8192)

    space_id: str = ""
    space_creator_user_id: str = ""
    oauth_client_secret: SecretStr = SecretStr("")

    def secrets(self) -> tuple[str, ...]:
        """What must never be printed."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))
