"""Checks of histories: the service sees the whole conversation, with who said what."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from ...errors import LMGatewayError
from ...types import JSON
from ..bench import Bench
from ..conversations import (
    AUDIO,
    CALLS,
    FILE,
    IMAGES,
    RESULTS,
    TEXTS,
    TOOLS,
    content_with,
    tool_turns,
    turns,
)
from ..sent import Sent, dumped, leaves_of, share_of, words_of
from ..voices import spot_of
from .sights import REFUSALS, needs, seen, tools_for

__all__ = ["HistoryChecks"]

_WORDS = ("heliotrope", "quillwort", "samphire")
_OF_USERS = frozenset({"user", "human"})
_OF_TOOLS = frozenset({"tool", "function"})
_OF_MODELS = frozenset({"assistant", "model", "chatbot", "ai", "bot"})
_MEDIA_TYPE = re.compile(r"(image|audio|application)/[a-z.+-]+$")
_MEDIA = ("image/png", "image/jpeg")
_OF_DATA = frozenset({"data", "bytes", "base64", "b64"})
_OF_NAMES = frozenset({"filename", "file_name", "title", "displayname", "display_name"})
_DATA = {"images": IMAGES, "files": (FILE,), "audio": (AUDIO,)}


class HistoryChecks:
    """What the provider sends of a conversation that the kit has made."""

    def test_each_turn_says_whose_it_is(self, bench: Bench, way: bool) -> None:
        """The user's turns are sent as the user's, and the model's as the model's."""
        needs(bench, "messages")
        sent = seen(bench, {"messages": turns("user", "assistant", "user")}, stream=way)
        tree = _in_order(sent, _WORDS, "the turns of a conversation")
        _check_voices(tree, _WORDS)
        for roles in (("user", "user", "user"), ("assistant", "assistant", "user")):
            try:
                other = seen(bench, {"messages": turns(*roles)}, stream=way)
            except REFUSALS:
                continue
            assert other != sent, (
                f"turns of {', '.join(roles)} are sent as those of user, assistant, user: the "
                "model cannot tell who said what. Look where the role of a turn is written"
            )

    def test_a_system_text_is_no_turn_of_the_users(self, bench: Bench) -> None:
        """``system=`` and turns of the role ``system`` arrive, and differ from what a user says."""
        needs(bench, "system")
        calls: list[Mapping[str, Any]] = [{"prompt": TEXTS[1], "system": TEXTS[0]}]
        if "messages" in bench.info.capabilities:
            calls.append({"messages": turns("system", "user")})
            calls.append({"messages": turns("user"), "system": TEXTS[1]})
        for call in calls:
            sent = seen(bench, call)
            for word in _WORDS[:2]:
                assert sent.holds(word), f"a system text or its question is dropped ({word})"
        if "messages" in bench.info.capabilities:
            several = {"messages": turns("system", "user"), "system": TEXTS[2]}
            sent = seen(bench, several)
            for word in _WORDS:
                assert sent.holds(word), (
                    f"of two system texts, one beside the messages, one is dropped ({word})"
                )
            said = seen(bench, {"messages": turns("system", "user")})
            assert said != seen(bench, {"messages": turns("user", "user")}), (
                "a system text is sent as a turn of the user's: whoever writes to the model can "
                "overrule it. Look where the role of a turn is written"
            )

    def test_calls_of_tools_and_their_results_are_sent(self, bench: Bench, way: bool) -> None:
        """A history of tools arrives: names, arguments, results, and which belongs to which."""
        needs(bench, "messages", "tools")
        for history in (tool_turns(), tool_turns(content=None, failed=True)):
            sent = seen(bench, {"messages": history, **tools_for(bench)}, stream=way)
            beside = ["quillwort"] if history[1]["content"] else []
            words = [
                *beside,
                *CALLS[0][3],
                *CALLS[1][3],
                *("heliotrope", "bellwort", "milkvetch", "bistort", "samphire"),
            ]
            missing = [word for word in (*words, CALLS[0][1], CALLS[1][1]) if not sent.holds(word)]
            assert not missing, (
                f"of a conversation with tools {missing[0]!r} is not sent: the model does not see "
                "what it asked for, or what came of it, and asks again. Look where tool_calls and "
                'turns of the role "tool" are written'
            )
            tree = _in_order(sent, ("tansy", "borage", "bistort"), "calls of tools")
            _in_order(sent, ("bellwort", "milkvetch", "bistort"), "results of tools")
            _check_links(tree)
            _check_voices(tree, ("heliotrope", "bistort", "samphire"), results=True)

    def test_calls_are_named_where_no_tools_are_offered(self, bench: Bench) -> None:
        """The last turn may offer no tools; what was called before is told by its name."""
        needs(bench, "messages", "tools")
        try:
            sent = seen(bench, {"messages": tool_turns()})
        except REFUSALS:
            pytest.skip("it refuses calls in a conversation without tools=")
        for name in (CALLS[0][1], CALLS[1][1]):
            assert sent.holds(name), (
                f"a call of the tool {name} is sent without its name: the model does not see what "
                "it called. Look where tool_calls are written"
            )

    def test_system_texts_go_with_calls_of_tools(self, bench: Bench) -> None:
        """System texts before a conversation with tools arrive, each of them."""
        needs(bench, "messages", "tools", "system")
        words = ("fumitory", "speedwell")
        before = [{"role": "system", "content": f"One is {word}."} for word in words]
        sent = seen(bench, {"messages": [*before, *tool_turns()], **tools_for(bench)})
        for word in words:
            assert sent.holds(word), (
                f"of two system texts before a conversation with tools one is dropped ({word}). "
                "Look where turns of the role system are read"
            )

    def test_content_of_several_texts_is_sent_whole(self, bench: Bench) -> None:
        """Content may be a list of texts, whoever's turn it is; each of them arrives."""
        needs(bench, "messages")
        words = ("woodruff", "speedwell", "fumitory")
        content = [{"type": "text", "text": f"One is {word}."} for word in words]
        history = turns("user", "assistant", "user", texts=("One.", "Two.", "Three."))
        called = tool_turns() if "tools" in bench.info.capabilities else []
        for messages, place in ((history, 0), (history, 1), (called, 2)):
            if not messages:
                continue
            said = [dict(turn) for turn in messages]
            said[place]["content"] = content
            try:
                sent = seen(bench, {"messages": said, **tools_for(bench)})
            except REFUSALS:
                continue
            for word in words:
                assert sent.holds(word), (
                    f"of several texts in a turn of the role {said[place]['role']} one is dropped "
                    f"({word}). Look where the content of a turn is read"
                )

    def test_two_calls_of_one_tool_stay_apart(self, bench: Bench) -> None:
        """One turn may call the same tool twice; no call and no result replaces the other."""
        needs(bench, "messages", "tools")
        name = CALLS[0][1]
        call = {"messages": tool_turns((name, name)), **tools_for(bench)}
        sent = seen(bench, call)
        for words in (("tansy", "borage", "bistort"), ("bellwort", "milkvetch", "bistort")):
            _in_order(sent, words, "two calls of one tool, or their results,")

    @pytest.mark.parametrize("capability", sorted(_DATA))
    def test_what_is_no_text_is_sent_with_its_type(
        self, bench: Bench, capability: str, way: bool
    ) -> None:
        """Images, files and audio arrive unchanged, in order, each with its own media type."""
        needs(bench, "messages", capability)
        given = _DATA[capability]
        content = content_with(*(part for part, _, _ in given))
        call = {"messages": [{"role": "user", "content": content}]}
        sent = seen(bench, call, stream=way)
        datas = _check_media(sent, given, capability)
        tree = _in_order(sent, datas, capability)
        texts = _WORDS[: len(given)]
        for word in (*texts, _WORDS[2]):
            assert word in dumped(tree), f"a text beside {capability} is dropped ({word})"
        _in_order(sent, (*texts, _WORDS[2])[-2:], f"the texts beside {capability}")

    def test_a_reference_to_an_image_is_sent_or_refused(self, bench: Bench) -> None:
        """An image given by its address arrives, or is refused; it is never left out."""
        needs(bench, "messages", "images")
        url = "https://pictures.example/heliotrope.png"
        content = content_with({"type": "image_url", "image_url": {"url": url}})
        try:
            sent = seen(bench, {"messages": [{"role": "user", "content": content}]})
        except REFUSALS:
            return
        assert sent.holds("heliotrope.png"), (
            "an image that is given by its address is dropped: the model answers as if there were "
            "none. Send the address, or raise InputError"
        )
        spot = spot_of(sent.main("heliotrope.png"), url)
        if spot is None:
            return
        beside = {str(each) for each in spot.marks[-1].values()} if spot.marks else set()
        as_data = spot.names[-1] in _OF_DATA or "base64" in beside
        assert not as_data, (
            "the address of an image is sent as its data: the service cannot decode it. Look where "
            "images are written"
        )

    def test_a_file_of_an_answer_is_sent_with_its_type(self, bench: Bench) -> None:
        """Files in the form in which answers have them arrive, or are refused."""
        needs(bench, "messages", "images")
        given = [({"type": "file", "media_type": media, "data": data}, data, words)
                 for media, (_, data, words) in zip(_MEDIA, IMAGES, strict=True)]  # fmt: skip
        content = content_with(*(part for part, _, _ in given))
        try:
            sent = seen(bench, {"messages": [{"role": "user", "content": content}]})
        except LMGatewayError:
            return  # it does not know the form
        _check_media(sent, given, "images of an answer")

    def test_a_file_is_sent_under_its_name(self, bench: Bench) -> None:
        """Where the service has a place for the name of a file, it is the file's."""
        needs(bench, "messages", "files")
        part, data, _ = FILE
        try:
            sent = seen(bench, {"messages": [{"role": "user", "content": content_with(part)}]})
        except REFUSALS:
            pytest.skip("it refuses the file of the kit")
        share = share_of(sent.main(data), data, _WORDS) if _form_of(data, sent) == data else None
        said = [(path, leaf) for path, leaf in leaves_of(share) if isinstance(leaf, str) and path]
        has_a_place = any(path[-1].lower() in _OF_NAMES for path, _ in said) or any(
            path[-1] == "type" and leaf == "document" for path, leaf in said
        )
        if not has_a_place:
            pytest.skip("it sends a file in a form that has no place for its name")
        name: str = part["file"]["filename"]  # type: ignore[index]
        assert any(name in leaf for _, leaf in said), (
            f"a file is sent without its name {name!r}, or under another one: the model cannot "
            "tell two of them apart. Look where files are written"
        )

    def test_tools_are_sent_whole(self, bench: Bench, way: bool) -> None:
        """Each tool arrives with its name, what it is for, and its parameters."""
        if "tools" not in bench.info.params:
            pytest.skip("its Info.params names no tools")
        sent = seen(bench, {"prompt": TEXTS[0], "tools": TOOLS}, stream=way)
        for tool, word in zip(TOOLS, ("foxglove", "hellebore"), strict=True):
            texts = (str(tool["function"]["name"]), f"A tool of the {word} kind.")  # type: ignore[index]
            for text in (*texts, f"{word}_size", f"{word}_form", f"{word} round"):
                assert sent.holds(text), (
                    f"of a tool {text!r} is not sent: the model cannot call it rightly. Look where "
                    "params['tools'] is written"
                )
        _in_order(sent, ("foxglove", "hellebore"), "the tools")


