"""Who is told of events: files, HTTP receivers, Redis; each message once, in order."""
