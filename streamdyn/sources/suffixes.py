"""What video files are called."""

VIDEO_SUFFIXES = frozenset(
    (
        ".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".ivf", ".m2ts",
        ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
        ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    )
)  # fmt: skip
