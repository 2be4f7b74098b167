"""A server that speaks the chat-completions protocol (extra ``llm``), and what may go wrong with it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from .._util.errors import InputError
from .._util.settings import Settings

URL, MODEL, KEY = "OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_API_KEY"
INSTALL = "The client of LLM servers is not installed; `pip install 'sgrace[llm]'` adds it."
MAX_BYTES = 1_000_000
MAX_TOKENS = 4000
Message = Mapping[str, str]


class Endpoint(Settings):
    """Where a language model answers. The key is shown nowhere."""

    model: str = Field(description="Name of the model, as the server knows it.")
    base_url: str = Field("https://api.openai.com/v1", description="Address of the server.")
    key: SecretStr | None = Field(None, description="Key; local servers need none.")
    timeout: float = Field(300.0, gt=0, description="Seconds until an answer must be complete.")

    @classmethod
    def from_environment(cls) -> Self:
        """The server, model and key that the environment names.

        Raises:
            InputError: no model is named, the address is none, or a server on the internet has no key.
        """
        values = {name: os.environ.get(name, "").strip() for name in (URL, MODEL, KEY)}
        if not values[MODEL]:
            raise InputError(f"Name the language model in the environment variable {MODEL}.")
        if not values[KEY] and not values[URL]:
            raise InputError(f"There is no key: set {KEY}, or {URL} to the address of a local server.")
        url = values[URL] or cls.model_fields["base_url"].default
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise InputError(f"{URL} must be an address such as http://localhost:8000/v1.")
        return cls(model=values[MODEL], base_url=url, key=SecretStr(values[KEY]) if values[KEY] else None)

    @property
    def host(self) -> str:
        """Name of the machine; an address may hold a password."""
        return urlsplit(self.base_url).hostname or ""

    def without_key(self, text: str) -> str:
        """A text of the server, in which the key may stand."""
        secret = self.key.get_secret_value() if self.key else ""
        return text.replace(secret, "***") if secret else text

    def answer(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> str:
        """What the model says, as it stands. Limits of the rate and faults of the server are retried twice.

        Raises:
            InputError: the client is not installed, or there is no answer; the error never holds the
                server's own words, because the key may be among them.
        """
        try:
            import openai  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise InputError(INSTALL) from error
        secret = self.key.get_secret_value() if self.key else "none"
        try:
            with openai.OpenAI(
                api_key=secret, base_url=self.base_url, timeout=self.timeout, max_retries=2
            ) as client:
                return self._answer(client, messages, schema)
        except openai.AuthenticationError:
            why = f"refuses the key in {KEY}"
        except openai.RateLimitError:
            why = "takes no more requests now; try again later"
        except openai.APITimeoutError:
            why = f"has not answered within {self.timeout:g} s"
        except openai.APIConnectionError:
            why = f"cannot be reached; see {URL}"
        except openai.APIStatusError as error:
            why = f"answers with status {error.status_code}; see {URL} and {MODEL}"
        raise InputError(f"The language model at {self.host} {why}.")

    def _answer(self, client: Any, messages: Sequence[Message], schema: Mapping[str, Any]) -> str:  # noqa: ANN401
        """Read as it comes: an answer without an end, or one that comes in drops, is not waited for."""
        request = {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "response_format": {"type": "json_schema", "json_schema": {"name": "words", "schema": schema}},
        }
        end = time.monotonic() + self.timeout
        body = b""
        with client.chat.completions.with_streaming_response.create(**request) as response:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise InputError(
                        f"The answer of the language model at {self.host} is larger than {MAX_BYTES:,} bytes."
                    )
                if time.monotonic() > end:
                    raise InputError(
                        f"The language model at {self.host} has not answered within {self.timeout:g} s."
                    )
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise InputError(
                f"The server at {self.host} does not speak the chat-completions protocol; see {URL}."
            ) from None
        return self.without_key(content) if isinstance(content, str) else ""
