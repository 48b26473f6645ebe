"""Drives OpenAI's official client against a pool with API keys. Usage: openai_keys.py URL RECORDING KEY LIMITED_KEY"""

import sys

import openai

url, recording, key, limited = sys.argv[1:]


def transcribe(key, file=None, **options):
    client = openai.OpenAI(base_url=url + "/v1", api_key=key, **{"max_retries": 0, **options})
    if file is not None:
        return client.audio.transcriptions.create(file=("large.wav", file), model="whisper-1").text
    with open(recording, "rb") as opened:
        return client.audio.transcriptions.create(file=opened, model="whisper-1").text


def fails(kind, *arguments, **options):
    try:
        transcribe(*arguments, **options)
    except kind as error:
        return error
    raise SystemExit(f"no {kind.__name__} with {options}")


# With the client's own retries on: a wrong key is not tried again.
error = fails(openai.AuthenticationError, "sk-nobody-has-this-key-0123456789", max_retries=5)
assert error.code == "invalid_api_key", error.body
assert error.response.headers["www-authenticate"].startswith("Bearer"), error.response.headers
assert transcribe(key) == "ask not what", "the right key"

assert transcribe(limited) == "ask not what", "the first in a minute"
error = fails(openai.RateLimitError, limited)
assert error.code == "rate_limit_exceeded" and 0 < int(error.response.headers["retry-after"]) <= 60, error.response.headers

# A far too large upload is answered, not reset, and not tried again.
error = fails(openai.APIStatusError, key, file=b"RIFF" + bytes(30_000_000), max_retries=5)
assert error.status_code == 413 and "25 MiB" in error.message, error

print("keys, limits and sizes are as the official client, version", openai.__version__, "wants them")