def _in_order(sent: Sent, words: Sequence[str], what: str) -> JSON:
    """Check that these stand in one exchange, in order; return it."""
    for word in words:
        assert sent.holds(word), (
            f"of {what} {word!r:.40} is not sent: the model does not know of it. Look where "
            "request.messages is read"
        )
    tree = sent.main(words[-1])
    text = dumped(tree)
    for one, other in pairwise(words):
        if one in text and other in text:
            assert text.rindex(one) < text.index(other), (
                f"{what} are sent out of order, or twice: the model reads another conversation. "
                "Look where request.messages is read"
            )
    return tree


def _check_voices(tree: JSON, words: Sequence[str], *, results: bool = False) -> None:
    """Check that the first and the last of three turns are sent as the user's, the other not."""
    others = (*words, *(word for each in CALLS for word in each[3]), "bellwort", "milkvetch")
    shares = {word: share_of(tree, word, [w for w in others if w != word]) for word in others}
    user, model = (_OF_USERS, _OF_MODELS, "the user"), (_OF_MODELS, _OF_USERS, "the model")
    tool = (_OF_USERS | _OF_TOOLS, _OF_MODELS, "a tool")
    said_by = [(words[0], user), (words[1], model), (words[2], user)]
    said_by += [("bellwort", tool), ("milkvetch", tool)] if results else []
    for word, (own, theirs, who) in said_by:
        share = shares[word]
        if isinstance(share, dict) and word not in str(share.get("model", word)):
            share = {name: each for name, each in share.items() if name != "model"}
        said = words_of(share) - words_of([*TEXTS, *RESULTS])
        assert said & own or not said & theirs, (
            f"what {who} said is sent as somebody else's ({sorted(said & theirs)}): the model "
            "takes its own words for the user's. Look where the role of a turn is written"
        )


