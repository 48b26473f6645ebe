"""Drives OpenAI's official client against the pool, or a backend alone.

Usage: openai_client.py URL RECORDING MODEL [TRANSLATING-MODEL]"""

import sys
import time

import openai

url, recording, model, *translating = sys.argv[1:]
client = openai.OpenAI(base_url=url + "/v1", api_key="unused", max_retries=0)
known = "ask not what your country can do for you"


def create(**options):
    began = time.monotonic()
    with open(recording, "rb") as file:
        result = client.audio.transcriptions.create(file=file, **options)
    print(f"{time.monotonic() - began:.1f} s: {options}", flush=True)
    return result


# The plain call, by the pool's name for the model and by the one that clients hard-code.
for name in (model, "whisper-1", "gpt-4o-mini-transcribe"):
    text = create(model=name).text
    assert known in text, (name, text)

assert known in create(model=model, response_format="text")
assert "-->" in create(model=model, response_format="srt")
assert create(model=model, response_format="vtt").startswith("WEBVTT")

verbose = create(model=model, response_format="verbose_json", timestamp_granularities=["word", "segment"])
assert abs(verbose.duration - 11) < 0.1, verbose.duration
assert verbose.language == "english", verbose.language
assert verbose.segments[0].end > verbose.segments[0].start, verbose.segments
words = [word.word.strip(" ,.").lower() for word in verbose.words]
assert words[:4] == ["and", "so", "my", "fellow"], words
assert all(a.start <= b.start for a, b in zip(verbose.words, verbose.words[1:])), verbose.words

assert verbose.usage.type == "duration" and abs(verbose.usage.seconds - 11) < 0.1, verbose.usage
for member in ("id", "seek", "tokens", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob"):
    assert getattr(verbose.segments[0], member) is not None, (member, verbose.segments[0])

streamed = create(model=model, stream=True, chunking_strategy="auto")
events = list(streamed)
assert events[-1].type == "transcript.text.done" and known in events[-1].text, events
assert "".join(e.delta for e in events if e.type == "transcript.text.delta") == events[-1].text, events

for name in translating:
    with open(recording, "rb") as file:
        assert known in client.audio.translations.create(file=file, model=name).text

assert model in [m.id for m in client.models.list()]
assert client.models.retrieve(model).id == model

try:
    create(model="gigantic")
    raise SystemExit("an unknown model was served")
except openai.NotFoundError as error:
    assert model in error.message, error.message
try:
    create(model=model, temperature=7)
    raise SystemExit("a temperature of 7 was accepted")
except openai.BadRequestError as error:
    assert error.param == "temperature", error.body

for param, options in (
    ("response_format", {"response_format": "diarized_json"}),
    ("include", {"include": ["logprobs"]}),
    ("known_speaker_names", {"known_speaker_names": ["agent"]}),
):
    try:
        create(model=model, **options)
        raise SystemExit(f"{options} was accepted")
    except openai.BadRequestError as error:
        assert error.param == param, error.body

print("all calls of the official client, version", openai.__version__, "answered as they should")
