"""The rows of the table: what may go wrong, what is right, and what proves it elsewhere.

The tests in this folder carry the mark ``row(section, case, mode)``; a row that other tests
prove end to end names them here instead of repeating them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        section: Heading it stands under.
        case: What goes wrong; the tests' marks hold the same words.
        right: What is right then.
        elsewhere: Beginnings of the ids of further tests.
    """

    section: str
    case: str
    right: str
    elsewhere: tuple[str, ...] = ()


END_TO_END = "tests/layers/test_end_to_end.py::"
STORE = "tests/cache/test_store.py::"
REGISTRY = "tests/test_registry.py::"
BAD_FILE = "tests/config/test_bad_input.py::"
TWICE = "ConnectionFailedError, tried again twice"
REFUSED = "InputError before any socket opens"

NETWORK = [
    ("refused", TWICE),
    ("connect timeout", TWICE),
    ("reset before the head", TWICE, END_TO_END + "test_two_failures_and_an_answer"),
    ("reset in the body", TWICE + "; of a stream StreamInterruptedError, before its first piece"),
    ("closed in the body", "as reset in the body"),
    ("closed in the headers", TWICE + ", never an empty answer"),
    ("closed after the POST arrived", TWICE + "; the call may be billed twice"),
    ("DNS failure", "ConnectionFailedError that names the host, tried again once"),
    ("head or body stalls", "RequestTimeoutError at the call's deadline"),
    ("a byte now and then for ever", "RequestTimeoutError at the call's deadline"),
    ("an idle kept-alive connection was closed by the server", "reconnects, unseen"),
    ("bad, expired or wrong-host certificate",
     "ConnectionFailedError, not tried again; never advises against verifying"),
    ("plain HTTP on a TLS port", "ConnectionFailedError, not tried again"),
    ("body larger than the cap", "ResponseFormatError at the cap (an error status keeps its "
     "class), not tried again"),
    ("a gzip bomb", "the same, in flat memory",
     "tests/transports/test_requests_bodies.py::test_gzip_bomb",
     "tests/transports/test_aiohttp_connections.py::test_a_bomb"),
    ("stream of 100,000 chunks", "linear time, flat memory",
     "tests/transports/test_requests_bodies.py::test_stream_of_many_chunks",
     "tests/transports/test_aiohttp_connections.py::test_a_stream_of_many_chunks",
     "tests/wire/test_sse.py::test_memory_stays_flat"),
    ("stream in any form that SSE allows", "the answer",
     "tests/wire/test_sse.py::test_any_stream_cut_anywhere"),
    ("stream stalls", "StreamStalledError (a timeout and an interruption) with `.partial`, not "
     "tried again"),
    ("stream ends without its end mark", "StreamInterruptedError with `.partial`, not tried "
     "again after a piece, not cached"),
    ("an error object inside a 200 stream", "the error of its kind"),
    ("proxy refuses with 407", "ConnectionFailedError, not tried again"),
]  # fmt: skip
HTTP = [
    ("400, 413, 422", "InvalidRequestError; ContextLengthError where the code says so"),
    ("401, 403", "AuthenticationError, PermissionDeniedError; names the key's variable"),
    ("402, or 429 whose code is a spent quota", "QuotaExceededError, not tried again"),
    ("404", "NotFoundError that names model and URL"),
    ("408, 409, 429, 500, 502, 503, 504, 529", "the status's error, tried again twice"),
    ("other 4xx, unknown 5xx", "InvalidRequestError; ServerError, tried again twice"),
    ("Retry-After", "waited exactly, in seconds, as a date or in ms; nonsense: own backoff; "
     "beyond the deadline or 120 s: raised at once", END_TO_END + "test_retry_after_is_waited"),
    ("any 3xx", "APIError that names the target host, to which nothing was sent"),
    ("x-should-retry", "obeyed"),
    ("204, or 200 with an empty body", "ResponseFormatError, tried again; never an empty answer"),
]  # fmt: skip
BODY = [
    ("invalid JSON or empty", "ResponseFormatError, tried again once"),
    ("a missing, empty or wrongly typed field", "ResponseFormatError that names the field"),
    ("content: null", '"", with a warning; ResponseFormatError if no end was stated'),
    ("choices: fewer than n, or out of order", "ResponseFormatError; ordered by index"),
    ("NaN, Infinity", "ResponseFormatError, not tried again"),
    ("finish_reason", "`length` is an answer; `content_filter` is ContentFilteredError"),
]  # fmt: skip
INPUT = [
    ("not a str", REFUSED),
    ("a lone surrogate", REFUSED + ", its offset named"),
    ("a model id with a newline", REFUSED),
    ("NaN temperature", REFUSED),
    ("n of 0, -1 or True", REFUSED),
    ("a negative max_tokens", REFUSED),
    ("prompt and messages together", REFUSED),
    ("an unknown parameter", REFUSED + ", the nearest name offered"),
    ("a base without scheme, with userinfo, or file://", REFUSED),
    ("a key that no header can hold", REFUSED + ", the key not shown"),
    ("a 10 MB prompt and a NUL pass", "an answer"),
]
ENVIRONMENT = [
    ("no key, empty key, no base", "MissingCredentialError when a request must be sent; names "
     "the variable and where it was looked for"),
    (".env: missing", "nothing to say"),
    (".env: unreadable, or latin-1", "a warning"),
    (".env: in a folder that may not be entered", "nothing to say"),
    (".env: an unclosed quote", "ConfigError with the line's number and not its content",
     BAD_FILE + "test_an_unclosed_quote"),
    (".env: a named pipe", "read when it is written into; a warning where nobody does",
     BAD_FILE + "test_a_dotenv_may_be_a_pipe", BAD_FILE + "test_a_pipe_that_says_nothing"),
    ("no home, an unknown user, a working directory that is gone", "an answer; one warning where "
     "the cache has no place; ConfigError for a path that means nothing there",
     "tests/config/test_homes.py::test_calls_are_answered",
     "tests/config/test_homes.py::test_a_home_that_is_not_there",
     "tests/config/test_homes.py::test_a_relative_path_from_nowhere"),
    ("a system without POSIX's extras, such as Windows", "an answer, from the cache too",
     "tests/test_platforms.py::test_the_second_call", "tests/test_platforms.py::test_a_batch"),
    ("cache: corrupt, locked, of a newer schema", "one warning, then answers uncached; nothing "
     "deleted", STORE + "test_a_file_that_cannot_serve", STORE + "test_a_file_locked_for_good"),
    ("cache: read-only folder, full disk", "one warning, then answers uncached",
     STORE + "test_a_read_only_file", STORE + "test_a_full_disk"),
    ("config: malformed, unknown key, alias cycle", "ConfigError with file and line; the nearest "
     "key; the cycle printed", BAD_FILE + "test_what_is_wrong_is_told_with_its_line"),
]  # fmt: skip
PLUGINS = [
    ("import error", "PluginLoadError with its cause, naming the distribution; others work",
     REGISTRY + "test_a_plugin_that_does_not_import"),
    ("raises or returns the wrong type in a call", "PluginError or PluginContractError, with its "
     "cause", REGISTRY + "test_a_plugin_that_fails_in_a_call"),
    ("hangs inside an effect", "RequestTimeoutError at the deadline"),
    ("a name claimed twice", "DuplicateProviderError that names both",
     REGISTRY + "test_a_name_claimed_twice"),
    ("leftovers of pip, and damaged metadata of others", "they harm nobody; what is asked for is "
     "named", REGISTRY + "test_what_lies_about", REGISTRY + "test_what_is_broken_is_named"),
    ("no metadata at all, as in a bundled program", "the built-in providers answer",
     REGISTRY + "test_without_metadata_"),
    ("another API version", "an older one loads; a newer one is a PluginVersionError that says "
     "what to install",
     REGISTRY + "test_a_plugin_that_breaks_the_contract_is_refused_at_load[a newer API",
     REGISTRY + "test_a_plugin_of_this_api_or_an_older_one_loads[an older API"),
]  # fmt: skip
PROCESS = [
    ("32 threads on one LM", "right answers only",
     "tests/test_lm.py::test_32_threads_and_4_event_loops"),
    ("fork after use", "right answers only, in parent and children",
     "tests/transports/test_requests.py::test_forked_child",
     "tests/transports/test_aiohttp.py::test_a_forked_child"),
    ("kill -9 in the middle of cache writes", "nothing acknowledged is lost",
     "tests/cache/test_killed.py::"),
    ("kill -9 in the middle of a batch", "nothing written is lost: the next run asks what is "
     "missing (`tests/soak/kill_batch.py` counts)", "tests/batch/test_job.py::test_a_torn_tail",
     "tests/batch/test_job.py::test_the_lock_of_a_killed_process",
     "tests/batch/test_runs.py::test_the_second_run_asks_what_is_missing"),
    ("another tool rewrites the output of a batch", "whole rows stay; what is no row is told, and "
     "nothing is changed (`make soak-batch` kills in between)",
     "tests/batch/test_job.py::test_whole_rows_stay_whoever",
     "tests/batch/test_job.py::test_a_file_that_cannot_be_understood"),
    ("two batches with one output, or one file of errors", "the second is refused",
     "tests/batch/test_job.py::test_a_second_process_on_the_same_output",
     "tests/batch/test_job.py::test_two_jobs_share_no_file_of_errors",
     "tests/batch/test_job.py::test_one_output_has_one_job"),
    ("Ctrl-C in a batch", "the first drains and says how to go on, the second stops",
     "tests/batch/test_runs.py::test_ctrl_c_drains"),
    ("asyncio cancel", "the socket is closed, the permit freed, nothing cached; over threads the "
     "permit is kept until the call ends", END_TO_END + "test_a_cancelled_task_gives_its_place"),
    ("a second event loop works", "an answer"),
    ("the clock jumps back", "monotonic time only"),
    ("a key is in no repr, log, traceback, pickle, cache file or recording", "it is nowhere",
     "tests/test_secrets.py::", "tests/test_canary.py::",
     "tests/cache/test_layer.py::test_no_secret",
     "tests/cache/test_recordings.py::test_neither_key"),
]  # fmt: skip

ROWS = [
    Row(section, case, right, tuple(elsewhere))
    for section, rows in [
        ("Network", NETWORK),
        ("HTTP", HTTP),
        ("Body", BODY),
        ("Input", INPUT),
        ("Environment", ENVIRONMENT),
        ("Plugins", PLUGINS),
        ("Process", PROCESS),
    ]
    for case, right, *elsewhere in rows
]
