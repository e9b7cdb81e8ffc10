"""Conversations for the family templates: every shape of message that chat data sets and APIs use."""

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city, \u00b0C or \u00b0F.",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "such as Z\u00fcrich <b>"},
        "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
        "days": {"type": "integer", "default": 1, "minimum": 1.0},
        "wind": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}, "nullable": True},
        "area": {"type": "object", "required": ["lat"], "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}},
        "mode": {"oneOf": [{"type": "string", "description": "a name"}, {"type": "boolean", "default": False}]}}}}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "Now.", "parameters": {"type": "object", "properties": {}}}}

CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": {
    "city": "Z\u00fcrich \"\u6771\u4eac\" <&>'", "ratio": 1.0, "count": 3, "small": 1e-07, "large": 1e16, "flag": True,
    "deep": {"none": None, "no": False, "list": [1, [2.5, "x\ny"], {}]}, "empty": []}}}
TEXT_CALL = {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": "{\"zone\": \"UTC\"}"}}
EMPTY_CALL = {"id": "call_3", "type": "function", "function": {"name": "clock", "arguments": {}}}


def user(content): return {"role": "user", "content": content}
def assistant(content, **more): return {"role": "assistant", "content": content, **more}
def system(content): return {"role": "system", "content": content}
def tool(content, **more): return {"role": "tool", "content": content, **more}


QUESTION = user("  What is 2 + 2?\n")
CONTEXTS = {
    "user": dict(messages=[QUESTION]),
    "user-prompt": dict(messages=[QUESTION], add_generation_prompt=True),
    "user-assistant": dict(messages=[QUESTION, assistant(" It is 4.\n")]),
    "four-turns": dict(messages=[user("a"), assistant("b"), user("c \u00e9\u4e16\U0001f600"), assistant("d")]),
    "four-turns-prompt": dict(messages=[user("a"), assistant("b"), user("c"), assistant("d"), user("e")], add_generation_prompt=True),
    "system": dict(messages=[system(" Be brief. "), user("Hi"), assistant("Ho")]),
    "two-systems": dict(messages=[system("One."), system("Two."), user("Hi")], add_generation_prompt=True),
    "reasoning-field": dict(messages=[user("a"), assistant("x", reasoning_content="\nold thought\n"), user("b"),
                                      assistant("\n\nfinal", reasoning_content="\nnew thought\n")]),
    "reasoning-inline": dict(messages=[user("a"), assistant("<think>\nold\n</think>\n\nx"), user("b"),
                                       assistant("<think>\nnew\n</think>\n\nfinal </think> tail")]),
    "content-parts": dict(messages=[user([{"type": "text", "text": "Look: "}, {"type": "image"}, {"type": "text", "text": "what?"}]),
                                    assistant([{"type": "text", "text": "A cat."}])]),
    "tools": dict(messages=[user("Weather?")], tools=[WEATHER, CLOCK], add_generation_prompt=True),
    "tools-system": dict(messages=[system("Sys."), user("Weather?"), assistant("Where?")], tools=[WEATHER]),
    "tool-call": dict(messages=[user("Weather?"), assistant("", tool_calls=[CALL]), tool("{\"t\": 21.5}", tool_call_id="call_1", name="get_weather"),
                                assistant("Warm.")], tools=[WEATHER, CLOCK]),
    "tool-call-null-content": dict(messages=[user("Now?"), assistant(None, tool_calls=[TEXT_CALL, EMPTY_CALL]), tool("12:00", tool_call_id="call_2"),
                                             tool("13:00", tool_call_id="call_3")], tools=[CLOCK], add_generation_prompt=True),
    "tool-call-with-thought": dict(messages=[user("Now?"), assistant("Let me see.", reasoning_content="must call", tool_calls=[EMPTY_CALL]),
                                             tool("12:00", tool_call_id="call_3"), assistant("Noon.", reasoning_content="easy"), user("Thanks")],
                                   tools=[CLOCK], add_generation_prompt=True),
    "tool-parts": dict(messages=[user("Now?"), assistant("", tool_calls=[EMPTY_CALL]), tool([{"type": "text", "text": "12:00"}], tool_call_id="call_3")]),
    "no-thinking": dict(messages=[QUESTION, assistant("4"), user("again")], add_generation_prompt=True,
                        variables={"enable_thinking": False, "thinking": False}),
    "thinking": dict(messages=[QUESTION], add_generation_prompt=True, variables={"enable_thinking": True, "thinking": True}),
    "documents": dict(messages=[user("Sum up.")], documents=[{"title": "A", "text": "one\ntwo"}, {"title": "B", "text": "three", "score": 0.5}],
                      add_generation_prompt=True),
    "unknown-variables": dict(messages=[user("Hi")], variables={"date_string": "1 Jan 2000", "reasoning_effort": "high", "other": {"a": [1]}}),
    "assistant-first": dict(messages=[assistant("Hello."), user("Hi")]),
    "user-twice": dict(messages=[user("a"), user("b"), assistant("c")]),
    "unknown-role": dict(messages=[user("a"), {"role": "narrator", "content": "Later that day."}]),
    "no-content": dict(messages=[user("a"), {"role": "assistant"}]),
    "crlf-and-controls": dict(messages=[user("a\r\nb\tc\u0000\u2028d\u00a0"), assistant("\u200b\ufeffe\u0301 \u0085")]),
    "empty-first": dict(messages=[user(""), assistant("b")]),
    "tool-first": dict(messages=[tool("stray"), user("a")]),
}
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
