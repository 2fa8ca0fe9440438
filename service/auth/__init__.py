"""Authentication and authorization: API keys, their scopes, and how often one caller may call."""
