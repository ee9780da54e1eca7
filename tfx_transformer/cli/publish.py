"""The verb that puts a bundle on the Hugging Face hub: publish."""

from __future__ import annotations

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


def publish(
    bundle: Path,
    target: str,
    /,
    *,
    private: bool = False,
    license: str = "",
    message: str = "",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Put a bundle with its model card on the Hugging Face hub.

    Args:
        bundle: Folder of a bundle, such as saved_models/topics.
        target: Repository, such as hf://owner/name; it is made if it does not exist.
        private: Make a new repository private. [public]
        license (ID): Licence for the model card, such as apache-2.0 or cc-by-4.0.
        message: Message of the commit. [Publish NAME]
        dry_run: List what would be published, and send nothing.
    """
    from tfx_transformer.bundle import copy_without, read_config, sizes, verify
    from tfx_transformer.data.splits import SPLIT
    from tfx_transformer.model_card import update_config

    name = _repository(target)
    verify(bundle)
    config = read_config(bundle)
    licence = license or config.get("license")
    files = {file: size for file, size in sizes(bundle).items() if file != SPLIT}
    for file, size in files.items():
        print(f"{size / 1e6:>10.2f} MB  {file}")
    count = f"{len(files):,} files, {sum(files.values()) / 1e6:,.2f} MB"
    if not licence:
        print("No licence is stated: others may not use the model. Name one with --license.")
    result = {"repository": name, "files": files, "license": licence, "published": False}
    if dry_run:
        print(f"{count}; nothing was sent")
        return result
    if license and license != config.get("license"):
        update_config(bundle, license=license)
    message = message or f"Publish {bundle.name}"
    if (bundle / SPLIT).is_file():  # it would tell strangers which rows the model was trained on
        with copy_without(bundle, SPLIT) as copy:
            url = _upload(copy, name, private, message)
    else:
        url = _upload(bundle, name, private, message)
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
    from tfx_transformer.data.splits import SPLIT

    with _explaining(name):
        api = huggingface_hub.HfApi()
        exported = (*bundle.LITERT.values(), bundle.LITERTLM, bundle.MEDIAPIPE)
        url = api.create_repo(name, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=path,
            commit_message=message,
            allow_patterns=list(bundle.sizes(path)),
            delete_patterns=[*exported, SPLIT, *_FOLDERS],
        )
    return str(url)


@contextlib.contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Turn the exceptions of the hub's client into an InputError with a remedy."""
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
            f"{where}: the hub has had too many requests (429).\n"
            "  Wait some minutes, then repeat the command."
        )
    if status >= 500:
        return InputError(f"{where}: the hub has a fault ({status}).\n  Repeat the command later.")
    if isinstance(error, OfflineModeIsEnabled):
        return InputError(f"{where}: HF_HUB_OFFLINE forbids sending anything.\n  Unset it.")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if status or not isinstance(error, (HTTPError, OSError)):
        return InputError(f"{where}: the hub refuses the files: {reason}")
    return InputError(
        f"{where}: the network cannot be reached: {reason}\n"
        "  Connect, and repeat the command: files are published only when all have arrived."
    )
