"""Services that refuse what the real ones refuse, on sockets of this machine."""

from __future__ import annotations

from .chat import Chat
from .claude import Claude
from .script import SCRIPT, TOOLS, Step
from .server import Reply, Server, StrictService

__all__ = ["SCRIPT", "TOOLS", "Chat", "Claude", "Reply", "Server", "Step", "StrictService"]
