"""The shell around engine and store. Start with `broker`; `app` puts the parts together."""
