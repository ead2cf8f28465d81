"""An LM of any object or module with hooks, installed or not."""

from __future__ import annotations

from typing import Any

from .._base.values import shown
from .._call.spec import Spec
from .._guard.tracebacks import door
from .._plugins.contract import plugin_from
from ..errors import InputError, PluginContractError
from ..lm import LM

__all__ = ["lm_from"]


@door
def lm_from(plugin: object, name: str = "acme", *, model: str | None = None, **keywords: Any) -> LM:
    """An LM of a plugin that need not be installed: for its author's tests, and for a program's.

    ::

        class Acme:
            @hookimpl
            def lmgateway_complete(self, request):
                return {"choices": [{"text": "Paris."}]}

        lm = lm_from(Acme(), model="acme-large")
        lm("What is the capital of France?")     # ["Paris."]

    Everything around the plugin is real. Variables (``ACME_API_KEY``), ``.env`` and the
    configuration file count as for an installed provider of that name. A copy asks the same
    object. Such an LM cannot be pickled: another process would not find the object.

    Args:
        plugin: A module, or an object, with functions that are marked ``@hookimpl``.
        name: The provider's name.
        model: The model; without it, the ``default_model`` of the plugin's Info.
        **keywords: As for get_lm: settings, core options, ``system``, generation parameters.

    Raises:
        PluginError: As when an installed plugin is loaded; see ``lmgateway.errors``.
        InputError: The name can be no provider's, or a keyword is refused.
        ConfigError: The configuration is wrong.
    """
    if not isinstance(name, str) or not name.strip() or "/" in name or not name.isprintable():
        raise InputError(
            f"name must be a provider's name, without a '/', not {shown(name)}"
            "; give the model as model="
        )
    if isinstance(plugin, LM):
        raise PluginContractError(f"{plugin!r} is an LM already: call it, or copy it")
    if isinstance(plugin, str):
        raise PluginContractError(f"{shown(plugin)} is a name: give it to get_lm")
    loaded = plugin_from(plugin, name=name)
    return LM(Spec.of_object(loaded, model, keywords))
