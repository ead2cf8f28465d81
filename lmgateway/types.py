"""What flows through the gateway: requests, completions, and the effects a flow may ask for.

A provider is a generator without I/O. To reach the network it yields an effect and is sent the
outcome; whoever drives the generator, blocking or awaiting, is none of its business::

    response = yield from send(HTTPRequest("POST", settings.api_base, "/completions", json=body))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NotRequired,
    Protocol,
    Required,
    TypeAlias,
    _SpecialForm,
    overload,
)

from typing_extensions import TypeAliasType, TypedDict, TypeVar

from ._base.turns import derived_id as _derived_id
from ._base.turns import parts_of, turn_digest
from ._base.vectors import Vector, Vectors
from .errors import too_large

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = [
    "JSON", "UNSET", "Answer", "AnswerChoice", "Auth", "Blocking", "Choice", "Citation",
    "Cleanup", "Completion", "CompletionWarning", "Count", "Delta", "Effect", "EmbedLimits",
    "EmbedRequest", "Embeddings", "Emit", "Exchange", "Flow", "HTTPRequest", "HTTPResponse",
    "Headers", "Info", "Kept", "Message", "Messages", "ModelCard", "Options", "Outgoing",
    "Part", "RateLimit", "RateLimits", "Read", "Request", "RerankRequest", "Reranked", "Schema",
    "Signed", "Sleep", "Source", "State", "Unset", "Usage", "Variables", "Vector", "Vectors",
    "Wait", "derived_id", "kept", "parts_of", "read", "read_all", "send", "turn_digest",
]  # fmt: skip

T = TypeVar("T")
Parsed = TypeVar("Parsed", default=Any)  # what a schema makes of an answer
JSON: TypeAlias = Any  # the one place where Any is the honest type: JSON from outside


# -- what the user says and gets ---------------------------------------------------------------


class Unset:
    """The type of ``UNSET``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
"""The default of a keyword that was not given. To give it is the same as not to give the keyword,
while None takes a default away."""


class State(TypedDict, total=False):
    """A turn in the service's own form: what the service must see again, and the user need not.

    A plugin gives ``format`` and ``turn``; the core adds the rest when it files the state in
    ``choice["message"]``.

    Attributes:
        format: Names the wire format, as ``anthropic.messages``.
        turn: The turn as the service said it: any JSON.
        provider: Who answered.
        model: Which model answered.
        digest: ``turn_digest`` of the visible turn; an edited turn has another one.
    """

    format: Required[str]
    turn: Required[JSON]
    provider: str
    model: str
    digest: str


class Message(TypedDict):
    """One turn of a conversation, in OpenAI's chat form.

    Three keys are the library's own, and reach no service as they are: ``reasoning`` and
    ``state`` of an assistant's turn, and ``is_error`` of a tool's.

    Attributes:
        role: ``system``, ``developer``, ``user``, ``assistant`` or ``tool``.
        content: A text, or a list of parts in OpenAI's form.
        name: Of the speaker.
        tool_calls: Of an assistant: each ``{"id", "type": "function", "function": {"name",
            "arguments"}}``.
        tool_call_id: Of a tool's result: the ``id`` of the call that it answers.
        is_error: Of a tool's result: whether the tool failed.
        reasoning: What the model thought, as text.
        state: See State.
    """

    role: str
    content: NotRequired[str | list[dict[str, JSON]] | None]
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, JSON]]]
    tool_call_id: NotRequired[str]
    is_error: NotRequired[bool]
    reasoning: NotRequired[str]
    state: NotRequired[State]


Messages: TypeAlias = Sequence[Message | Mapping[str, Any]]
"""A conversation: a list or a tuple of turns."""

Schema: TypeAlias = (
    type[Parsed] | UnionType | _SpecialForm | TypeAliasType | Mapping[str, Any] | None
)
"""What an answer must fit: a type, or a JSON schema as a dict.

A checker knows what a class or ``list[int]`` makes of the answer. Of ``A | B`` and other typing
forms it knows nothing until it has PEP 747's TypeForm."""


