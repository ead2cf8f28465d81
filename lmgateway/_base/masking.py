"""Masking of secrets in texts, in every form in which a service may repeat them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

__all__ = ["CUT", "MASK", "Plain", "holds_secret", "masker", "words"]

MASK = "***"
#: What whoever cuts a text puts where it was cut: a secret's part may stand before or after it.
CUT = "…"
SHORT = 8  # characters; a secret of fewer is masked only where it stands alone
FEWEST = 4  # characters; what is shorter stands for no key, as "-" or "1", and is in any text
PART = 3  # characters of a secret, at a cut, that are masked as the secret is
RUN = 12  # characters from either end, that are masked wherever they stand
FOLDED = 16  # characters from which upper and lower case count as the same
_DIGIT = re.compile(r"\d")


class Plain(str):
    """A word that may be no secret: it is masked as a whole, but parts of it are not."""

    __slots__ = ()


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that masks these secrets in a text, also where the text was cut within one.

    A short word of letters only is not masked, such as ``ollama`` for a service without keys.
    """
    whole: set[str] = set()
    long: set[str] = set()
    short: set[str] = set()
    for secret in secrets:
        if isinstance(secret, Plain):
            whole.update(_forms(secret) if len(secret) >= SHORT else ())
        elif len(secret) >= SHORT:
            long.update(_forms(secret))
        elif len(secret) >= FEWEST and not secret.isalpha():
            short.add(secret)
    forms = sorted(whole | long, key=len, reverse=True)
    ends = [(_lowered(form[:RUN]), _lowered(form[-RUN:]), form) for form in forms]

    def mask(text: str) -> str:
        lowered, cut = _lowered(text), CUT in text
        near = [form for start, end, form in ends if cut or start in lowered or end in lowered]
        for form in near:
            text = _without(text, form)
        for remove in (_without_parts, _without_start, _without_end) if near else ():
            for form in near:
                text = remove(text, form) if form in long else text
        for secret in short:
            text = _without_word(text, secret)
        return text

    return mask


def holds_secret(text: str, secrets: Iterable[str]) -> bool:
    """Whether a text holds one of these secrets as a whole, in any form.

    A likely word, such as ``placeholder``, does not count; nor does a ``Plain``.
    """
    return any(
        form in text
        for secret in secrets
        if len(secret) >= (SHORT if _DIGIT.search(secret) else FOLDED)
        and not isinstance(secret, Plain)
        for form in _forms(secret)
    )


def words(value: str) -> Iterator[str]:
    """A header's value, and the parts of it that are secrets: the token after a scheme."""
    yield value
    for word in value.split():
        if word != value:
            yield word
        yield from _credentials(word)


def _credentials(word: str) -> Iterator[str]:
    """Both parts of ``user:password`` in base64."""
    from base64 import b64decode

    try:
        user, colon, password = b64decode(word, validate=True).decode().partition(":")
    except ValueError:
        return
    if colon:
        yield from (user, password)


@lru_cache(maxsize=256)
def _forms(secret: str) -> frozenset[str]:
    """The forms of a secret: plain, in JSON, a repr, a URL, HTML, and within base64."""
    return frozenset(_written(secret))


def _written(secret: str) -> Iterator[str]:
    import json
    from base64 import b64encode
    from html import escape
    from urllib.parse import quote, quote_plus

    yield secret
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield from (escaped, escaped.replace("/", "\\/"))
    yield from (repr(secret)[1:-1], quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield escape(secret)
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):  # what stands before it decides how its bits fall on characters
        encoded = b64encode(bytes(before) + data).decode()
        inner = encoded[-(-before * 4 // 3) : (before + len(data)) * 4 // 3]
        if len(inner) >= SHORT:
            yield from (inner, inner.replace("+", "-").replace("/", "_"))


def _folded(text: str, form: str) -> tuple[str, str]:
    """Text and form, in lower case if the form is long; positions do not change."""
    return (text, form) if len(form) < FOLDED else (_lowered(text), _lowered(form))


def _lowered(text: str) -> str:
    return text.replace("\u0130", "i").lower()  # the one letter that two become


def _without(text: str, form: str) -> str:
    whole, wanted = _folded(text, form)
    if wanted not in whole:
        return text
    parts, start = [], 0
    while (found := whole.find(wanted, start)) >= 0:
        parts += [text[start:found], MASK]
        start = found + len(wanted)
    return "".join([*parts, text[start:]])


def _without_start(text: str, form: str) -> str:
    """The text without beginnings of a long secret, which a service cut or wrapped."""
    if len(form) < FOLDED:
        return text
    whole, wanted = _folded(text, form)
    parts, at = [], 0
    while (start := whole.find(wanted[:RUN], at)) >= 0:
        pairs = enumerate(zip(whole[start : start + len(wanted)], wanted, strict=False))
        size = next((n for n, (one, other) in pairs if one != other), len(wanted))
        parts += [text[at:start], MASK]
        at = start + min(size, len(text) - start)
    return "".join([*parts, text[at:]])


def _without_end(text: str, form: str) -> str:
    return _without_start(text[::-1], form[::-1])[::-1]


def _without_parts(text: str, form: str) -> str:
    """The text without parts of a secret beside a cut: its beginning, its end or its middle."""
    if CUT not in text:
        return text
    pieces = text.split(CUT)
    last = len(pieces) - 1
    for place, piece in enumerate(pieces):
        whole, wanted = _folded(piece, form)
        if 0 < place < last and len(piece) >= PART and whole in wanted:
            pieces[place] = MASK
            continue
        if place < last and (size := _shared(whole, wanted)):
            pieces[place] = piece = piece[:-size] + MASK
        if place > 0 and (size := _shared(whole[::-1], wanted[::-1])):
            pieces[place] = MASK + piece[size:]
    return CUT.join(pieces)


def _shared(text: str, secret: str) -> int:
    """How many characters at the end of a text are the beginning of a secret."""
    for size in range(min(len(text), len(secret) - 1), PART - 1, -1):
        if text.endswith(secret[:size]):
            return size
    return 0


def _without_word(text: str, secret: str) -> str:
    """The text without a short secret, where it stands alone and not within a word."""
    if secret not in text:
        return text
    return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