def _check_links(tree: JSON) -> None:
    """Check that each result shares an id or a name with its own call, and not with the other."""
    words = ("tansy", "borage", "bellwort", "milkvetch")
    shares = {word: share_of(tree, word, [w for w in words if w != word]) for word in words}
    if any(share is None for share in shares.values()):
        return  # a text in which all turns are written out
    said = {word: {str(leaf) for _, leaf in leaves_of(share)} for word, share in shares.items()}
    for call, result, other in (
        ("tansy", "bellwort", "borage"),
        ("borage", "milkvetch", "tansy"),
    ):
        name = next(each[1] for each in CALLS if call in each[3])
        assert name in said[call], (
            f"a call of the tool {name} is sent without its name. Look where tool_calls are written"
        )
        keys = {path[-1] for path, leaf in leaves_of(shares[call]) if leaf == name}
        named = {leaf for path, leaf in leaves_of(shares[result]) if path and path[-1] in keys}
        assert named <= {name}, (
            f"the result of the tool {name} is sent as that of {sorted(map(str, named))}. Look "
            'where turns of the role "tool" are written'
        )
        links = said[result] & said[call] - said[other]
        assert any(len(link) > 2 for link in links), (
            "a tool's result is sent without the id or name of its own call: the model takes it "
            "for "
            'the result of another one. Look where turns of the role "tool" are written'
        )


