"""The official Python client through the gateway: every kind of call, and errors of the same types as without it."""

import asyncio
import os
import traceback

import openai

THROUGH, DIRECT = os.environ["THROUGH"], os.environ["DIRECT"]
MODEL = "gpt-4o-mini"


def client(base_url, key="sk-of-the-caller", **options):
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, **options)


def say(api, text, **options):
    return api.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], max_tokens=8, **options)


def failure(base_url, call, **options):
    """What a call raises: its type, status, code and type of error."""
    try:
        call(client(base_url, **options))
    except openai.APIError as error:
        return type(error).__name__, getattr(error, "status_code", None), error.code, error.type
    raise AssertionError("the call did not fail")


def chat():
    answer = say(client(THROUGH), "the gateway")
    assert answer.choices[0].message.content == "You said: the gateway", answer
    assert answer.usage.total_tokens > 0


def streaming():
    with say(client(THROUGH), "one word after another", stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "You said: one word after another", text
    assert len(chunks) > 5 and chunks[-1].usage.total_tokens > 0


def responses():
    answer = client(THROUGH).responses.create(model=MODEL, input="hello", max_output_tokens=8)
    assert answer.output_text == "You said: hello", answer


def streamed_responses():
    stream = client(THROUGH).responses.create(model=MODEL, input="hello there", max_output_tokens=8, stream=True)
    events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == "You said: hello there", text
    assert [event.type for event in events][:: len(events) - 1] == ["response.created", "response.completed"]


def embeddings():
    api = client(THROUGH)
    answer = api.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [len(item.embedding) for item in answer.data] == [16, 16]
    assert answer.data[0].embedding != answer.data[1].embedding


def models():
    assert MODEL in [model.id for model in client(THROUGH).models.list()]


def file_upload():
    content = b'{"custom_id": "1"}\n' * 100_000
    answer = client(THROUGH).files.create(file=("batch.jsonl", content), purpose="batch")
    assert (answer.bytes, answer.filename, answer.purpose) == (len(content), "batch.jsonl", "batch"), answer


def raw_headers():
    answer = client(THROUGH).chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}]
    )
    assert answer.headers["x-ratelimit-limit-requests"] == "500"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.parse().choices


def errors_have_the_same_types():
    huge = {"messages": [{"role": "user", "content": "x" * 600_000}]}
    for expected, call in [
        ("BadRequestError", lambda api: say(api, "x", temperature=3)),
        ("BadRequestError", lambda api: api.chat.completions.create(model=MODEL, **huge)),
        ("BadRequestError", lambda api: api.chat.completions.create(model="", messages=[])),
        ("NotFoundError", lambda api: api.get("/no/such/place", cast_to=object)),
        ("RateLimitError", lambda api: say(api, "x", n=128, extra_body={"max_completion_tokens": 100_000})),
        ("APIStatusError", lambda api: api.files.create(file=("a", bytes(11 << 20)), purpose="batch")),
    ]:
        direct, through = failure(DIRECT, call), failure(THROUGH, call)
        assert direct == through and through[0] == expected, (expected, direct, through)
    no_key = {"default_headers": {"Authorization": "Basic none"}}
    direct, through = (failure(url, lambda api: say(api, "x"), **no_key) for url in (DIRECT, THROUGH))
    assert direct == through and through[0] == "AuthenticationError", (direct, through)


def server_errors_have_the_same_type():
    direct = failure(os.environ["FAILING_DIRECT"], lambda api: say(api, "x"))
    through = failure(os.environ["FAILING"], lambda api: say(api, "x"))
    assert direct == through and through[0] == "InternalServerError", (direct, through)


def the_gateways_own_errors_are_the_clients_types():
    answer = say(client(os.environ["GUARDED"], os.environ["GATEWAY_TOKEN"]), "let in")
    assert answer.choices[0].message.content == "You said: let in"
    outside = failure(os.environ["GUARDED"], lambda api: say(api, "x"))
    assert outside[:3] == ("AuthenticationError", 401, "invalid_api_key"), outside
    nowhere = failure(os.environ["NOWHERE"], lambda api: say(api, "x"))
    assert nowhere[:2] == ("InternalServerError", 502), nowhere


def sixty_four_at_once_and_none_fails():
    async def burst(base_url, calls):
        api = openai.AsyncOpenAI(base_url=base_url, api_key="sk-x", max_retries=0)
        room = asyncio.Semaphore(64)

        async def one(number):
            async with room:
                try:
                    answer = await say(api, f"item {number}")
                    return answer.choices[0].message.content == f"You said: item {number}"
                except openai.RateLimitError:
                    return False

        return (await asyncio.gather(*map(one, range(calls)))).count(True)

    # The API lets 500 through at once and then 500 a minute.
    assert asyncio.run(burst(THROUGH, 540)) == 540
    assert asyncio.run(burst(DIRECT, 64)) < 64, "the limit was not reached, so the test shows nothing"


TESTS = [
    chat, streaming, responses, streamed_responses, embeddings, models, file_upload, raw_headers,
    errors_have_the_same_types, server_errors_have_the_same_type, the_gateways_own_errors_are_the_clients_types,
    sixty_four_at_once_and_none_fails,
]
failed = 0
for test in TESTS:
    try:
        test()
        print("ok    ", test.__name__.replace("_", " "))
    except Exception:
        failed += 1
        print("FAILED", test.__name__.replace("_", " "))
        traceback.print_exc()
print(f"openai {openai.__version__} for Python")
print(f"{len(TESTS) - failed} passed, {failed} failed")
raise SystemExit(failed > 0)
