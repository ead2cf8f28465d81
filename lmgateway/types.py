"""What flows through the gateway: requests, completions, and the effects a flow may ask for.

A provider is a generator without I/O. To reach the network it yields an effect and is sent the
outcome; whoever drives the generator, blocking or awaiting, is none of its business::

    response = yield from send(HTTPRequest("POST", settings.api_base, "/completions", json=body))
"""

from __future__ import annotations

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
    NotRequired,
    Protocol,
    TypeAlias,
    _SpecialForm,
    overload,
)

from typing_extensions import TypeAliasType, TypedDict, TypeVar

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = [
    "JSON", "UNSET", "Answer", "AnswerChoice", "Auth", "Blocking", "Choice", "Completion", "Delta",
    "Effect", "EmbedRequest", "Embeddings", "Emit", "Exchange", "Flow", "HTTPRequest",
    "HTTPResponse", "Headers", "Info", "Message", "Messages", "ModelCard", "Options", "Read",
    "Request", "Schema", "Sleep", "Source", "Unset", "Usage", "Wait", "read", "send",
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


class Message(TypedDict):
    """One turn of a conversation, in OpenAI's chat form."""

    role: str
    content: NotRequired[str | list[dict[str, JSON]] | None]
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, JSON]]]
    tool_call_id: NotRequired[str]


Messages: TypeAlias = Sequence[Message | Mapping[str, Any]]
"""A conversation: a list or a tuple of turns."""

Schema: TypeAlias = (
    type[Parsed] | UnionType | _SpecialForm | TypeAliasType | Mapping[str, Any] | None
)
"""What an answer must fit: a type, or a JSON schema as a dict.

A checker knows what a class or ``list[int]`` makes of the answer. Of ``A | B`` and other typing
forms it knows nothing until it has PEP 747's TypeForm."""


class Usage(TypedDict, total=False):
    """Tokens, as the service counted them; what it did not say is not there."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class AnswerChoice(TypedDict):
    """One of the choices that a plugin answers with.

    ``text`` is always there, the rest where the service said it.
    """

    text: str
    index: NotRequired[int]
    finish_reason: NotRequired[str | None]
    logprobs: NotRequired[list[dict[str, JSON]] | None]
    tool_calls: NotRequired[list[dict[str, JSON]]]
    reasoning: NotRequired[str]
    refusal: NotRequired[str]


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


class Choice(AnswerChoice, Generic[Parsed]):
    """One of the choices that a user gets.

    ``parsed`` is there when a ``schema`` was given, and then in every choice: ``Choice[City]``
    says that it is a City. Without a schema there is no such key.
    """

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


class ModelCard(TypedDict):
    """One model that a service offers."""

    id: str
    context_length: NotRequired[int]
    owned_by: NotRequired[str]


class Embeddings(TypedDict):
    """One vector a text, in the order of the texts."""

    embeddings: list[list[float]]
    model: NotRequired[str]
    usage: NotRequired[Usage]
    provider: NotRequired[str]
    cached: NotRequired[bool]
    fallback_from: NotRequired[list[dict[str, JSON]]]


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
    """Texts to embed, as a provider sees them."""

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
class Info:
    """What a plugin can do; the core refuses everything else before any I/O.

    Attributes:
        api: The version of the plugin contract it was written for.
        capabilities: ``messages`` (conversations), ``images`` (image parts in them), ``system``
            (a system text), ``schema`` (answers that satisfy a JSON schema). That it streams,
            embeds or lists models is said by the hooks it implements.
        params: Names of the generation parameters it sends on.
        default_model: The model when the user names none; None if one must be named.
        model_is_file: Whether a model's name is the path of a file that the plugin opens: then
            no row of a batch may name another.
    """

    api: int = 1
    capabilities: frozenset[str] = frozenset()
    params: frozenset[str] = frozenset()
    default_model: str | None = None
    model_is_file: bool = False


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
        max_body: Bytes of a response at most, after decompression.
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

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self._items)}>"  # values may hold cookies or tokens


Auth: TypeAlias = "Callable[[], Mapping[str, str]] | SecretStr"
"""How a request proves who sends it: a secret, which becomes a Bearer token, or a function that
returns headers. It is resolved only when the request is really sent, so that a cached answer
needs no key and a cache never sees one."""


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """An effect: send this, and be sent the HTTPResponse.

    The URL is ``base_url`` without a trailing slash + ``path``. ``base_url`` may be None as long
    as nothing is sent: then the core says which variable would have set it.

    Attributes:
        method: ``GET``, ``POST``, ...
        base_url: Scheme, host and a path prefix.
        path: Begins with a slash.
        headers: Beside those that the transport and ``auth`` add.
        json: The body, sent as UTF-8 JSON.
        auth: See Auth.
        stream: Ask for the body piece by piece: see HTTPResponse.source.
        vary: Names of those ``headers`` that shape the answer, such as an API's version: cached
            and recorded answers are told apart by them. A header that may hold a credential is
            passed over. Name one only where its value is not the default: what is cached or
            recorded already is found no more.
    """

    method: str
    base_url: str | None
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    json: JSON = field(default=None, repr=False, kw_only=True)
    auth: Auth | None = field(default=None, repr=False, kw_only=True)
    stream: bool = field(default=False, kw_only=True)
    vary: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def url(self) -> str:
        """Where the request goes."""
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
        source: Set only for a 2xx event stream that was asked for with ``stream=True``: read it
            with ``chunk = yield from read(response)``. Any other answer comes whole.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    source: Source | None = field(default=None, repr=False)

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
    """

    text: str = ""
    index: int = 0
    tool_calls: Sequence[Mapping[str, JSON]] = ()
    reasoning: str = ""
    finish_reason: str | None = None


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
    """An effect: wait that many seconds, within the deadline."""

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
    """

    fn: Callable[..., Any] = field(repr=False)
    key: JSON = field(default=None, repr=False)
    stream: bool = False


Exchange: TypeAlias = HTTPRequest | Blocking
Effect: TypeAlias = HTTPRequest | Blocking | Read | Emit | Sleep | Wait
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
