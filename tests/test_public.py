from __future__ import annotations

import subprocess
import sys

import lmgateway

HEAVY = ("requests", "pydantic", "jinja2", "rich", "typer", "sqlite3", "aiohttp", "asyncio")


def test_all_is_what_a_user_sees() -> None:
    seen = {name for name in dir(lmgateway) if not name.startswith("_")}
    assert seen == set(lmgateway.__all__)


def test_every_public_name_exists() -> None:
    for name in lmgateway.__all__:
        assert getattr(lmgateway, name) is not None


def test_listing_providers_loads_nothing_heavy_and_no_plugin() -> None:
    code = (
        "import sys, lmgateway; rows = lmgateway.providers();"
        "assert {row.name for row in rows} >= {'anyscale', 'echo', 'openai'}, rows;"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules];"
        "own = ('lmgateway._plugins.echo', 'lmgateway._plugins.openai');"
        "plugins = [n for n in sys.modules if n.startswith(('lmgateway_', *own))];"
        "print(heavy + plugins)"
    )
    # -S would hide site-packages, -I keeps the developer's own start-up files out.
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
