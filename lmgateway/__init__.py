"""A plugin-based, multi-provider language-model gateway."""
