"""The checks of ``ProviderContract``, by subject."""
