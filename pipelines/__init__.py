"""Composition: one file a job."""

if __name__ != "streamdyn.pipelines":
    raise ImportError(f"import this package as streamdyn.pipelines, not {__name__}")
