"""One preset for every way in which codes and scales are stored."""

FORMATS = ["W4A16", "W3A16", "W4A16_ASYM", "W8A8", "FP8", "FP8_BLOCK", "NVFP4", "MXFP4", "MXFP6A16", "MXFP8A16"]


def named(texts):
    """The presets that --scheme names; `formats` is all of the list."""
    return [preset for text in texts for preset in (FORMATS if text == "formats" else [text])]
