"""Spelling help: what somebody may have meant by a name that nobody here knows."""

from __future__ import annotations

from collections.abc import Iterable

from .values import shown

__all__ = ["HANDFUL", "advise", "handful", "nearest", "with_slash"]

#: No message lists more names of a kind.
HANDFUL = 5

#: What other libraries and services call a thing, and what to write here: a keyword, or a sentence.
#: Capitals, hyphens and underscores make no difference. Taken from the arguments of litellm's
#: ``completion``, of the clients of OpenAI and Anthropic, of LangChain's ``ChatOpenAI``, of
#: ``dspy.LM`` and of Hugging Face's ``generate``.
_ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(
        ("base_url", "openai_api_base", "api_url", "azure_endpoint", "endpoint", "endpoint_url",
         "host", "server_url", "url"),
        "api_base",
    ),
    **dict.fromkeys(
        ("openai_api_key", "anthropic_api_key", "api_token", "auth_token", "azure_ad_token", "key",
         "token"),
        "api_key",
    ),
    **dict.fromkeys(
        ("request_timeout", "read_timeout", "stream_timeout", "timeout_seconds", "deadline"),
        "timeout",
    ),
    **dict.fromkeys(
        ("max_retries", "num_retries", "retry", "max_attempts", "tries", "retry_policy"), "retries"
    ),
    **dict.fromkeys(("organization_id", "openai_organization", "org_id"), "organization"),
    **dict.fromkeys(
        ("extra_headers", "default_headers", "custom_headers", "http_headers"), "headers"
    ),
    **dict.fromkeys(("caching", "use_cache", "enable_cache", "no_cache"), "cache"),
    **dict.fromkeys(("rollout_id", "sample_id"), "sample"),
    **dict.fromkeys(("ssl_verify", "verify_ssl", "ca_bundle", "ssl_context"), "verify"),
    **dict.fromkeys(
        ("context_window_fallbacks", "fallback", "fallback_models", "fallback_model"), "fallbacks"
    ),
    **dict.fromkeys(
        ("response_model", "response_schema", "output_schema", "json_schema", "text_format",
         "output_type", "json_mode"),
        "schema",
    ),
    **dict.fromkeys(("system_prompt", "system_message", "system_instruction"), "system"),
    **dict.fromkeys(
        ("engine", "deployment", "deployment_id", "azure_deployment", "model_name", "model_id"),
        "model",
    ),
    **dict.fromkeys(
        ("max_new_tokens", "max_output_tokens", "max_tokens_to_sample", "max_length",
         "num_predict"),
        "max_tokens",
    ),
    **dict.fromkeys(("stop_sequences", "stop_words", "stop_strings"), "stop"),
    **dict.fromkeys(("num_return_sequences", "candidate_count", "num_completions"), "n"),
    "random_seed": "seed",
    "repeat_penalty": "repetition_penalty",
    "functions": "tools",
    "function_call": "tool_choice",
    **dict.fromkeys(
        ("max_workers", "max_concurrency", "num_threads", "n_jobs"), "concurrency"
    ),
    **dict.fromkeys(("show_progress", "progress_bar"), "progress"),
    **dict.fromkeys(("stream", "streaming"), "call lm.stream(...) or lm.astream(...)"),
    **dict.fromkeys(("async", "async_", "is_async"), "call lm.acomplete(...) or lm.acall(...)"),
    **dict.fromkeys(
        ("proxy", "proxies", "http_proxy", "https_proxy", "openai_proxy"),
        "set HTTPS_PROXY in the environment",
    ),
    **dict.fromkeys(
        ("rpm", "tpm", "in_flight", "rate_limit", "requests_per_minute", "tokens_per_minute",
         "max_parallel_requests"),
        "write rpm, tpm or in_flight into the table [limits.PROVIDER] of lmgateway.toml",
    ),
    **dict.fromkeys(
        ("api_version", "openai_api_version"),
        "Azure's /openai/v1 needs none: use api_base='https://NAME.openai.azure.com/openai/v1'",
    ),
    **dict.fromkeys(
        ("api_type", "custom_llm_provider", "llm_provider", "provider", "plugin", "name"),
        "the name says whom to ask: use get_lm('PROVIDER', 'MODEL'), or lm.copy(name=...)",
    ),
    **dict.fromkeys(
        ("max_budget", "budget"),
        "nothing here stops at a sum; 'with lmgateway.usage() as used' tells what calls cost",
    ),
    **dict.fromkeys(
        ("http_client", "http_async_client", "client", "async_client", "session",
         "shared_session"),
        "the connections are the LM's own: verify=, transport= and the environment shape them",
    ),
    **dict.fromkeys(
        ("callbacks", "callback", "success_callback", "failure_callback", "hooks"),
        "use lmgateway.on_call(...)",
    ),
    **dict.fromkeys(
        ("verbose", "debug", "set_verbose", "log_level", "logger_fn"),
        "set up the standard library's logging: the logger is 'lmgateway'",
    ),
    "mock_response": "lmgateway.testing.ScriptedLM answers from a script",
    **dict.fromkeys(
        ("model_kwargs", "optional_params", "generation_config", "extra_params"),
        "give what it holds as keywords of their own",
    ),
    "drop_params": "nothing is dropped here: leave out what the service does not take",
    "model_type": "use_chat_api=True or False chooses the endpoint",
    **dict.fromkeys(("input", "inputs", "question"), "the prompt comes first, without a name"),
}  # fmt: skip

_PLAIN = {name.replace("_", ""): instead for name, instead in _ELSEWHERE.items()}


def advise(name: str, names: Iterable[str]) -> str:
    """A clause that says what to use in place of a name; "" where nothing comes near.

    Args:
        name: What nobody knows.
        names: What could stand in its place.
    """
    names = set(names)
    instead = _PLAIN.get(name.lower().replace("_", "").replace("-", ""), "")
    if instead in names:
        return f"use {instead}"
    return nearest(name, names) if not instead or instead.isidentifier() else instead


def nearest(name: str, names: Iterable[str]) -> str:
    """A clause that offers the nearest of some names, in upper or lower case, or ""."""
    from difflib import get_close_matches

    if len(name) > 100:
        return ""
    spelt = {each.lower(): each for each in sorted(set(names), reverse=True)}
    found = get_close_matches(name.lower(), sorted(spelt), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(repr(spelt[each]) for each in found)}?" if found else ""


def handful(name: str, names: Iterable[str]) -> str:
    """Some names as a list, the nearest to another name first, and how many more there are."""
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(b=name[:100].lower())

    def distance(each: str) -> tuple[float, str]:
        matcher.set_seq1(each.lower())
        return -matcher.ratio(), each

    ordered = sorted(set(names), key=distance)
    more = len(ordered) - HANDFUL
    return ", ".join(ordered[:HANDFUL]) + (f" and {more} more" if more > 0 else "")


def with_slash(name: str, providers: Iterable[str]) -> str:
    """A clause for a name such as ``openai:gpt-4o``, or ""."""
    for each in sorted(providers, key=len, reverse=True):
        mark, model = name[len(each) : len(each) + 1], name[len(each) + 1 :]
        apart = not f"a{mark}".isidentifier()  # together_ai is a name of its own
        if name.lower().startswith(each.lower()) and apart and model.strip():
            return f"write a slash before the model: {shown(f'{each}/{model.strip()}')}"
    return ""
