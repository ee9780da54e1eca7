"""The verb that puts a bundle on the Hugging Face hub: publish."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError

_HUB = "hf://"
# Folders of a bundle, as patterns.
_FOLDERS = ("saved_model/*", "transformers/*")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def add_publish_verb(verb) -> None:
    """Add the verb; verb: makes the parser of a name and an action."""
    one = verb("publish", publish)
    one.add_argument("bundle", help="folder of a bundle, such as saved_models/topics")
    one.add_argument("target", metavar="hf://OWNER/NAME", help="repository; a new one is made")
    one.add_argument(
        "--private", action="store_true", help="of a new repository [public, as by hf upload]"
    )
    one.add_argument(
        "--license", metavar="ID", help="for the model card, such as apache-2.0 or cc-by-4.0"
    )
    one.add_argument("--message", default="", help="of the commit [Publish NAME]")
    one.add_argument(
        "--dry-run", action="store_true", help="list what would be published, and send nothing"
    )


def publish(chosen: argparse.Namespace) -> dict[str, Any]:
    """put a bundle with its model card on the Hugging Face hub"""
    from tfx_transformer import bundle
    from tfx_transformer.model_card import update_config

    name = _repository(chosen.target)
    path = Path(chosen.bundle)
    bundle.verify(path)
    config = bundle.read_config(path)
    licence = chosen.license or config.get("license")
    sizes = bundle.sizes(path)
    for file, size in sizes.items():
        print(f"{size / 1e6:>10.2f} MB  {file}")
    count = f"{len(sizes):,} files, {sum(sizes.values()) / 1e6:,.2f} MB"
    if not licence:
        print("No licence is stated: others may not use the model. Name one with --license.")
    result = {"repository": name, "files": sizes, "license": licence, "published": False}
    if chosen.dry_run:
        print(f"{count}; nothing was sent")
        return result
    if chosen.license and chosen.license != config.get("license"):
        update_config(path, license=chosen.license)
    url = _upload(path, name, chosen.private, chosen.message or f"Publish {path.name}")
    print(f"{count}: {url}")
    return result | {"published": True, "url": url}


def _repository(target: str) -> str:
    name = target.removeprefix(_HUB)
    if not target.startswith(_HUB) or not _NAME.fullmatch(name) or "--" in name or ".." in name:
        raise InputError(
            f"{target} names no repository.\n  Expected hf://owner/name, such as hf://me/topics."
        )
    return name


def _upload(path: Path, name: str, private: bool, message: str) -> str:
    """Send the files of a bundle in one commit; return the address of the repository.

    Files of an earlier version of the bundle that this one lacks are removed there.
    """
    import huggingface_hub

    from tfx_transformer import bundle

    with _explaining(name):
        api = huggingface_hub.HfApi()
        url = api.create_repo(name, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=path,
            commit_message=message,
            allow_patterns=list(bundle.sizes(path)),
            delete_patterns=[*bundle.LITERT.values(), bundle.LITERTLM, *_FOLDERS],
        )
    return str(url)


@contextlib.contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Make what the hub's client raises an InputError in words of its own."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except InputError:
        raise
    except (HTTPError, OSError, ValueError) as error:
        raise _explained(name, error) from error


def _explained(name: str, error: Exception) -> InputError:
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    status = getattr(getattr(error, "response", None), "status_code", 0)
    where = f"{_HUB}{name}"
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return InputError(
            f"{where}: the hub does not know who you are (401).\n"
            "  Run `hf auth login` with a token that may write, or set HF_TOKEN to one."
        )
    if status == 403:
        return InputError(
            f"{where}: your token may not write there (403).\n"
            "  Take a token with the role `write`, and an owner whose repositories you may change."
        )
    if status == 404:
        owner = name.partition("/")[0]
        return InputError(
            f"{where}: there is no such owner, or the repository is hidden from you (404).\n"
            f"  Check {owner!r}: it is your user name or an organization that you belong to."
        )
    if status == 429:
        return InputError(
            f"{where}: the hub has been asked too often (429).\n"
            "  Wait some minutes, then repeat the command."
        )
    if status >= 500:
        return InputError(
            f"{where}: the hub has a fault ({status}).\n  Repeat the command later."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return InputError(f"{where}: HF_HUB_OFFLINE forbids to send anything.\n  Unset it.")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if status or not isinstance(error, (HTTPError, OSError)):
        return InputError(f"{where}: the hub does not take the files: {reason}")
    return InputError(
        f"{where}: the network cannot be reached: {reason}\n"
        "  Connect and repeat the command: nothing is published before all files are there."
    )
