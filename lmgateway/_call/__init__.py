"""From a name and keywords to the flow that answers one call."""
