"""Recognises files of other types from their first bytes, for the error message."""

BYTES = 512  # of the file that are read

_SIGNATURES = {
    b"PK\x03\x04": "it is a zip archive, as PyTorch's .bin files are (convert the model to GGUF first)",
    b"\x80\x02": "it is a Python pickle, which this app never opens",
    b"\x80\x03": "it is a Python pickle, which this app never opens",
    b"\x80\x04": "it is a Python pickle, which this app never opens",
    b"\x80\x05": "it is a Python pickle, which this app never opens",
    b"version https://git-lfs": "it is a Git LFS pointer, without the model itself (get it with: git lfs pull)",
    b"\x1f\x8b": "it is a compressed archive (unpack it first)",
    b"7z\xbc\xaf": "it is a compressed archive (unpack it first)",
    b"\x28\xb5\x2f\xfd": "it is a compressed archive (unpack it first)",
    b"\xfd7zXZ": "it is a compressed archive (unpack it first)",
    b"FUGG": "it is a big-endian GGUF, for another kind of processor",
}
_OLDER_FORMATS = {b"ggml", b"ggmf", b"ggjt", b"ggla", b"lmgg", b"fmgg", b"tjgg", b"algg", b"GGML"}
_HTML = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--", b"<error")


def describe_type(first: bytes) -> str:
    """Describe the type of a file that does not begin with GGUF, from its first BYTES bytes."""
    if not first:
        return "it is empty"
    for signature, phrase in _SIGNATURES.items():
        if first.startswith(signature):
            return phrase
    if first[:4] in _OLDER_FORMATS:
        return "it is in a format older than GGUF (download the model again, as GGUF)"
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.lower().startswith(_HTML):
        return "it is a web page, not a model (the download was answered with an error page)"
    if len(first) > 8 and first[8:9] == b"{" and first[6:8] == b"\0\0":  # the length of a JSON text, then the text
        return "it is a safetensors file (convert the model to GGUF first)"
    if text[:1] in (b"{", b"["):
        return "it is a JSON text, not a model (it may be a configuration file or an error message)"
    if not any(first):
        return "it begins with zeros (its download did not finish, or the disk was full)"
    return "it does not begin with GGUF"
