"""Judgement: one file a policy. Built by name: `streamdyn.build("policy", ...)`."""

if __name__ != "streamdyn.agents":
    raise ImportError(f"import this package as streamdyn.agents, not {__name__}")