class Usage(TypedDict, total=False):
    """Tokens, as the service counted them; what it did not say is not there.

    Attributes:
        prompt_tokens: All that was read, ``cached_tokens`` and ``cache_write_tokens`` included.
        completion_tokens: All that was written, ``reasoning_tokens`` included.
        total_tokens: Both together.
        cached_tokens: Of the prompt: read from the service's own cache.
        cache_write_tokens: Of the prompt: written to the service's own cache.
        reasoning_tokens: Of the completion: thought.
        audio_tokens: Of both: heard and spoken. Where any were spoken, ``details`` say how many.
        image_tokens: Of both: seen and drawn. Where any were drawn, ``details`` say how many.
        cost: US dollars, where the service states it.
        details: The service's own object, as it came.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    audio_tokens: int
    image_tokens: int
    cost: float
    details: dict[str, JSON]


class Citation(TypedDict, total=False):
    """Where a text says that it has something from.

    Attributes:
        url: Of the source.
        title: Of the source.
        text: What is cited, in the source's words.
        start: Where in the part's text that begins which is cited, in characters.
        end: Where it ends.
        extra: The service's own object, as it came.
    """

    url: str
    title: str
    text: str
    start: int
    end: int
    extra: dict[str, JSON]


class Part(TypedDict, total=False):
    """A piece of an answer. ``type`` says which other keys it has; skip types you do not know.

    - ``text``: ``text``, and ``citations`` where the service gave some
    - ``reasoning``: ``text``
    - ``tool_call``: ``id``, ``name``, ``input`` (the arguments as JSON, or the raw text where it
      is none); ``by`` is ``"service"`` where the service ran the tool itself
    - ``tool_result``: ``id`` of the call, ``content``, and ``is_error`` where the tool failed
    - ``file``: ``media_type`` and one of ``data`` (base64), ``url`` and ``id``; perhaps ``name``
      and ``transcript``
    - ``refusal``: ``text``
    - ``custom``: ``kind`` (as ``"anthropic.container_upload"``) and ``value``: a block that has no
      other form here

    Each may have ``extra``: what else the service said of it, as it came.
    """

    type: Required[str]
    text: str
    citations: list[Citation]
    id: str
    name: str
    input: JSON
    by: str
    content: JSON
    is_error: bool
    media_type: str
    data: str
    url: str
    transcript: str
    kind: str
    value: JSON
    extra: dict[str, JSON]


class CompletionWarning(TypedDict):
    """Something that the answer, or the request behind it, is not quite as was asked.

    Attributes:
        kind: ``adapted`` (said in another way), ``dropped`` (left out), ``state`` (a turn was sent
            without its state), ``empty`` (the answer says nothing), ``defaulted`` (the plugin
            chose a value) or ``ignored`` (the service did not heed it).
        name: What it is about: a parameter, or a place such as ``messages[3]``.
        detail: A sentence for people.
    """

    kind: str
    name: str
    detail: str


class RateLimit(TypedDict, total=False):
    """What a service allows, of requests or of tokens; ``reset`` is in seconds from the answer."""

    limit: int
    remaining: int
    reset: float


class RateLimits(TypedDict, total=False):
    """What the service said about its limits, in the headers of an answer or of an error."""

    requests: RateLimit
    tokens: RateLimit


class AnswerChoice(TypedDict):
    """One of the choices that a plugin answers with.

    ``text`` is always there, the rest where the service said it. A plugin that gives ``parts`` may
    leave out what they hold: then the core derives ``text``, ``reasoning``, ``tool_calls`` and
    ``refusal``.

    Attributes:
        text: All that the model says to the user, as one text.
        index: Which choice it is, from 0.
        finish_reason: ``stop``, ``length``, ``tool_calls``, ``content_filter``, ``pause``,
            ``error`` (only beside a good choice) or ``other``; None if untold.
        finish_reason_raw: The service's own word for it.
        logprobs: One object a token.
        tool_calls: In OpenAI's form; ``parsed`` in each is its arguments as JSON.
        reasoning: What the model thought, as one text.
        refusal: Why the model does not answer, in its own words.
        parts: Everything in order; see Part.
        state: ``{"format", "turn"}``, where the visible form is not enough to give the turn back.
        extra: Fields of the service's choice or message that nothing here reads, as they came.
    """

    text: str
    index: NotRequired[int]
    finish_reason: NotRequired[str | None]
    finish_reason_raw: NotRequired[str]
    logprobs: NotRequired[list[dict[str, JSON]] | None]
    tool_calls: NotRequired[list[dict[str, JSON]]]
    reasoning: NotRequired[str]
    refusal: NotRequired[str]
    parts: NotRequired[list[Part]]
    state: NotRequired[State]
    extra: NotRequired[dict[str, JSON]]


class Answer(TypedDict):
    """What a plugin's hook returns; the core makes a Completion of it.

    ``prompt`` is ``request.input``; ``choices`` are ordered by index. The rest is there where the
    service said it.
    """

    prompt: str | list[Message]
    choices: list[AnswerChoice]
    model: NotRequired[str]
    usage: NotRequired[Usage]
    id: NotRequired[str]
    request_id: NotRequired[str]
    endpoint: NotRequired[str]
    warnings: NotRequired[list[CompletionWarning]]
    rate_limit: NotRequired[RateLimits]
    extra: NotRequired[dict[str, JSON]]


class Choice(AnswerChoice, Generic[Parsed]):
    """One of the choices that a user gets.

    ``message`` is the choice as a turn: append it to the conversation to go on; what the service
    must see again is in it (``state``), and in the first of ``tool_calls``. ``parsed`` is there
    when a ``schema`` was given, and then in every choice: ``Choice[City]``
    says that it is a City. It is None in a choice that calls tools, and in one that was refused or
    failed beside a good one. Without a schema there is no such key.
    """

    message: Message
    parsed: Parsed


class Completion(TypedDict, Generic[Parsed]):
    """The normalized answer of every provider: plain JSON, but for a choice's ``parsed``.

    ``Completion[City]`` is the answer to a call with ``schema=City``; ``Completion`` alone says
    nothing of ``parsed``. A plugin returns an ``Answer``.

    ``prompt`` is what the user gave, a string or messages, never a rendered template; ``choices``
    are ordered by index.
    """

    prompt: str | list[Message]
    choices: list[Choice[Parsed]]
    model: NotRequired[str]
    usage: NotRequired[Usage]
    id: NotRequired[str]
    request_id: NotRequired[str]
    provider: NotRequired[str]
    endpoint: NotRequired[str]
    cached: NotRequired[bool]
    fallback_from: NotRequired[list[dict[str, JSON]]]
    warnings: NotRequired[list[CompletionWarning]]
    rate_limit: NotRequired[RateLimits]
    extra: NotRequired[dict[str, JSON]]


class ModelCard(TypedDict):
    """One model that a service offers."""

    id: str
    context_length: NotRequired[int]
    owned_by: NotRequired[str]


class Embeddings(TypedDict):
    """One vector a text, in the order of the texts.

    ``embeddings`` is a ``Vectors``, whatever the plugin returned: floats of 32 bits in one block of
    memory, which ``np.asarray`` gives as an array without a copy, and ``.tolist()`` as plain lists
    for ``json.dumps``. ``usage`` is the sum over the requests that were sent; texts that the cache
    answered are not in it.
    """

    embeddings: Sequence[Sequence[float]]
    model: NotRequired[str]
    usage: NotRequired[Usage]
    provider: NotRequired[str]
    cached: NotRequired[bool]
    fallback_from: NotRequired[list[dict[str, JSON]]]
    warnings: NotRequired[list[CompletionWarning]]
    rate_limit: NotRequired[RateLimits]
    extra: NotRequired[dict[str, JSON]]


class Reranked(TypedDict):
    """Documents by how well they answer a query.

    ``results`` are ordered from best to worst; each has ``index`` (of the document that was
    given) and ``score`` (the larger the better; only scores of one answer compare).
    """

    results: list[dict[str, JSON]]
    model: NotRequired[str]
    usage: NotRequired[Usage]
    provider: NotRequired[str]
    cached: NotRequired[bool]
    fallback_from: NotRequired[list[dict[str, JSON]]]
    warnings: NotRequired[list[CompletionWarning]]
    rate_limit: NotRequired[RateLimits]
    extra: NotRequired[dict[str, JSON]]


class Count(TypedDict):
    """How many tokens a prompt or a conversation has, as the service counts them."""

    prompt_tokens: int
    model: NotRequired[str]
    provider: NotRequired[str]
    cached: NotRequired[bool]
    fallback_from: NotRequired[list[dict[str, JSON]]]
    warnings: NotRequired[list[CompletionWarning]]
    rate_limit: NotRequired[RateLimits]
    extra: NotRequired[dict[str, JSON]]


@dataclass(frozen=True, slots=True)
class Request:
    """One call as a provider sees it: checked by the core, with all defaults merged.

    Attributes:
        model: The model's name as the service knows it; "" if the provider has only one.
        prompt: A bare prompt, or None when messages were given.
        messages: A conversation, or None when a prompt was given. Exactly one of the two is set.
        params: Generation parameters; only names that the plugin's Info declares.
        system: A system text that goes before the prompt or the conversation.
        schema: A JSON schema that the answer must satisfy.
        stream: Whether the flow is to Emit pieces.
        timeout: Seconds left for this call when it was handed over; None without a deadline.
    """

    model: str
    prompt: str | None = field(default=None, repr=False)
    messages: Sequence[Message] | None = field(default=None, repr=False)
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    system: str | None = field(default=None, repr=False)
    schema: Mapping[str, JSON] | None = field(default=None, repr=False)
    stream: bool = False
    timeout: float | None = None

    @property
    def input(self) -> str | list[Message]:
        """What the user gave, for ``Answer["prompt"]``."""
        return self.prompt if self.prompt is not None else list(self.messages or ())


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to embed, as a provider sees them: no more at once than its ``Info.embed`` allows.

    Attributes:
        model: The model's name as the service knows it.
        texts: What to embed. Where ``Info.embed.images`` is set, one may also be a list of parts,
            as the content of a message; it then is the only one.
        params: Parameters: ``dimensions``, ``input_type`` (``"query"`` or ``"document"``), ...
        timeout: Seconds left for this call; None without a deadline.
    """

    model: str
    texts: Sequence[str] = field(repr=False)
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    timeout: float | None = None
    stream: ClassVar[bool] = False

    @property
    def input(self) -> list[str]:
        """What the user gave: the texts."""
        return list(self.texts)


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to order by how well they answer a query, as a provider sees them."""

    model: str
    query: str = field(repr=False)
    documents: Sequence[str] = field(repr=False)
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    timeout: float | None = None
    stream: ClassVar[bool] = False

    @property
    def input(self) -> dict[str, JSON]:
        """What the user gave: ``query`` and ``documents``."""
        return {"query": self.query, "documents": list(self.documents)}


@dataclass(frozen=True, slots=True)
class EmbedLimits:
    """What one request for embeddings may hold; the core makes as many requests as it needs.

    Attributes:
        texts: Texts in one request at most; None for any number.
        tokens: Tokens in one request at most, as the core estimates them; None for any number.
        text_tokens: Tokens of one text at most. Only what is too long for certain is refused
            before it is sent. None for any number.
        empty: Whether a text may be empty.
        images: Whether a text may be a list of parts with images in it.
    """

    texts: int | None = None
    tokens: int | None = None
    text_tokens: int | None = None
    empty: bool = True
    images: bool = False


@dataclass(frozen=True, slots=True)
class Info:
    """What a plugin can do; the core refuses everything else before any I/O.

    Attributes:
        api: The version of the plugin contract it was written for; 1 is that of version 0.1.
        capabilities: ``messages`` (conversations), ``system`` (a system text), ``schema`` (answers
            that satisfy a JSON schema), ``tools`` (tools and their results), ``images``, ``audio``
            and ``files`` (parts of that kind in a message), ``reasoning`` (it may be told how much
            to think), ``prefill`` (the last turn may be the assistant's, to be gone on with).
            That it streams, embeds or lists models is said by the hooks it implements.
        params: Names of the generation parameters it sends on.
        default_model: The model when the user names none; None if one must be named.
        model_is_file: Whether a model's name is the path of a file that the plugin opens: then
            no row of a batch may name another.
        portable: Formats of ``state`` that it understands also when another provider made it.
        headers: Names of the response headers that decide something for it: they are kept with a
            cached or recorded answer. Never name one that holds a secret.
        embed: How much one request for embeddings may hold; None for any number of texts. Or a
            function of the settings and the model that says so: it is called once for each
            ``embed``, and never where nothing is embedded.
    """

    api: int = 1
    capabilities: frozenset[str] = frozenset()
    params: frozenset[str] = frozenset()
    default_model: str | None = None
    model_is_file: bool = False
    portable: frozenset[str] = frozenset()
    headers: frozenset[str] = frozenset()
    embed: EmbedLimits | Callable[[Any, str], EmbedLimits] | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """The core's own options of an LM or a call.

    Attributes:
        timeout: Seconds for a call in all, retries and waits included; None for no end.
        connect_timeout: Seconds to make a connection.
        idle_timeout: Seconds between two pieces of a stream; None for as long as ``timeout``.
        retries: Further attempts after the first.
        cache: None caches what is repeatable (temperature=0 or a seed); True all; False
            nothing; "only" answers from the cache or not at all; "refresh" asks anew and stores.
        sample: Which of several samples of one prompt; each has an answer of its own.
        recordings: Files of recorded exchanges that answer before the network does.
        fallbacks: Names for get_lm, asked in turn when this provider fails.
        headers: Sent with every request. A value may be a SecretStr, and is one here when it is
            given under a name that speaks of a key, or holds a secret that is known otherwise.
        verify: Path of a CA bundle; True for the usual authorities.
        transport: Name of the transport for async calls, "aiohttp" or "threads"; None chooses.
        history: How many calls ``lm.history`` keeps; 0 for none.
        max_body: Bytes of a response at most, after decompression. An answer of vectors may by
            default be as large as what was asked for.
        unsupported: What becomes of a parameter that the model does not take: "refuse" raises an
            UnsupportedError before any I/O; "adapt" says it in another way where there is one, and
            leaves out what is only a hint (see docs/reference/unsupported.md); the completion's
            ``warnings`` tell of each.
    """

    timeout: float | None = 60.0
    connect_timeout: float = 10.0
    idle_timeout: float | None = None
    retries: int = 2
    cache: bool | str | None = None
    sample: int = 0
    recordings: tuple[str, ...] = ()
    fallbacks: tuple[Any, ...] = ()
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    verify: bool | str = True
    transport: str | None = None
    history: int = 100
    max_body: int = 64 * 1024 * 1024
    unsupported: str = "refuse"


class Variables:
    """Further variables of a setting, for a service whose own tools read them.

    ::

        class Settings(BaseModel):
            region: Annotated[str | None, Variables("AWS_REGION", "AWS_DEFAULT_REGION")] = None

    ``<PROVIDER>_<FIELD>`` goes before them, in the environment and in ``.env``; then each of them
    is looked for in the environment and in ``.env``, in this order. Those of a secret are read for
    the provider of the plugin's own name only: under another name it may be another host's. Where
    the configuration file names the key's variable (``api_key_env``), that takes their place.

    Args:
        *names: At least one.

    Raises:
        ValueError: One of them can be no variable's name.
    """

    __slots__ = ("names",)

    def __init__(self, *names: str) -> None:
        wrong = [name for name in names if not (isinstance(name, str) and _VARIABLE(name))]
        if wrong or not names:
            what = f"{wrong[0]!r:.60} can be no variable's name" if wrong else "no name is given"
            raise ValueError(f"Variables takes names of variables: {what}")
        self.names = names

    def __repr__(self) -> str:
        return f"Variables({', '.join(map(repr, self.names))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Variables) and other.names == self.names

    def __hash__(self) -> int:
        return hash(self.names)


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch


# -- HTTP as data ------------------------------------------------------------------------------


class Headers(Mapping[str, str]):
    """Headers of a response: a mapping whose keys ignore case."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, str] | None = None) -> None:
        self._items = {name.lower(): value for name, value in (items or {}).items()}

    def __getitem__(self, name: str) -> str:
        return self._items[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._items

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, ``default`` if there is none."""
        return self._items.get(name.lower(), default)  # that of Mapping raises an error first

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self._items)}>"  # values may hold cookies or tokens


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as its bytes are, for whoever signs it.

    Attributes:
        method: ``GET``, ``POST``, ...
        url: In full, percent-encoded as it is sent.
        headers: All that will be sent, ``Host`` included, but those that the signature adds.
        body: b"" if there is none.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Signed:
    """An auth that signs: ``fn(outgoing)`` returns headers, or is a flow that does.

    It is called when the request is final, once for each time that the request is sent.
    """

    fn: Callable[[Outgoing], Any] = field(repr=False)


Auth: TypeAlias = "SecretStr | Callable[[], Any] | Signed"
"""How a request proves who sends it: a secret, which becomes a Bearer token; a function that
returns headers; or ``Signed``. A function may be a flow (a generator function) that yields
``HTTPRequest(..., keep=False)``, ``Blocking``, ``Sleep`` or ``Wait`` and returns headers;
``lmgateway.wire.auth.Token`` keeps what such a flow has fetched. An auth that has a method
``refused(headers)`` is told of a 401, with the headers that it gave; then it is asked once more.
It is resolved only when the request is really sent, so that a cached answer needs no key and a
cache never sees one."""


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """An effect: send this, and be sent the HTTPResponse.

    The URL is ``base_url`` without a trailing slash + ``path`` + ``query``. ``base_url`` may be
    None as long as nothing is sent: then the core says which variable would have set it. At most
    one of ``json``, ``content`` and ``form`` is given.

    Attributes:
        method: ``GET``, ``POST``, ...
        base_url: Scheme, host and a path prefix. The LM's own headers and ``auth`` go along only
            to the origin that the LM is configured for; to any other origin goes what stands here
            and nothing else.
        path: Begins with a slash, and is percent-encoded already: it is sent as it is, and only
            what no URL can hold (a space, an umlaut) is encoded.
        query: By name; a value may be a list, which gives its name several times. None is left out.
        headers: Beside those that the transport, the user and ``auth`` add. Names are compared
            without case. A Content-Type that is given here is never replaced.
        json: The body, sent as UTF-8 JSON; None for no body (JSON's null is ``content=b"null"``).
        content: The body as bytes.
        form: The body as a form, by name: texts alone are urlencoded; with bytes, or
            ``(file name, bytes)`` or ``(file name, bytes, media type)``, it is multipart.
        auth: See Auth.
        stream: Ask for the body piece by piece: see HTTPResponse.source.
        keep: False for what is never cached, recorded or charged to a limit: a token, a poll.
        vary: Names of those ``headers`` that shape the answer, such as an API's version: cached
            and recorded answers are told apart by them. A header that may hold a credential is
            passed over. Name one only where its value is not the default: what is cached or
            recorded already is found no more.
        kept_as: By what a cached or recorded answer is found, in place of ``json``; None for
            ``json`` itself. For a body that is made anew, in a better form, of what was asked: then
            what was kept before is still found. The same ``kept_as`` must always mean the same
            body.
        max_body: Bytes that the answer may have; None for the LM's option. Set by the core.
    """

    method: str
    base_url: str | None
    path: str
    query: Mapping[str, JSON] = field(default_factory=dict, repr=False, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    json: JSON = field(default=None, repr=False, kw_only=True)
    content: bytes | None = field(default=None, repr=False, kw_only=True)
    form: Mapping[str, Any] | None = field(default=None, repr=False, kw_only=True)
    auth: Auth | None = field(default=None, repr=False, kw_only=True)
    stream: bool = field(default=False, kw_only=True)
    keep: bool = field(default=True, kw_only=True)
    vary: tuple[str, ...] = field(default=(), kw_only=True)
    kept_as: JSON = field(default=None, repr=False, kw_only=True)
    max_body: int | None = field(default=None, repr=False, compare=False, kw_only=True)

    @property
    def url(self) -> str:
        """Where the request goes, without ``query``."""
        return (self.base_url or "").rstrip("/") + self.path


class Source(Protocol):
    """The body of a response that is still arriving.

    ``read`` is a flow, so that a layer can wrap one source in another, for sync and async.
    """

    def read(self) -> Flow[bytes]:
        """Return the next bytes, b"" at the end."""
        ...

    def close(self) -> None:
        """Let go of the connection; never blocks, may be called twice."""


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """An answer, whatever its status.

    Attributes:
        status: HTTP status.
        headers: Read with any case.
        body: The whole body, decompressed; b"" while ``source`` is set.
        source: Set for a 2xx that was asked for with ``stream=True``, whatever its type: read it
            with ``chunk = yield from read(response)``. Any other answer comes whole. A plugin of
            API 1 is given a source for an event stream only.
        max_body: Bytes that a body may have when it is read whole (the LM's option).
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    source: Source | None = field(default=None, repr=False)
    max_body: int = field(default=64 * 1024 * 1024, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.headers) is not Headers:  # isinstance asks every ABC first
            object.__setattr__(self, "headers", Headers(self.headers))


# -- effects -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer that is being streamed.

    Attributes:
        text: New text of the choice; may be "".
        index: Which choice it belongs to.
        tool_calls: New fragments of tool calls, in OpenAI's delta form.
        reasoning: New text of the model's reasoning.
        finish_reason: Set on the choice's last delta.
        part: Anything else, as a part of the answer: audio as it streams, a preview of an image,
            a citation, a whole block.
        partial: "append" if ``part`` goes on with an earlier part of the same ``id``, "replace" if
            it takes its place; None if it is whole.
        id: Tells the parts of one choice apart, where ``partial`` is set.
    """

    text: str = ""
    index: int = 0
    tool_calls: Sequence[Mapping[str, JSON]] = ()
    reasoning: str = ""
    finish_reason: str | None = None
    part: Part | None = None
    partial: Literal["append", "replace"] | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Emit:
    """An effect: hand a piece to the user. A plain string is a text of choice 0."""

    delta: Delta | str


@dataclass(frozen=True, slots=True)
class Read:
    """An effect: wait for the next bytes of a transport's own body. Use ``read(response)``."""

    body: Any


@dataclass(frozen=True, slots=True)
class Sleep:
    """An effect: wait that many seconds, within the deadline; between two polls, say."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """An effect: wait until a future is done; be sent True, or False when it was not in time.

    Attributes:
        future: Any thread may complete it; its outcome is read by the flow, not by the driver.
        timeout: Seconds; None for as long as the deadline allows.
        owner: ``threading.get_ident()`` of the thread that will complete it, where one is known.
            Blocking that very thread, or one that it waits for, could never end, so the answer is
            then False at once.
    """

    future: Future[Any]
    timeout: float | None = None
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Blocking:
    """An effect: run a function that blocks (a model in the process, an SDK) in a worker thread.

    Without ``stream`` the flow is sent what ``fn()`` returned. With ``stream=True`` ``fn(push)``
    is called and the flow is sent an HTTPResponse whose ``source`` holds the bytes given to
    ``push(piece)``, which waits when the reader is behind and returns False once nobody listens.

    Attributes:
        fn: What to run.
        key: A JSON identity of the call (model digest, parameters, streamed or not); with one,
            the outcome (JSON, bytes or an HTTPResponse) may be cached.
        stream: See above.
        cancel: Called, from any thread, when nobody waits for ``fn`` any more; it must not block.
    """

    fn: Callable[..., Any] = field(repr=False)
    key: JSON = field(default=None, repr=False)
    stream: bool = False
    cancel: Callable[[], None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """An effect: run a flow of several exchanges as one that is kept. Use ``kept(key, flow)``."""

    key: JSON = field(repr=False)
    flow: Flow[Any] = field(repr=False)
    stream: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Cleanup:
    """An effect: have a request sent if the flow is left in any way but its return.

    For a job at the service that is to be cancelled. The request is sent by a thread of its own,
    ``auth`` included; what comes of it is not waited for and raises nothing. A second ``Cleanup``
    takes the place of the first; ``Cleanup(None)`` disarms. Yield it after the exchange that has
    created the job: then nothing is sent when that was answered by the cache or a recording. Where
    the plugin chooses the job's id itself, yield it before: the job may be there although no
    answer came.
    """

    request: HTTPRequest | None


Exchange: TypeAlias = "HTTPRequest | Blocking | Kept"
Effect: TypeAlias = "HTTPRequest | Blocking | Kept | Cleanup | Read | Emit | Sleep | Wait"
Flow: TypeAlias = Generator[Effect, Any, T]


@overload
def send(exchange: HTTPRequest) -> Flow[HTTPResponse]: ...
@overload
def send(exchange: Blocking) -> Flow[Any]: ...
def send(exchange: Exchange) -> Flow[Any]:
    """Ask for an exchange: ``response = yield from send(request)``."""
    return (yield exchange)


def read(response: HTTPResponse) -> Flow[bytes]:
    """The next bytes of a streamed response, b"" at its end."""
    if response.source is None:
        raise ValueError("this response has no source: its body came whole")
    return response.source.read()


def read_all(response: HTTPResponse) -> Flow[bytes]:
    """The rest of a streamed response as one; raises ResponseFormatError past its ``max_body``."""
    pieces, size = [], 0
    while piece := (yield from read(response)):
        size += len(piece)
        if size > response.max_body:
            raise too_large(response.max_body, response.status)
        pieces.append(piece)
    return b"".join(pieces)


def kept(key: JSON, flow: Flow[T]) -> Flow[T]:
    """Run a flow of several exchanges (create, poll, fetch) as one that is cached and recorded.

    What the flow returns (JSON, bytes or an HTTPResponse) is stored under ``key``; a call that
    finds it sends nothing. The exchanges in it are not stored by themselves. A piece that the flow
    emits is handed on when it runs, and not when the outcome comes from the store: to stream
    either way, emit what was returned.

    Args:
        key: A JSON identity of all that shapes the outcome.
        flow: A generator that has not begun.
    """
    outcome: T = yield Kept(key, flow)
    return outcome


def derived_id(request: Request, index: int, place: int) -> str:
    """An id for a call that the service gave none: the same in a repeat, another in each turn.

    Args:
        request: What was asked.
        index: Of the choice.
        place: Of the call in it.
    """
    return _derived_id(request.input, index, place)
