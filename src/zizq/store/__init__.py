"""Where jobs rest. Start with `base`, the port; `opening` names the adapters."""
