"""Checkpoints of the Hugging Face hub: downloaded once, then read from its cache."""

from __future__ import annotations

from pathlib import Path

from tfx_transformer.errors import InputError

HUB = "hf://"

# What a checkpoint is read from; no pickles, no programs, no copies for other frameworks.
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja", "README.md")


def download(source: str) -> Path:
    """The folder of "hf://owner/name", or of a revision of it, "hf://owner/name@main".

    Whatever is in Hugging Face's cache is not fetched again; a token is taken from where
    `hf auth login` or HF_TOKEN put it.

    Raises:
        InputError: no such model, no leave to read it, or no network; the message says how to do
            without.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = source.removeprefix(HUB).partition("@")
    local = "Or download it elsewhere and pass the folder, such as --base ./" + name.split("/")[-1]
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=list(_FILES)
        )
    except HFValidationError as error:
        raise InputError(
            f"{source} names no model.\n  Expected hf://owner/name, such as hf://openai-community/gpt2."
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, HfHubHTTPError):
            raise InputError(
                f"{source} cannot be read: {_first_line(error)}\n"
                "  Check the name; of a model with conditions accept them on its page, then run "
                f"`hf auth login`.\n  {local}"
            ) from error
        raise InputError(
            f"{source} is not in the cache of Hugging Face and the network cannot be reached: "
            f"{_first_line(error)}\n  Connect and try again.\n  {local}"
        ) from error
    return Path(folder)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
