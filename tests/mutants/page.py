"""The page of the survivors, in the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .faults import Fault, Target

__all__ = ["page_of"]

_HEAD = """# What the kit does not notice

`make mutants` plants faults in the plugins of this repository, one at a time, and runs the plugin's
contract test with the recordings that an author is asked for. A fault that the kit cannot notice is
here, with the reason; one that it does not notice, and that is not here, fails `make mutants`.

| plugin | faults | cannot be noticed |
|---|---|---|
"""


def page_of(targets: Mapping[str, Target]) -> str:
    """The page, from the tables alone."""
    lines = [_HEAD.rstrip("\n")]
    for target in targets.values():
        real = [fault for fault in target.faults if not fault.equivalent]
        left = [fault for fault in real if fault.survives]
        lines.append(f"| {target.name} | {len(real)} | {len(left)} |")
    for target in targets.values():
        lines += ["", f"## {target.name}", "", *_survivors(target.faults)]
    return "\n".join(lines) + "\n"


def _survivors(faults: Sequence[Fault]) -> list[str]:
    left = [fault for fault in faults if fault.survives]
    if not left:
        return ["None."]
    return [f"- **{fault.kind}**: {fault.name}. {fault.survives}" for fault in left]