def _check_media(sent: Sent, given: Sequence[Any], what: str) -> list[str]:
    """Check that each arrives with its own type; return the data as they are sent."""
    datas = [form for _, data, _ in given if (form := _form_of(data, sent)) is not None]
    assert len(datas) == len(given), f"the data of one of the {what} is dropped or changed"
    for data, (_, _, kinds) in zip(datas, given, strict=True):
        _check_type(sent, data, [each for each in datas if each != data], kinds, what)
    return datas


def _form_of(data: str, sent: Sent) -> str | None:
    """The data as it is sent: in base64, in that of URLs, or as bytes."""
    forms = (data, data.rstrip("="), data.replace("+", "-").replace("/", "_").rstrip("="))
    raw = b64decode(data + "=" * (-len(data) % 4)).decode("latin-1")
    for form in (*forms, dumped(raw)[1:-1]):
        if form in sent.text:
            return form
    return None


def _check_type(
    sent: Sent, data: str, others: Sequence[str], kinds: frozenset[str], capability: str
) -> None:
    for path, leaf in leaves_of(sent.main(data)):
        if isinstance(leaf, str) and leaf == data and path[-1:] == ("[]",):
            return  # a bare list of data, as Ollama's: no type is told
    share = share_of(sent.main(data), data, [*others, *_WORDS])
    leaves = [leaf for _, leaf in leaves_of(share) if isinstance(leaf, str)]
    typed = any(_MEDIA_TYPE.match(leaf) for leaf in leaves)
    assert not (typed and any(leaf.startswith("data:") for leaf in leaves)), (
        f"of the {capability}, data and type are sent apart, and the data still begins with "
        "'data:': "
        "the service cannot decode it. Look where the part is written"
    )
    told = words_of(_without(share, data))
    assert told & kinds, (
        f"of the {capability}, one is not sent as {' or '.join(sorted(kinds))}: the service "
        "refuses it or misreads it. Look where the media type is written"
    )


def _without(tree: JSON, data: str) -> JSON:
    if isinstance(tree, dict):
        return {name: _without(each, data) for name, each in tree.items()}
    if isinstance(tree, list):
        return [_without(each, data) for each in tree]
    return tree.replace(data, "") if isinstance(tree, str) else tree
